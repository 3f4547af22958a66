"""``python -m sklmm``: see `sklmm._command_line`."""

import sys

from sklmm._command_line import main

if __name__ == "__main__":
    sys.exit(main())
