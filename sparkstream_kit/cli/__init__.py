"""Extra: the command `sparkstream`, a thin layer over the other modules."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if it ended as asked, 2 for wrong arguments or input, 130 if interrupted.

    Examples:
        >>> main(["feed", "lines", "--count", "-1"])
        2
    """
    try:
        import typer
    except ImportError:
        return _failed(MissingExtraError("sparkstream", "cli"))
    from sparkstream_kit.cli.app import app

    try:
        command = typer.main.get_command(app)
        # A local path may be written as Spark writes it, which Python takes for a folder named `file:`.
        given = sys.argv[1:] if argv is None else argv
        words = [re.sub(r"^(--[\w-]+=)?file:(//)?(?=/)", r"\1", word) for word in given]
        return int(command(words, prog_name="sparkstream", standalone_mode=False) or 0)
    except KitError as err:
        return _failed(err)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as err:
        if not hasattr(err, "format_message"):  # a usage error: by typer's version, its own class or click's
            raise
        line = " ".join(err.format_message().split()).rstrip(".")
        return _failed(InvalidInputError(f"{line}; see --help"))


def _failed(err: KitError) -> int:
    sys.stderr.write(f"sparkstream: {err}\n")
    return err.exit_code
