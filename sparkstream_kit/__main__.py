"""Extra: `python -m sparkstream_kit`, the command `sparkstream`."""

import sys

from sparkstream_kit.cli import main

sys.exit(main())
