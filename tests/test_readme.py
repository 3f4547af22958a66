"""The README's Python runs as printed, and its tables are what it prints."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
MAP = README.parent / "ARCHITECTURE.md"


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """What the README's blocks define, run one after the other as a reader would."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))  # some write files
        for block in blocks:
            exec(block, found)
        found["files"] = sorted(path.name for path in Path().iterdir())
    return found


@pytest.mark.many_fits
def test_python_blocks_run(namespace):
    assert namespace["model"].converged_
    assert namespace["files"] == ["report.html"]


def test_tables_are_those_of_the_report(namespace):
    """To within what folds and rounding of other versions of the libraries may change."""

    def rows(text):
        return [line for line in text.splitlines() if line.startswith("|") and not line.startswith("| ---")]

    def numbers(line):
        return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", line)]

    printed = rows(namespace["report"].to_markdown())
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## How well does it predict") : text.index("![Log loss")]
    shown = rows(section)
    assert len(shown) == len(printed) > 15
    for ours, theirs in zip(shown, printed, strict=True):
        assert ours.split("|")[1].strip() == theirs.split("|")[1].strip()
        error = 0.1 if "calibration slope" in ours else 0.02  # a standard error, or less
        assert numbers(ours) == pytest.approx(numbers(theirs), abs=error)


def test_the_files_it_refers_to_are_there():
    paths = re.findall(r"\]\(([\w./]+)\)", README.read_text(encoding="utf-8"))
    text = MAP.read_text(encoding="utf-8")
    table = text[text.index("| file in `sklmm/`") :]
    for cell in re.findall(r"^\| (`[^|]*) \|", table, flags=re.MULTILINE):
        names = re.findall(r"`([^`]+)`", cell)
        folder = names[0].rpartition("/")[0]
        paths += [f"sklmm/{name if '/' in name else f'{folder}/{name}'}" for name in names]
    assert len(paths) > 60
    root = README.parent
    missing = [path for path in paths if not list(root.glob(path.replace("//", "/")))]
    assert not missing


@pytest.mark.parametrize("page", [README.parent / "ARCHITECTURE.md", *sorted((README.parent / "docs").rglob("*.md"))])
def test_documents_refer_to_what_is_there(page):
    text, root = page.read_text(encoding="utf-8"), README.parent
    for name in re.findall(r"`([\w/]+\.(?:py|h))`", text):
        assert list(root.glob(name)) or list((root / "sklmm").rglob(name)) or list(root.glob(f"tests/{name}")), name
    for path, _, anchor in re.findall(r"\]\(([\w./-]*)(#([\w-]+))?\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def test_sources_name_documents_that_are_there():
    package = README.parent / "sklmm"
    texts = [path.read_text(encoding="utf-8") for path in package.rglob("*") if path.suffix in (".py", ".pyx", ".h")]
    named = {name for text in texts for name in re.findall(r"\bdocs/[\w/]+\.md\b|\bARCHITECTURE\.md\b", text)}
    assert len(named) >= 2
    assert not [name for name in named if not (README.parent / name).exists()]


def test_every_module_is_on_the_map():
    text = MAP.read_text(encoding="utf-8")
    table = text[text.index("| file in `sklmm/`") :]
    patterns = [name.rpartition("/")[2] for name in re.findall(r"`([^`]+)`", table)]
    whole = ("displays", "datasets", "_kernels")
    for path in (README.parent / "sklmm").rglob("*.py"):
        if path.name != "__init__.py" and not set(whole) & set(path.parts):
            assert any(Path(path.name).match(pattern) for pattern in patterns if pattern), path.name
