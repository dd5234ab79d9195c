"""The notebook's face without a kernel: escaping, failures, and `live` without a cell.

`tests/project/test_notebook.py` has it in a real kernel.
"""

from datetime import UTC, datetime

import pytest
from conftest import refusal
from support.recorded import filled, progress

from sparkstream_kit import display, monitoring, sinks, sources, start
from sparkstream_kit.monitoring import notebook, pictures
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.monitoring.pictures import Result, Results

EVIL = "<script>alert('1')</script>"


def test_every_value_is_escaped(monkeypatch):
    board = filled(name=EVIL)
    rows = [(EVIL, "1"), (None, "-3"), ("a", None), ("b", "NaN")]
    found = iter(
        [
            Result(EVIL, (EVIL, "n"), (False, True), rows),
            Result(EVIL, problem=EVIL),
            None,
        ]
    )
    results = Results({})
    monkeypatch.setattr(results, "of", lambda *_, **__: next(found))
    bundle = notebook._bundle(board, results)  # noqa: SLF001
    assert "<script" not in bundle["text/html"]
    assert bundle["text/html"].count("&lt;script&gt;") == 7
    assert bundle["text/html"].count("<rect") == 1, "a bar for what is above 0"
    assert EVIL in bundle["text/plain"]
    assert "NULL" in bundle["text/plain"]


def test_a_table_of_html_has_no_bar_where_no_column_holds_numbers():
    assert "<rect" not in display.html_table(["a"], [False], [["1"]])
    assert display.html_table(["a"], [True], []).count("<td") == 0


def test_what_a_query_has_is_shown_and_nothing_else():
    for each in filled().pictures():
        html = notebook._query_html(each, None, datetime.now(UTC))  # noqa: SLF001
        assert ("rows in state" in html) == (each.batches[-1].state_rows is not None)
        assert ("watermark (UTC)" in html) == each.batches[-1].has_watermark
        assert (">late</small>" in html) == (each.summary.late_rows is not None)
        assert all(_escaped(str(verdict)) in html for verdict in each.verdicts)


def _escaped(text):
    return text.replace("&", "&amp;").replace("'", "&#x27;")


def test_the_silence_of_a_query_is_told_while_it_lasts(monkeypatch, until):
    told: list[str] = []

    class Handle:
        def update(self, bundle, **_):
            told.append(bundle["text/plain"])

    monkeypatch.setattr(notebook, "_BEAT", 0.02)
    monkeypatch.setattr(notebook, "_EVERY", 0.02)
    board = Board()
    board.add(progress())
    with pictures.drawing(
        lambda over: notebook._update(board, Results({}), Handle(), over)  # noqa: SLF001
    ):
        until(lambda: len(told) > 3)
    assert all("no batch for " in text for text in told)


@pytest.mark.slow
@pytest.mark.connect
def test_live_starts_a_query_for_any_frame_and_takes_one_that_runs(
    lines, spark, folder, capsys
):
    found = monitoring.live(
        lines.groupBy("value").count(), name="counted_live", availableNow=True
    )
    assert found is not None
    assert found.collect() == spark.table("counted_live").collect() == [("a", 3)]
    assert "counted_live: batch 2 in " in capsys.readouterr().err, (
        "no cell: as in a terminal"
    )
    found = monitoring.live(lines, name="rows_live", max_batches=3)
    assert found is not None
    assert found.count() == 3
    query = start(lines, sinks.memory("running_live"))
    for more, known in (
        ("runfor", "did you mean run_for?"),
        ("mode", "known: "),
        ("once", "known: "),
    ):
        said = refusal(monitoring.live, query, **{more: "append"})
        assert said.startswith(
            f"unknown keyword of live() with a running query {more}; {known}"
        )
    again = monitoring.live(query, max_batches=3)
    assert again is not None
    assert again.count() == 3
    assert not query.isActive
    files = sinks.files(folder.parent / "out")
    other = start(
        lines,
        files,
        name="no_rows",
        checkpoint=folder.parent / "ckpt",
        availableNow=True,
    )
    assert monitoring.live(other) is None


def test_a_frame_that_does_not_stream_is_refused(spark):
    assert refusal(monitoring.live, spark.range(3)).endswith(
        "show it with display.show(frame)"
    )
    said = refusal(monitoring.live, spark.range(3).groupBy("id"))
    assert said.startswith(
        "monitoring.live(): shown is a GroupedData; end it with an aggreg"
    )


# --- display.show


def test_a_static_frame_is_shown_as_text_where_no_notebook_is(spark, capsys):
    frame = spark.range(60).selectExpr("id", "concat('n', id) AS name")
    display.show(frame)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["id  name", "--  ----", " 0  n0"]
    assert len(lines) == 2 + 50 + 1
    assert lines[-1] == "the first 50 rows"
    display.show(frame.limit(2), 7)
    assert capsys.readouterr().out == " 0  n0\n 1  n1\n"
    assert "monitoring.live(frame, run_for=20) starts it" in refusal(
        display.show, sources.rate(spark)
    )
