"""Writes what the cases give into numbers.json, to the last bit. For new cases: those that are there are left alone."""

import json
from pathlib import Path

from cases import CASES, run

NUMBERS = Path(__file__).with_name("numbers.json")


def main():
    known = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    for name in CASES:
        if name not in known:
            print(name)
            known[name] = {key: [value.hex() for value in values.tolist()] for key, values in run(name).items()}
    lines = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
    NUMBERS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
