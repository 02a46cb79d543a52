"""python -m hybridvit"""

import sys

from hybridvit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
