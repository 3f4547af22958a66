"""``python -m sklmm``: see `sklmm.command.line`."""

import sys

from sklmm.command.line import main

if __name__ == "__main__":
    sys.exit(main())
