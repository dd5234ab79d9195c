"""`python -m sparkstream_kit.cli`: the command `sparkstream`."""

import sys

from sparkstream_kit.cli import main

sys.exit(main())
