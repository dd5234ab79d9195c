"""What `start` does in a dry run: all that it checks, and a text of what would run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkstream_kit import _dry_run
from sparkstream_kit._spark import plan
from sparkstream_kit.checkpoints.guard import guard
from sparkstream_kit.checkpoints.logs import KIT, newest

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks import Sink

_WORDS = {"processingTime": "a batch every {}", "availableNow": "the input that is there, then it ends"}


def planned(
    frame: DataFrame,
    sink: Sink,
    name: str,
    mode: str,
    location: Place | None,
    trigger: dict[str, Any],
    **guarding: Any,
) -> _dry_run.Planned:
    """Check a query as its start does, and say what would run; what the checks have made is removed.

    On Spark Connect only a start tells whether Spark's own rules allow the plan in this output mode.

    Raises:
        InvalidInputError: as `start`.
    """
    folder = None if location is None else location.folder
    with (
        _dry_run.checking(),
        _dry_run.undone(None if folder is None else folder / KIT / "lock"),
        guard(frame, location, name, mode, **guarding) as guarded,
    ):
        if "realTime" in trigger and sink.realtime is not None:
            sink.realtime(frame)
        elif sink.open is not None:
            sink.open(frame, location)
        plan.check_mode(frame, mode)
        if guarded.lock is not None:
            guarded.lock.release()
        says = [
            ("mode", mode),
            *(("sink", said) for said in _sinks(sink)),
            ("checkpoint", _progress(location, guarded.logs)),
            *(("input", _dry_run.meant(said)) for said in dict.fromkeys(map(str, plan.inputs_of(frame)))),
            ("trigger", _when(trigger)),
        ]
        return _dry_run.Planned(name, tuple(says))


def _sinks(sink: Sink) -> list[str]:
    """Say of each sink where it writes, and what it promises."""
    if sink.parts:
        return [said for part in sink.parts for said in _sinks(part)]
    to = f" to {', '.join(sink.writes_to)}" if sink.writes_to else ""
    return [f"{sink.kind}{to}: {sink.promise}"]


def _when(trigger: dict[str, Any]) -> str:
    for word, value in trigger.items():
        return _WORDS.get(word, f"{word} {{}}").format(value)
    return "a batch as soon as the last one has ended"


def _progress(location: Place | None, logs: Path | None) -> str:
    """Say where a query would keep its progress, and from where it would go on."""
    if location is None or logs is None:
        return "a temporary one, removed at the end"
    done = newest(logs / "commits")
    return f"{location} ({'new' if done < 0 else f'it goes on after batch {done}'})"
