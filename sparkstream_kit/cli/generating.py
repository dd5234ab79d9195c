"""The commands `sparkstream feed …` that land generated rows, and the true answer beside them."""

from __future__ import annotations

import inspect
import json
import threading
from datetime import timedelta
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparkstream_kit import _files, feeds
from sparkstream_kit.cli.common import say, stopped_by_signal
from sparkstream_kit.cli.flags import flag
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["COMMANDS", "land"]

_TRUTH = "_truth.json"  # Spark skips a name that begins with _
_SHARES = ("late", "duplicates", "bad", "ahead")
_NO_DUPLICATES = ("late", "bad", "ahead")


def land(
    files: Iterable[tuple[str, str]], folder: Path, every: float, stop: threading.Event | None = None
) -> list[Path]:
    """Land files in a folder until a signal comes, and say which."""
    stop = stop or threading.Event()
    with stopped_by_signal(stop.set):
        return feeds.drip(files, folder, every=every, stop=stop, on_file=lambda path: say(f"landed {path}"))


def _share(text: str) -> Any:
    return flag("SHARE", text, min=0, max=1)


def _generator(
    file: str,
    generate: Callable[..., Iterable[dict[str, Any]]],
    truth: Callable[[list[dict[str, Any]]], object],
    doc: str,
    *,
    time: str = "time",
    line: Callable[[Any], str] = feeds.json_line,
    shares: Sequence[str] = _SHARES,
    usual_delay: str = "10 minutes",
    keeps_late: bool = False,
) -> Callable[..., None]:
    """Return the command that lands files of a generator's rows, and writes the truth beside them at the end.

    Args:
        file: names the files, such as `cards.csv` for `cards-0-1.csv`, with the seed and their number.
        generate: the generator, called as `generate(count, seed=seed)`.
        truth: what a job should find, from the rows that count; what `json` cannot write becomes text.
        doc: the command's help, whose first sentence says what it lands.
        time: the field of the time, for `feeds.disturb`.
        line: writes a row as a line: `feeds.json_line`, `feeds.csv_line` or one of the generator's own.
        shares: which ways to disturb make sense for the data; the command has no flags for the others.
        usual_delay: the watermark's delay that the job has by default.
        keeps_late: the job counts late rows, too, so that the truth does.
    """

    def command(
        folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the files.")],
        *,
        files: Annotated[int, flag("N", "Number of files.", min=1)] = 20,
        rows: Annotated[int, flag("N", "Lines in each file.", min=1)] = 100,
        every: Annotated[float, flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
        seed: Annotated[int, flag("N", "The same seed gives the same files.")] = 0,
        late: Annotated[float, _share("Share of rows that come too late, such as 0.05.")] = 0.0,
        duplicates: Annotated[float, _share("Share of rows that come twice.")] = 0.0,
        bad: Annotated[float, _share("Share of rows that are followed by a broken line.")] = 0.0,
        ahead: Annotated[float, _share("Share of rows that are followed by one of the year 2099.")] = 0.0,
        delay: Annotated[
            str, flag("DURATION", "The watermark's delay: a late row comes later than this.")
        ] = usual_delay,
    ) -> None:
        _check_empty(folder)
        how = {"late": late, "duplicates": duplicates, "bad": bad, "ahead": ahead, "delay": delay}
        generated = generate(files * rows, seed=seed)
        made = feeds.disturb(generated, time=time, rows_per_file=rows, seed=seed, **how)  # type: ignore[arg-type]
        arriving = made.first(files * rows).arriving
        name = file.replace(".", f"-{seed}-{{}}.")
        landed = land(feeds.line_files(map(line, arriving), rows=rows, name=name), folder, every)
        found = made.first(len(landed) * rows)
        counted = found.counted + (found.late if keeps_late else [])
        answer = {"truth": truth(counted), "counted": len(counted)}
        answer |= {share: getattr(found, share) for share in shares}
        text = json.dumps(answer, ensure_ascii=False, default=str, indent=1)
        _files.replace(folder / _TRUTH, [text, "\n"])

    left_out = {*_SHARES} - {*shares}
    if "late" not in shares:
        left_out.add("delay")
    flags = inspect.signature(command, eval_str=True)
    kept = [each for each in flags.parameters.values() if each.name not in left_out]
    command.__signature__ = flags.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__doc__ = doc
    return command


def _check_empty(folder: Path) -> None:
    """Refuse a folder with files in it, of which the truth would say nothing."""
    try:
        found = next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as err:
        raise InvalidInputError(f"cannot use {folder} ({err.strerror}); give a folder to write in") from err
    if found:
        raise InvalidInputError(
            f"{folder} holds {found.name} already, which {_TRUTH} would not count; give a new folder"
        )


# By the command's name.
COMMANDS = {
    "events": _generator(
        "events.csv",
        feeds.events_rows,
        feeds.events_truth,
        "Land CSV files of a shop's events.",
        line=feeds.csv_line,
        keeps_late=True,
    ),
    "posts": _generator(
        "posts.json",
        feeds.posts_rows,
        feeds.posts_truth,
        """Land generated posts, or with a URL the posts of that stream.

        Generated ones are JSON lines in the shapes of two networks. With a URL there are other flags:
        sparkstream feed posts URL --help.
        """,
        time="created_at",
        line=feeds.posts_line,
    ),
    "ads": _generator(
        "ads.json",
        feeds.ads_rows,
        lambda rows: feeds.ads_truth(rows, within=timedelta(minutes=10)),
        """Land JSON lines of views of ads and clicks. For jobs/ad_join.py.

        Three views in ten are clicked, and four in five of these clicks come within 10 minutes, which the
        truth counts: a list of ad, time of the view, and time of the click or null.
        """,
        time="event_time",
        shares=_NO_DUPLICATES,
    ),
    "cards": _generator(
        "cards.csv",
        feeds.cards_rows,
        feeds.cards_truth,
        """Land CSV lines of card payments. For jobs/card_alerts.py.

        The truth is each fraud among them: card, time, what. The job finds the last ones with --drain.
        """,
        line=feeds.csv_line,
        shares=_NO_DUPLICATES,
    ),
    "messages": _generator(
        "messages.json",
        feeds.messages_rows,
        feeds.messages_truth,
        """Land JSON lines of texts labelled ham or spam. For jobs/score_posts.py.

        The truth is the likelier label of each text by the odds that made it, which no model can better.
        """,
        shares=("bad",),
    ),
    "sensors": _generator(
        "sensors.json",
        feeds.sensors_rows,
        lambda rows: feeds.sensors_truth(rows, delay=timedelta(minutes=2)),
        """Land JSON lines of temperatures. For jobs/sensor_alerts.py.

        The truth is each spike and each silence: device, time, what. It ends two minutes before the last
        reading, where the job's watermark stands.
        """,
        shares=_NO_DUPLICATES,
        usual_delay="2 minutes",
    ),
    "actions": _generator(
        "actions.json",
        feeds.actions_rows,
        feeds.actions_truth,
        "Land JSON lines of actions with their times. The truth is their count by hour and action.",
        shares=_NO_DUPLICATES,
    ),
    "logs": _generator(
        "access.log",
        feeds.log_rows,
        lambda rows: {"errors": feeds.log_errors(rows), "sessions": feeds.log_sessions(rows)},
        "Land lines of a web server's log. The truth: errors by path and minute, and sessions.",
        line=feeds.log_line,
        shares=("bad", "ahead"),
    ),
}
