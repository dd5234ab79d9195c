"""`sinks.iceberg` by a REST catalog: Iceberg's own, which is stopped, killed and started again."""

from functools import partial
from itertools import cycle, islice

import pytest
from conftest import failure
from faults import targets
from faults.test_kills import KILLS, killed_at
from support import iceberg, sink_contract
from support.sink_streams import CASES, finish
from systems.conftest import ROUNDS, jars
from systems.daemons import running
from systems.iceberg import Server

from sparkstream_kit import feeds, run, sinks, start
from sparkstream_kit.errors import QueryFailed


@pytest.fixture
def server(tmp_path):
    """A catalog of its own for each test: they end it."""
    (tmp_path / "server").mkdir()
    yield from running(Server(tmp_path / "server", jars("iceberg")))


@pytest.mark.fast("upsert-a second driver", "replace-plan lost before the commit")
@pytest.mark.parametrize("damage", sink_contract.LOSSES)
@pytest.mark.parametrize("how", CASES)
def test_a_checkpoint_that_has_lost_its_plan_comes_back_exact(
    spark, server, tmp_path, how, damage
):
    mode, more, _ = CASES[how]
    sink = sinks.iceberg("shop.t", catalog=server.properties, how=how, **more)
    whole = partial(iceberg.rows, server.url)
    found = (lambda: [n for (n,) in whole()]) if how == "append" else whole
    adaptor = sink_contract.Adaptor(sink, found, mode)
    sink_contract.lost(sink_contract.Stream(spark, tmp_path, adaptor), damage)


def test_a_catalog_that_goes_away_in_mid_stream_and_comes_back(
    stream, server, tmp_path
):
    sink = sinks.iceberg("shop.t", catalog=server.properties)
    finish(stream, sink, tmp_path / "ckpt")
    query = start(stream, sink, name="q", checkpoint=tmp_path / "ckpt")
    server.daemon.kill()
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    line = (
        "query q failed: Iceberg table shop.t: the catalog or its storage failed"
        " (Connection"
    )
    assert failure(run, query).startswith(line)
    server.start()
    finish(stream, sink, tmp_path / "ckpt")
    assert iceberg.rows(server.url) == sorted([*CASES["append"][2], ("a", 10)])


def test_a_commit_that_was_made_and_not_confirmed_counts_once(
    stream, server, tmp_path, monkeypatch
):
    from pyiceberg.catalog.rest import RestCatalog

    commit = RestCatalog.commit_table
    lost = [1]

    def unconfirmed(*given):
        made = commit(*given)
        if lost and iceberg.last_batch(server.url) == lost[0]:
            lost.clear()
            raise ConnectionError("the answer was lost")
        return made

    monkeypatch.setattr(RestCatalog, "commit_table", unconfirmed)
    sink = sinks.iceberg("shop.t", catalog=server.properties)
    with pytest.raises(QueryFailed, match="the answer was lost"):
        finish(stream, sink, tmp_path / "ckpt")
    finish(stream, sink, tmp_path / "ckpt")
    assert iceberg.rows(server.url) == CASES["append"][2]


def test_a_driver_is_killed_and_its_catalog_too(server, tmp_path, begin):
    def restart():
        server.daemon.kill()
        server.start()

    sales, target = targets.iceberg(tmp_path, "upsert", lake=server.url)
    killed_at(islice(cycle(KILLS), ROUNDS), sales, target, begin, also=restart)
