"""Extra: the command `sparkstream`, a thin layer over the other modules."""

from __future__ import annotations

import errno
import re
import sys
from typing import TYPE_CHECKING

from sparkstream_kit._internal.file_system import NOT_USABLE, open_missing_streams
from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `sparkstream`, and return its exit code.

    The code is 0 if the command did what was asked, 1 if it found a problem or failed,
    2 for wrong arguments or input, 75 for what may pass, such as a checkpoint in use,
    and 130 if it was interrupted. An error of the kit is printed to standard error as
    one line.

    Args:
        argv: the arguments after the name of the command; by default those of the
            process.

    Examples:
        >>> main(["feed", "lines", "--count", "-1"])
        2
    """
    open_missing_streams()
    try:
        import typer
    except ImportError:
        return _failed(MissingExtraError("sparkstream", "cli"))
    from sparkstream_kit.cli.app import app

    try:
        command = typer.main.get_command(app)
        # Accept local paths as Spark writes them (file:/x), which Python would take for
        # a folder named `file:`.
        words = sys.argv[1:] if argv is None else argv
        words = [re.sub(r"^(--[\w-]+=)?file:(//)?(?=/)", r"\1", word) for word in words]
        return int(command(words, prog_name="sparkstream", standalone_mode=False) or 0)
    except KitError as err:
        return _failed(err)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except OSError as err:
        line = _not_usable(err)
        if line is None:
            raise
        return _failed(InvalidInputError(line))
    except Exception as err:
        # A usage error has this method; its class is typer's or click's, depending on
        # typer's version.
        if not hasattr(err, "format_message"):
            raise
        line = " ".join(err.format_message().split()).rstrip(".")
        if not line.endswith("?"):
            line = f"{line}; see --help"
        return _failed(InvalidInputError(line))


def _not_usable(err: OSError) -> str | None:
    """Return the line for a file that cannot be used or has no room; None for another error."""
    if err.errno not in NOT_USABLE:
        return None
    if err.filename:
        fix = "run it as the user of that folder, or make room"
        return f"{err.filename}: {err.strerror}; {fix}"
    if err.errno == errno.ENOSPC:
        return f"standard output, or a file of the command: {err.strerror}; make room"
    return None


def _failed(err: KitError) -> int:
    """Print an error of the kit as one line, and return its exit code."""
    sys.stderr.write(f"sparkstream: {err}\n")
    return err.exit_code
