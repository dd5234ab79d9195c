"""Input with known truth, made by seed, kept in BENCH_DIR or ~/.cache/sparkstream-kit/bench."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import random
import shutil
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import feeds
from sparkstream_kit.feeds.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HOME = Path(
    os.environ.get("BENCH_DIR") or Path.home() / ".cache" / "sparkstream-kit" / "bench"
).resolve()

FILES = 100  # a folder has so many …
_DISTINCT = 10  # … of which so many differ: generating is slower than reading
# Of the events, in milliseconds since 1970: a full 10 seconds
_START = 1_706_745_600_000
_PER_SECOND = 10_000
_WINDOW = 10_000  # milliseconds

_SALES = (
    ("OrderID", int), ("OrderDate", str), ("Quantity", int), ("DiscountPct", float),
    ("Rate", float), ("SaleAmount", float), ("CustomerName", str), ("State", str),
    ("Region", str), ("ProductKey", str), ("RowCount", int), ("ProfitMargin", float),
)  # fmt: skip


def sales(rows: int) -> tuple[Path, list[list[Any]]]:
    """Return a folder of sales in CSV, JSON and Parquet, and the true total of each product.

    They are in csv/, json/ and parquet/, and the truth is [product, total] by product.
    The totals are texts with two decimals.
    """
    folder = _made(f"sales-{rows}", lambda folder: _make_sales(folder, rows))
    return folder, json.loads((folder / "truth.json").read_text())


def small_sales(files: int, rows: int) -> tuple[Path, list[list[Any]]]:
    """Return a folder of small CSV files and the truth, as `sales` does."""

    def make(folder: Path) -> None:
        (folder / "csv").mkdir()
        for name, text in feeds.sales_files(files, rows=rows, seed=1):
            (folder / "csv" / name).write_text(text, "utf-8")
        totals = feeds.sales_totals(feeds.sales_rows(files * rows, seed=1))
        _write_truth(
            folder, [[product, f"{total:.2f}"] for product, _, total in totals]
        )

    folder = _made(f"sales-{files}x{rows}", make)
    return folder / "csv", json.loads((folder / "truth.json").read_text())


def events(count: int) -> tuple[Path, list[list[Any]]]:
    """Return a folder with events of the Yahoo streaming benchmark, and the truth.

    The folder holds json/, parquet/ and ads.json (1,000 ads of 100 campaigns). The
    truth is [campaign, start of the window in milliseconds, number of views].
    """
    folder = _made(f"events-{count}", lambda folder: _make_events(folder, count))
    return folder, json.loads((folder / "truth.json").read_text())


def lines(name: str, rows: int, files: int) -> Path:
    """Return a folder of files with the first rows of a kit dataset, such as "cards"."""

    def make(folder: Path) -> None:
        known = DATASETS[name]
        made = map(known.line, known.rows(rows, seed=1))
        feeds.drip(feeds.line_files(made, rows=rows // files, name="{}.txt"), folder)

    return _made(f"{name}-{rows}-lines", make)


def orders(rows: int) -> tuple[Path, list[list[int]]]:
    """Return a folder of orders as lines of JSON, and the truth: their number, and the sum of ids.

    Those in flat/ have seven fields, those in nested/ a struct and an array of structs.
    """
    folder = _made(f"orders-{rows}", lambda folder: _make_orders(folder, rows))
    return folder, json.loads((folder / "truth.json").read_text())


def _make_orders(folder: Path, rows: int) -> None:
    pick = random.Random(1)  # noqa: S311 - data of a benchmark
    start = datetime(2026, 1, 1, tzinfo=UTC)
    files: dict[str, list[str]] = {"flat": [], "nested": []}
    for number in range(rows // FILES * _DISTINCT):
        time = (start + timedelta(seconds=number)).isoformat()
        user = f"user-{pick.randrange(10_000)}"
        flat = {
            "id": number,
            "user": user,
            "product": f"product-{pick.randrange(100)}",
            "amount": pick.randrange(10_000) / 100,
            "ok": pick.choice([True, False]),
            "time": time,
            "note": f"left at the door of number {pick.randrange(1_000_000)}",
        }
        items = [
            {
                "product": f"product-{pick.randrange(100)}",
                "price": pick.randrange(10_000) / 100,
                "count": pick.randrange(1, 9),
            }
            for _ in range(pick.randrange(1, 4))
        ]
        age = pick.randrange(18, 90)
        nested = {
            "id": number,
            "time": time,
            "user": {"name": user, "age": age},
            "items": items,
        }
        files["flat"].append(json.dumps(flat) + "\n")
        files["nested"].append(json.dumps(nested) + "\n")
    size = rows // FILES
    for kind, made in files.items():
        (folder / kind).mkdir()
        for number in range(FILES):
            first = number % _DISTINCT * size
            text = "".join(made[first : first + size])
            (folder / kind / f"{number:03}.json").write_text(text)
    ids = range(size * _DISTINCT)
    times = FILES // _DISTINCT
    _write_truth(folder, [[len(ids) * times, sum(ids) * times]])


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder, made once, whole or not at all."""
    folder, unfinished = HOME / "data" / name, HOME / "data" / f".{name}"
    if not folder.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
    return folder


