"""What a scraper reads of a run."""

import re
import socket
import sys
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from conftest import HANGS, ROOT, refusal
from prometheus_client.parser import text_string_to_metric_families
from support.recorded import OTHER, TOLD, filled, progress

from sparkstream_kit import run, sinks, start
from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.monitoring.board import SHOWN, Board
from sparkstream_kit.monitoring.page import exported, metrics

LABELS = ("query", "part", "level")


def values(board):
    """Every sample by its name and the values of its labels."""
    return {
        (
            sample.name,
            *(sample.labels[name] for name in LABELS if name in sample.labels),
        ): sample.value
        for family in metrics(board.pictures())
        for sample in family.samples
    }


def test_each_query_has_its_totals_and_its_last_batch():
    assert values(Board()) == {}
    found = values(filled())
    for name in {each["name"] for each in TOLD}:
        mine = [each for each in TOLD if each["name"] == name]
        assert found["sparkstream_batches_total", name] == len(mine)
        assert found["sparkstream_input_rows_total", name] == sum(
            each["numInputRows"] for each in mine
        )
        assert found["sparkstream_last_batch_id", name] == mine[-1]["batchId"]
        work = found["sparkstream_last_batch_part_seconds", name, "work"]
        assert work == mine[-1]["durationMs"]["addBatch"] / 1000
        states = sum(state["numRowsTotal"] for state in mine[-1]["stateOperators"])
        assert found.get(("sparkstream_state_rows", name), 0) == states
    assert ("sparkstream_state_rows", "sales_clean") not in found, "it has none"
    assert found["sparkstream_verdicts", "score_payments", "warn"] >= 1

    text = (
        (ROOT / "docs" / "monitoring.md").read_text("utf-8").partition("## Metrics")[2]
    )
    page = text.partition("\n## ")[0]
    last = re.findall(r"`sparkstream_last_batch_id`((?:, `_\w+`)+)", page)[0]
    named = {f"sparkstream_last_batch{end}" for end in re.findall(r"_\w+", last)}
    named |= set(re.findall(r"\bsparkstream_\w+", page))
    # No query of the recording has them
    unrecorded = {"sparkstream_bad_rows_total", "sparkstream_waiting"}
    assert named == {name for name, *_ in found} | unrecorded


def test_totals_do_not_fall_however_long_a_run_is_and_however_often_a_query_starts():
    board, rows = Board(), TOLD[0]["numInputRows"]
    key = ("sparkstream_input_rows_total", TOLD[0]["name"])
    for number in range(SHOWN + 10):
        board.add(progress(batchId=number))
    assert values(board)[key] == (SHOWN + 10) * rows
    board.add(progress(batchId=SHOWN + 10, runId=OTHER))
    assert values(board)[key] == (SHOWN + 11) * rows
    assert values(board)["sparkstream_last_batch_id", TOLD[0]["name"]] == SHOWN + 10
    [picture] = board.pictures()
    assert len(picture.batches) == SHOWN


def fetched(url):
    with urlopen(url, timeout=HANGS) as answer:  # noqa: S310 - of this test's own server
        return answer.read().decode()


def test_a_run_serves_its_metrics_until_it_ends(lines, capsys):
    seen: list[tuple[str, str]] = []

    def look(_):
        [url] = re.findall(r"metrics of this run: (\S+)", capsys.readouterr().err) or [
            seen[0][0]
        ]
        seen.append((url, fetched(url)))

    query = start(lines, sinks.memory("scraped"), name="scraped", availableNow=True)
    run(query, metrics="127.0.0.1:0", on_batch=look)
    assert len(seen) == 3
    url, text = seen[-1]
    families = text_string_to_metric_families(text)
    assert {family.name.split("_")[0] for family in families} == {"sparkstream"}, (
        "nothing of the process"
    )
    assert f'sparkstream_batches_total{{query="scraped"}} {float(len(seen))}' in text
    with pytest.raises(URLError):
        fetched(url)


def test_an_address_that_cannot_be_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for address in (
            "9108",
            "127.0.0.1:http",
            f"127.0.0.1:{taken.getsockname()[1]}",
            "127.0.0.1:65536",
        ):
            said = refusal(exported(Board(), address).__enter__)
            assert said.startswith(f"cannot serve metrics at {address} (")
            assert said.endswith("); give another host:port, such as 127.0.0.1:9109")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(
        MissingExtraError,
        match=r"^run\(…, metrics=…\) needs .*sparkstream-kit\[metrics\]",
    ):
        exported(Board(), "127.0.0.1:0").__enter__()
