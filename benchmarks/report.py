"""The figures as Markdown tables and as a chart."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import textwrap
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from running import ENGINES

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUIET = 0.05  # of the machine: a server of the benchmark's own, or somebody else
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return an interval that holds the true median with at least 95 %, or None for too few values.

    It is the one between order statistics, which assumes nothing of the distribution:
    the number of values below the median is binomial (Conover, Practical Nonparametric
    Statistics, 3.2).
    """
    count = len(values)
    cut = -1
    while sum(math.comb(count, below) for below in range(cut + 2)) / 2**count <= 0.025:  # noqa: PLR2004
        cut += 1
    ordered = sorted(values)
    return None if cut < 0 else (ordered[cut], ordered[-1 - cut])


def markdown(table: dict[str, Any]) -> str:
    """Return a table with medians, spread and the ratio to its first program, pair by pair."""
    rated = any(row["rates"] for row in table["rows"])
    head = [
        "",
        f"median, {table['unit']}",
        "min–max",
        "runs",
        "ratio to the first",
        "CPU, s",
    ]
    head += ["million rows/s/core"] if rated else []
    more = list(
        dict.fromkeys(name for row in table["rows"] for name in row.get("more", ()))
    )
    head += more
    head += ["goal", "met"] if table.get("limits") else []
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    first = table["rows"][0]["figures"]
    for row in table["rows"]:
        figures = row["figures"]
        if not figures:
            lines.append(
                f"| {row['name']} | {row['note'].replace('|', '/')}"
                f" {'|' * (len(head) - 1)}"
            )
            continue
        cells = [
            row["name"],
            _number(median(figures)),
            f"{_number(min(figures))}–{_number(max(figures))}",
        ]
        cells += [
            str(len(figures)),
            _ratio(figures, first),
            f"{median(row['cpu']):.1f}",
        ]
        if rated:
            cells.append(f"{median(row['rates']) / 1e6:.2f}" if row["rates"] else "")
        cells += [_number(median(row["more"][name])) for name in more]
        cells += _goals(row, table) if table.get("limits") else []
        lines.append(f"| {' | '.join(cells)} |")
    disturbed = (
        f"\nOther processes took up to {table['others']:.0%} of the machine"
        " meanwhile.\n"
    )
    noise = disturbed if table["others"] > _QUIET else ""
    return f"**{table['title']}**\n\n" + "\n".join(lines) + f"\n{noise}"


def _goals(row: dict[str, Any], table: dict[str, Any]) -> list[str]:
    """Return what was asked of a row, and whether its medians meet it."""
    figures = {each["name"]: each["figures"] for each in table["rows"]}
    asked, met = [], []
    for limit in table["limits"]:
        if limit["row"] != row["name"] or not figures.get(
            limit["beside"], row["figures"]
        ):
            continue
        at_least = table["higher"] or limit["rate"]
        unit, beside = f" {table['unit']}", ""
        if limit["rate"]:
            found, unit = median(row["rates"]) / 1e6, " million rows/s/core"
        elif limit["beside"]:
            pairs = list(zip(row["figures"], figures[limit["beside"]], strict=False))
            apart = limit["seconds"]
            found = median(
                one - other if apart else one / other for one, other in pairs
            )
            unit, beside = (
                (unit, f" more than {limit['beside']}")
                if apart
                else ("", f" times {limit['beside']}")
            )
        else:
            found = median(row["figures"])
        asked.append(
            f"{'at least' if at_least else 'at most'}"
            f" {_number(limit['bound'])}{unit}{beside}"
        )
        kept = found >= limit["bound"] if at_least else found <= limit["bound"]
        met.append("yes" if kept else f"**no**, {_number(found)}")
    return ["; ".join(asked), "; ".join(met)]


def _ratio(figures: Sequence[float], first: Sequence[float]) -> str:
    if not first or figures is first:
        return "1"
    ratios = [one / other for one, other in zip(figures, first, strict=False)]
    text = f"{median(ratios):.2f}"
    held = interval(ratios)
    return f"{text} (95 %: {held[0]:.2f}–{held[1]:.2f})" if held else text


def _number(value: float) -> str:
    """Write three digits, and no fewer than the whole part has."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def machine() -> str:
    """Return a paragraph: the machine and the versions."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    java = subprocess.run(
        ["java", "-version"], capture_output=True, text=True, check=False
    ).stderr
    pins = ", ".join(
        " ".join(pin.split("==")) for pins in ENGINES.values() for pin in pins
    )
    return (
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()},"
        f" {int(memory[1]) >> 20 if memory else '?'} GiB; {platform.system()}"
        f" {platform.release()}; Python {platform.python_version()}, PySpark"
        f" {version('pyspark')}, {java.splitlines()[0] if java else 'no Java'}; {pins}."
    )


def write_page(page: Path, results: Sequence[dict[str, Any]], chart: Path) -> None:
    """Put the figures between the page's markers, and the chart beside it."""
    parts = [f"![Medians of the benchmarks]({chart.name})"]
    for result in results:
        parts.append(
            f"### {result['name']}\n\n`{result['command']}`, {result['date']}:"
            f" {result['about']}"
        )
        parts.append(result["machine"])
        parts += [markdown(table).rstrip() for table in result["tables"]]
    text = page.read_text("utf-8")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(
        f"{before}{_BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{_END}{after}", "utf-8"
    )
    draw([table for result in results for table in result["tables"]], chart)


def draw(tables: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel a table: the medians as bars from zero, with the spread."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    # The same figures give the same file
    mpl.rcParams["svg.hashsalt"] = "sparkstream-kit"
    mpl.rcParams["svg.fonttype"] = "none"
    drawn = [table for table in tables if any(row["figures"] for row in table["rows"])]
    # Of two bars a table says all.
    shown = [table for table in drawn if len(table["rows"]) > 2] or drawn  # noqa: PLR2004
    columns = 2
    lines = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(13, 2.6 * lines), squeeze=False, layout="constrained"
    )
    for axis, table in zip(axes.flat, shown, strict=False):
        rows = [row for row in table["rows"] if row["figures"]][::-1]
        middles = [median(row["figures"]) for row in rows]
        spread = [
            [
                middle - min(row["figures"])
                for middle, row in zip(middles, rows, strict=True)
            ],
            [
                max(row["figures"]) - middle
                for middle, row in zip(middles, rows, strict=True)
            ],
        ]
        colors = [
            "tab:orange" if re.search(r"(^|, )kit\b", row["name"]) else "tab:gray"
            for row in rows
        ]
        names = [textwrap.fill(row["name"], 30) for row in rows]
        bars = axis.barh(
            names, middles, xerr=spread, color=colors, height=0.7, ecolor="black"
        )
        axis.bar_label(bars, [f" {_number(middle)}" for middle in middles], padding=4)
        unit = f"{table['unit']}, more is better" if table["higher"] else table["unit"]
        axis.set_title(
            textwrap.fill(f"{table['title']} ({unit})", 50), loc="left", fontsize=10
        )
        axis.locator_params(axis="x", nbins=3)
        axis.margins(x=0.15)
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_visible(False)
    figure.savefig(
        path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=100
    )
    plt.close(figure)