def _write_truth(folder: Path, rows: Iterable[list[Any]]) -> None:
    (folder / "truth.json").write_text(json.dumps(sorted(rows)))


def _make_sales(folder: Path, rows: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for kind in ("csv", "json", "parquet"):
        (folder / kind).mkdir()
    source = iter(feeds.sales_rows(rows * _DISTINCT // FILES, seed=1))
    totals: Counter[str] = Counter()
    for number in range(_DISTINCT):
        part = list(itertools.islice(source, rows // FILES))
        for row in part:
            totals[row[9]] += int(Decimal(row[5]) * 100)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(part)
        columns = [pa.array(map(_arrow_value(name, kind), column)) for (name, kind), column in
                   zip(_SALES, zip(*part, strict=True), strict=True)]  # fmt: skip
        table = pa.table(columns, names=[name for name, _ in _SALES])
        money = pa.decimal128(12, 2)
        table = table.set_column(
            5, "SaleAmount", table.column("SaleAmount").cast(money)
        )
        objects = "".join(map(_sale_as_json, part))
        for copy in range(number, FILES, _DISTINCT):
            (folder / "csv" / f"{copy:03}.csv").write_text(text.getvalue(), "utf-8")
            (folder / "json" / f"{copy:03}.json").write_text(objects, "utf-8")
            parquet.write_table(table, folder / "parquet" / f"{copy:03}.parquet")
    copies = FILES // _DISTINCT
    _write_truth(
        folder,
        [
            [product, f"{Decimal(cents * copies) / 100:.2f}"]
            for product, cents in totals.items()
        ],
    )


def _arrow_value(name: str, kind: type) -> Callable[[str], Any]:
    if name == "OrderDate":
        return lambda text: datetime.strptime(text, "%m/%d/%y").date()  # noqa: DTZ007 - a date
    return Decimal if name == "SaleAmount" else kind


def _sale_as_json(row: tuple[str, ...]) -> str:
    values = {
        name: text if kind is str else json.loads(text)
        for (name, kind), text in zip(_SALES, row, strict=True)
    }
    return json.dumps(values) + "\n"


def _make_events(folder: Path, count: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    pick = random.Random(1)  # noqa: S311 - sample data, not secrets
    (folder / "json").mkdir()
    (folder / "parquet").mkdir()
    campaigns, ads, users, pages = (
        _ids(pick, number) for number in (100, 1000, 100_000, 100)
    )
    campaign_of = {
        ad: campaigns[index % len(campaigns)] for index, ad in enumerate(ads)
    }
    with (folder / "ads.json").open("w") as out:
        out.writelines(
            json.dumps({"ad_id": ad, "campaign_id": of}) + "\n"
            for ad, of in campaign_of.items()
        )
    each = count // FILES
    made = [_some_events(pick, each, users, pages, ads) for _ in range(_DISTINCT)]
    truth: Counter[tuple[str, int]] = Counter()
    for number in range(FILES):
        columns = made[number % _DISTINCT]
        times = [
            _START + index * 1000 // _PER_SECOND
            for index in range(number * each, (number + 1) * each)
        ]
        with (folder / "json" / f"{number:03}.json").open("w") as out:
            out.writelines(
                f'{{"user_id": "{user}", "page_id": "{page}", "ad_id": "{ad}",'
                f' "ad_type": "{kind}", "event_type": "{event}", "event_time": {time},'
                f' "ip_address": "{address}"}}\n'
                for user, page, ad, kind, event, address, time in zip(
                    *columns.values(), times, strict=True
                )
            )
        parquet.write_table(
            pa.table({**columns, "event_time": times}),
            folder / "parquet" / f"{number:03}.parquet",
        )
        truth.update(
            (campaign_of[ad], time - time % _WINDOW)
            for ad, event, time in zip(
                columns["ad_id"], columns["event_type"], times, strict=True
            )
            if event == "view"
        )
    _write_truth(
        folder, [[campaign, start, views] for (campaign, start), views in truth.items()]
    )


def _ids(pick: random.Random, number: int) -> list[str]:
    return [str(uuid.UUID(int=pick.getrandbits(128))) for _ in range(number)]


def _some_events(
    pick: random.Random, count: int, users: list[str], pages: list[str], ads: list[str]
) -> dict[str, list[str]]:
    def some(values: Iterator[str] | list[str]) -> list[str]:
        return pick.choices(list(values), k=count)

    return {
        "user_id": some(users),
        "page_id": some(pages),
        "ad_id": some(ads),
        "ad_type": some(["banner", "modal", "sponsored-search", "mail", "mobile"]),
        "event_type": some(["view", "click", "purchase"]),
        "ip_address": some(
            f"10.0.{high}.{low}" for high in range(16) for low in range(256)
        ),
    }
