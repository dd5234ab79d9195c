"""The command `sparkstream feed kinesis`, and the true totals of sales, which two commands write."""

from __future__ import annotations

import csv
import io
import threading
from collections import deque
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

from sparkstream_kit import feeds
from sparkstream_kit.cli.common import flag as _flag
from sparkstream_kit.cli.common import say as _say
from sparkstream_kit.cli.common import stopped_by_signal as _stopped_by_signal
from sparkstream_kit.errors import InvalidInputError, KitError

try:
    import typer
except ImportError:  # main() says what to install
    typer = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["check_truth", "feed_kinesis", "write_totals"]


def feed_kinesis(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream to write to.")],
    *,
    rows: Annotated[int | None, _flag("N", "Number of records. Default: no end.", min=1)] = None,
    rate: Annotated[
        float | None, _flag("N", "Records a second. Default: as many as the stream takes.", min=0.1)
    ] = None,
    seed: Annotated[int, _flag("N", "The same seed gives the same records.")] = 0,
    create: Annotated[
        int | None, _flag("SHARDS", "If the stream is not there, make it with this number of shards.", min=1)
    ] = None,
    truth: Annotated[Path | None, _flag("FILE", "Write the true totals here at the end, as CSV.")] = None,
    region: Annotated[str | None, _flag("NAME", "The stream's region. Default: AWS_DEFAULT_REGION.")] = None,
    endpoint: Annotated[
        str | None, _flag("URL", "Address of another service, such as http://localhost:4567.")
    ] = None,
) -> None:
    """Write sales to a Kinesis stream, a CSV line in each record; Ctrl-C ends it.

    A sale's product is its partition key. boto3 finds the credentials, as in AWS's own commands.
    """
    from sparkstream_kit.connectors.kinesis import feeder

    check_truth(truth)
    if create and feeder.create(stream, create, region=region, endpoint=endpoint):
        _say(f"made stream {stream}")
    stop = threading.Event()
    records = ((row[9], _line(row)) for row in feeds.sales_rows(rows, seed=seed))
    taken = feeder.put(stream, records, region=region, endpoint=endpoint, rate=rate, stop=stop)
    written = 0
    failure: KitError | None = None

    def taken_rows() -> Iterator[tuple[str, ...]]:
        nonlocal written, failure
        try:
            for line in taken:
                written += 1
                yield tuple(next(csv.reader([line])))
        except KitError as err:  # for the end: what was written counts
            failure = err

    with _stopped_by_signal(stop.set):
        if truth:
            write_totals(truth, taken_rows())
        else:
            deque(taken_rows(), maxlen=0)
    refused = failure is None or isinstance(failure, InvalidInputError)
    more = "" if refused else ", and perhaps some of the last request, which was not answered"
    _say(f"wrote {written:,} records to stream {stream}{more}")
    if failure is not None:
        raise failure


def check_truth(truth: Path | None) -> None:
    """Refuse a file for the totals that cannot be written: now, and not after the last row.

    Raises:
        InvalidInputError: it cannot be written.
    """
    try:
        if truth:
            truth.open("a").close()
    except OSError as err:
        raise InvalidInputError(f"cannot write --truth {truth} ({err.strerror}); give another file") from err


def write_totals(truth: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write the true totals of sales as CSV."""
    totals = feeds.sales_totals(rows)
    with truth.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([("ProductKey", "Orders", "TotalSales"), *totals])


def _line(row: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()
