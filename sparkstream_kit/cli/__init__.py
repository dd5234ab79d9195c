"""Extra: the command `sparkstream`, a thin face on the other modules."""

from sparkstream_kit.cli.app import main

__all__ = ["main"]
