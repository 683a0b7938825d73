"""`python -m sdlab` is `sdlab`"""

import sys

from sdlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
