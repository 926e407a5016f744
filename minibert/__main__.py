"""`python -m minibert` (and `torchrun -m minibert`)."""

import sys

from minibert.workbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
