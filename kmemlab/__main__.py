"""`python -m kmemlab` is the command line, too."""

import sys

from kmemlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
