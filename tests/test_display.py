"""Results for people: tables and bars as text, a picture on a terminal alone, a chart as a file."""

import importlib.util
import json
import re
import struct
from datetime import datetime
from decimal import Decimal

import pytest
from conftest import refusal

from sparkstream_kit.display import bars, chart, check_chart, render, table
from sparkstream_kit.errors import InvalidInputError, MissingExtraError

# --- tables and bars


def test_a_table_aligns_and_shows_null():
    text = table(["key", "n"], [["a", "1"], [None, "20"], ["long one", None]], right={1})
    assert text.splitlines() == [
        "key          n",
        "--------  ----",
        "a            1",
        "NULL        20",
        "long one  NULL",
    ]
    assert table(["key"], []) == "key\n---\n"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_longest_bar_fills_the_width_and_the_others_are_in_proportion(width):
    lines = bars([("a", 800.0), ("bb", 400.0), ("c", 0)], width=width).splitlines()
    assert [len(line) for line in lines] == [width] * 3
    assert lines[0].count("█") == 2 * lines[1].count("█") + lines[1].count("▌")
    assert "█" not in lines[2]
    assert [line.split()[-1] for line in lines] == ["800.00", "400.00", "0.00"]


def test_bars_of_nothing_and_of_zeros():
    assert bars([]) == ""
    assert bars([("a", 0), ("b", -5)], width=20).split() == ["a", "0.00", "b", "-5.00"]


# --- a frame as text


@pytest.fixture
def frame(spark):
    rows = [
        ("a,b", Decimal("12345678901234567890.10"), datetime(2024, 1, 31, 10, 30)),  # noqa: DTZ001
        (None, Decimal("-0.05"), None),
    ]
    return spark.createDataFrame(rows, "`a key` string, amount decimal(38,2), at timestamp")


def test_csv_is_exact(frame):
    assert render(frame, "csv") == (
        'a key,amount,at\n"a,b",12345678901234567890.10,2024-01-31 10:30:00\n,-0.05,\n'
    )


def test_json_is_exact(frame):
    found = json.loads(render(frame, "json"), parse_float=Decimal)
    assert found == [
        {"a key": "a,b", "amount": Decimal("12345678901234567890.10"), "at": "2024-01-31T10:30:00.000000Z"},
        {"a key": None, "amount": Decimal("-0.05"), "at": None},
    ]
    assert json.loads(render(frame.where("false"), "json")) == []


def test_a_table_of_a_frame_has_its_numbers_on_the_right(frame):
    assert render(frame, "table").splitlines() == [
        "a key                   amount  at",
        "-----  -----------------------  -------------------",
        "a,b    12345678901234567890.10  2024-01-31 10:30:00",
        "NULL                     -0.05  NULL",
    ]


def test_an_unknown_form_is_refused(frame):
    assert re.search(r"^unknown form jsn; did you mean json\?$", refusal(render, frame, "jsn"))


# --- a chart


def size(path):
    """Return the width and the height of a PNG file, from its header."""
    data = path.read_bytes()
    assert data[:16] == b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_a_chart_is_a_png_that_grows_with_its_rows(tmp_path):
    figure = chart([(f"P{n}", n * 1000) for n in range(1, 5)], "Sales", tmp_path / "four.png")
    chart([(f"P{n}", n) for n in range(20)], "Sales", str(tmp_path / "twenty.png"))
    chart([], "Nothing yet", tmp_path / "none.png")
    four, twenty, none = (size(tmp_path / name) for name in ("four.png", "twenty.png", "none.png"))
    assert four[0] == twenty[0] == none[0]
    assert none[1] < four[1] < twenty[1]
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "Sales"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["P1", "P2", "P3", "P4"]
    assert axes.yaxis_inverted()  # the first is on top
    assert [text.get_text() for text in axes.texts] == ["1,000", "2,000", "3,000", "4,000"]


def test_a_chart_without_a_path_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert chart([("a", 1)], "Sales") is not None
    assert list(tmp_path.iterdir()) == []


def test_a_chart_that_cannot_be_drawn_is_refused_before_the_work(tmp_path, monkeypatch):
    assert "chart x.svg: the name must end in .png" in refusal(check_chart, "x.svg")
    with pytest.raises(InvalidInputError, match=r"chart .*: folder .*/none does not exist; create it"):
        check_chart(tmp_path / "none" / "x.png")
    assert check_chart(str(tmp_path / "x.png")) == tmp_path / "x.png"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for call in (lambda: check_chart(tmp_path / "x.png"), lambda: chart([("a", 1)], "Sales")):
        with pytest.raises(MissingExtraError, match=r"pip install 'sparkstream-kit\[charts\]'"):
            call()
