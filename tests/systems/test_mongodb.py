"""`sinks.mongodb` and its page on a real server: each row once and as it was, over kills."""

import datetime as dt
import json
import random
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128
from conftest import HANGS, ROOT, failure, refusal
from pyspark.sql import functions as F
from spark.test_callbacks import Gate
from support import sink_contract
from support.sink_streams import (
    CASES,
    KEYS,
    TOTALS,
    connected,
    finish,
    forget_commit,
    refused,
    totals,
)
from systems.conftest import ROUNDS, SCRIPTS, jars
from systems.daemons import running
from systems.mongodb import Server

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.connectors.mongodb import collection, connection
from sparkstream_kit.errors import InvalidInputError, KitError, QueryFailed
from sparkstream_kit.sinks.ledger import Batch

ROWS_OF_A_FILE = 1500  # so that a batch takes a second, and kills hit it
SCRIPT = SCRIPTS / "sales_to_mongodb.py"


@pytest.fixture(scope="module")
def mongodb(tmp_path_factory):
    yield from running(Server(tmp_path_factory.mktemp("mongodb"), jars("mongodb")))


@pytest.fixture
def shop(mongodb):
    """A database of its own."""
    return mongodb.database()


@pytest.fixture
def url(mongodb, shop):
    return mongodb.url(shop)


def rows(shop, name="t"):
    """Return the rows that a collection has, sorted."""
    return sorted(
        tuple(each.values())
        for each in shop[name].find({}, {"_id": False, "sparkstream": False})
    )


def ledger(shop, name="t"):
    found = shop["sparkstream_ledger"].find_one({"_id": name})
    return {} if found is None else found["queries"]


ROWS = CASES["append"][2]
WAYS = ["append", "upsert"]


@pytest.mark.parametrize("how", WAYS)
def test_a_batch_that_comes_again_changes_nothing(stream, shop, url, tmp_path, how):
    mode, more, expected = CASES[how]
    frame, checkpoint = stream if how == "append" else totals(stream), tmp_path / "ckpt"
    sink = sinks.mongodb(url, "t", how=how, **more)
    finish(frame, sink, checkpoint, mode)
    assert rows(shop) == expected
    before = list(shop["t"].find())
    forget_commit(checkpoint, 2)
    finish(frame, sink, checkpoint, mode)
    assert list(shop["t"].find()) == before
    # A stateful batch that is skipped must be read to its end all the same.
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    finish(frame, sink, checkpoint, mode)
    assert rows(shop) == (
        sorted([*expected, ("a", 10)]) if how == "append" else [("a", 13), *TOTALS[1:]]
    )
    assert [each["batch"] for each in ledger(shop).values()] == [3]


@pytest.mark.parametrize("how", WAYS)
def test_a_batch_that_was_cut_off_is_exact_though_its_rows_come_in_another_order(
    spark, folder, shop, url, tmp_path, how, monkeypatch
):
    # The first try ends after the rows 0 to 1999; the second one writes the rows 2499
    # to 0.
    feeds.drip(
        [("1.csv", "".join(f"k{number},{number}\n" for number in range(2500)))], folder
    )
    frame = sources.csv(spark, str(folder), schema="k STRING, n INT")
    mode, more, _ = CASES[how]
    frame = frame if how == "append" else frame.groupBy("k").agg(F.sum("n").alias("n"))
    sent: list[int] = []
    send = collection._WriteAttempt.send  # noqa: SLF001 - cut off within a batch

    def cut_off(writer, documents, **more):
        send(writer, documents, **more)
        sent.append(1)
        if len(sent) == 2:
            raise ValueError("cut off")

    def sorted_by(*by):
        return sinks.mongodb(url, "t", how=how, **more).taking(
            lambda batch: batch.orderBy(*by)
        )

    with monkeypatch.context() as patch:
        patch.setattr(collection._WriteAttempt, "send", cut_off)  # noqa: SLF001
        with pytest.raises(QueryFailed, match="cut off"):
            finish(frame, sorted_by("n"), tmp_path / "ckpt", mode)
    assert shop["t"].count_documents({}) == 2000
    finish(frame, sorted_by(F.desc("n")), tmp_path / "ckpt", mode)
    assert rows(shop) == sorted((f"k{number}", number) for number in range(2500))
    assert {each["sparkstream"]["write"] for each in shop["t"].find()} == {2}


@pytest.mark.parametrize("how", WAYS)
def test_what_an_older_driver_has_still_on_its_way_changes_nothing(shop, url, how):
    address, keys = connection.parse(url, None, "t"), CASES[how][1].get("keys", ())
    target = collection.MongoTarget(address, "t", how, tuple(keys), take_over=False)
    with connection.connected(address) as database:
        store = collection._MongoLedger(database, target)  # noqa: SLF001 - two drivers, step by step
        batch = Batch("q", 0, "plan", driver="the same")
        older = collection._WriteAttempt(target, store, batch)  # noqa: SLF001
        newer = collection._WriteAttempt(target, store, batch)  # noqa: SLF001
        older.send(iter([{"k": "a", "n": 1}]))
        # The same rows, in another order
        newer.send(iter([{"k": "b", "n": 2}, {"k": "a", "n": 1}]))
        assert "written by another driver of this query" in refusal(
            older.send, iter([{"k": "b", "n": 2}])
        )
        if how == "append":
            older.clear()
        assert rows(shop) == [("a", 1), ("b", 2)]
        assert "written by another driver of this query" in refusal(
            store.finish, batch, older.number
        )
        store.finish(batch, newer.number)
    assert ledger(shop)["q"].items() >= {"batch": 0, "write": 2, "plan": "plan"}.items()


@pytest.mark.parametrize("damage", sink_contract.LOSSES)
@pytest.mark.parametrize("how", WAYS)
def test_a_checkpoint_that_has_lost_its_plan_comes_back_exact(
    spark, shop, url, tmp_path, how, damage
):
    def found():
        documents = shop["t"].find({})
        return sorted(
            each["n"] if how == "append" else (each["k"], each["total"])
            for each in documents
        )

    mode, more, _ = CASES[how]
    adaptor = sink_contract.Adaptor(
        sinks.mongodb(url, "t", how=how, **more), found, mode
    )
    sink_contract.lost(sink_contract.Stream(spark, tmp_path, adaptor), damage)


@pytest.mark.parametrize("change", ["drop", "delete_many"])
@pytest.mark.parametrize(
    "step",
    [
        sink_contract.a_target_made_again_is_refused,
        sink_contract.a_target_made_again_under_a_running_query_is_refused,
    ],
)
def test_a_collection_that_was_removed_or_emptied_is_refused(
    spark, shop, url, tmp_path, step, change
):
    def found():
        return sorted(each["n"] for each in shop["t"].find({}))

    empties = shop["t"].drop if change == "drop" else lambda: shop["t"].delete_many({})
    adaptor = sink_contract.Adaptor(sinks.mongodb(url, "t"), found)
    step(sink_contract.Stream(spark, tmp_path, adaptor), empties)


def test_a_row_that_is_too_large_for_a_document_is_one_line(
    stream, shop, url, tmp_path
):
    wide = stream.selectExpr("k", "repeat('x', 17000000) AS v")
    line = refused(wide, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    assert "a document of batch 0 has 17,000,1" in line
    assert (
        "bytes, most of them in column v, and MongoDB takes 16,777,216 at most; split"
        " the row" in line
    )
    assert shop["t"].count_documents({}) == 0


def test_of_two_queries_that_begin_in_one_moment_one_is_refused(shop, url):
    address = connection.parse(url, None, "t")
    with connection.connected(address) as database:
        for number in range(20):
            target = collection.MongoTarget(
                address, f"t{number}", "append", (), take_over=False
            )
            # Of two that do so at once, this server fails one
            shop.create_collection(target.name)
            together = threading.Barrier(2)

            def begin(query, target=target, together=together):
                store = collection._MongoLedger(database, target)  # noqa: SLF001
                store.check(query)
                together.wait(60)
                try:
                    store.begin(Batch(query, 0, driver=query))
                except InvalidInputError as err:
                    assert "was written by another query" in str(err)  # noqa: PT017
                    return False
                return True

            with ThreadPoolExecutor(2) as both:
                began = dict(
                    zip(
                        ("one", "other"), both.map(begin, ("one", "other")), strict=True
                    )
                )
            assert list(ledger(shop, target.name)) == [
                query for query, has in began.items() if has
            ]
            assert sum(began.values()) == 1


@pytest.mark.parametrize("name", ["a'b", "_id", "count(1)"])
def test_a_key_may_have_any_name_without_dot_and_dollar(
    stream, shop, url, tmp_path, name
):
    named = totals(stream).withColumnRenamed("k", name)
    finish(
        named,
        sinks.mongodb(url, "t", how="upsert", keys=[name]),
        tmp_path / "ckpt",
        "update",
    )
    found = sorted(shop["t"].find(), key=lambda each: str(each["_id"]))
    assert [(each["_id"], each["total"]) for each in found] == TOTALS
    assert [each[name] for each in found] == ["a", "b", "c"]


def test_several_keys_are_a_document_in_the_order_of_their_names(
    stream, shop, url, tmp_path
):
    counts = stream.groupBy("k", "n").count()
    finish(
        counts,
        sinks.mongodb(url, "t", how="upsert", keys=["n", "k"]),
        tmp_path / "ckpt",
        "update",
    )
    assert sorted(list(each["_id"].items()) for each in shop["t"].find()) == [
        [("k", k), ("n", n)] for k, n in ROWS
    ]
    # The same keys in another order are the same documents.
    feeds.drip([("4.csv", "a,1\n")], tmp_path / "in")
    finish(
        counts,
        sinks.mongodb(url, "t", how="upsert", keys=["k", "n"]),
        tmp_path / "ckpt",
        "update",
    )
    assert rows(shop)[0] == ("a", 1, 2)
    assert shop["t"].count_documents({}) == 6


def test_values_of_all_types_are_as_they_were(stream, shop, url, tmp_path, caplog):
    columns = {
        "day": "DATE'2026-01-14'",
        "at": "TIMESTAMP'2026-01-14 12:00:00.123456'",
        "price": "CAST(7.5 AS DECIMAL(12,2))",
        "tags": "map('a.b', struct(array(X'00FF', null) AS list))",
        "big": "9007199254740993L",
    }
    frame = stream.where("n = 1 AND k = 'a'").selectExpr(
        *(f"{sql} AS {name}" for name, sql in columns.items())
    )
    finish(frame, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    [found] = shop["t"].find({}, {"_id": False, "sparkstream": False})
    assert found == {
        "day": dt.datetime(2026, 1, 14),  # noqa: DTZ001 - pymongo gives UTC without a zone
        "at": dt.datetime(2026, 1, 14, 12, 0, 0, 123_000),  # noqa: DTZ001
        "price": Decimal128("7.50"),
        "tags": [{"key": "a.b", "value": {"list": [b"\x00\xff", None]}}],
        "big": 9_007_199_254_740_993,
    }
    assert "batch 0, collection t in mongodb://" in caplog.text
    assert "1 values are changed: microseconds are cut" in caplog.text


def test_a_collection_belongs_to_one_query(stream, shop, url, tmp_path):
    finish(stream, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    # A new checkpoint is a new query
    line = refused(stream, sinks.mongodb(url, "t"), tmp_path / "other")
    assert "was written by another query (" in line
    assert "use another collection, or give take_over=True to add to its rows" in line
    finish(stream, sinks.mongodb(url, "t", take_over=True), tmp_path / "other")
    assert rows(shop) == sorted(ROWS * 2)
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")  # both may go on
    for checkpoint in ("ckpt", "other"):
        finish(stream, sinks.mongodb(url, "t"), tmp_path / checkpoint)
    assert rows(shop) == sorted([*ROWS * 2, ("a", 10), ("a", 10)])
    shop["t"].drop()
    assert (
        "is empty, but this query has written its batches up to 3 to it; restore the"
        " collection" in refused(stream, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    )
    # The rows of others are gone, and their claims
    finish(stream, sinks.mongodb(url, "t"), tmp_path / "new")
    assert len(ledger(shop)) == 1


def test_documents_of_somebody_else_are_refused_or_taken_over(
    stream, shop, url, tmp_path
):
    shop["t"].insert_many([{"_id": "a", "mine": 1}, {"_id": "z", "mine": 2}])
    upsert = {"how": "upsert", "keys": ["k"]}
    line = refused(
        totals(stream),
        sinks.mongodb(url, "t", **upsert),  # type: ignore[arg-type]
        tmp_path / "ckpt",
        "update",
    )
    assert (
        "has rows that no query of the kit has written; use another collection" in line
    )
    finish(
        totals(stream),
        sinks.mongodb(url, "t", take_over=True, **upsert),  # type: ignore[arg-type]
        tmp_path / "ckpt",
        "update",
    )
    assert shop["t"].find_one_and_delete({"_id": "z"}) == {"_id": "z", "mine": 2}
    assert rows(shop) == TOTALS


def test_after_a_rewind_the_command_of_the_message_leads_to_the_truth(
    stream, shop, url, tmp_path
):
    checkpoint = tmp_path / "ckpt"
    feeds.drip([("4.csv", "a,10\n"), ("5.csv", "a,11\n")], tmp_path / "in")
    finish(stream, sinks.mongodb(url, "t"), checkpoint)
    assert "mongodb writes a replayed batch with the same rows once" in str(
        rewind(checkpoint, to=0)
    )
    rewind(checkpoint, to=0, apply=True)
    all_at_once = stream.sparkSession.readStream.schema(stream.schema).csv(
        str(tmp_path / "in")
    )
    line = refused(all_at_once, sinks.mongodb(url, "t"), checkpoint)
    assert re.search(
        "batch 1 is replayed, but collection t in .* has all batches up to 4: the"
        " checkpoint",
        line,
    )
    command = re.search(
        r'run db\.getSiblingDB\("(\w+)"\)\.sparkstream_ledger\.updateOne\((.*)\)$', line
    )
    assert command is not None, line
    assert command[1] == shop.name
    shop["sparkstream_ledger"].update_one(*json.loads(f"[{command[2]}]"))
    # Three files in one batch, and no more batches
    finish(all_at_once, sinks.mongodb(url, "t"), checkpoint)
    assert ledger(shop).popitem()[1]["batch"] == 2
    assert rows(shop) == sorted([*ROWS, ("a", 10), ("a", 11)])


@pytest.mark.parametrize(("key", "said"), KEYS)
def test_keys_that_do_not_tell_rows_apart(stream, url, tmp_path, key, said):
    frame = stream.selectExpr(f"{key} AS key", "n")
    sink = sinks.mongodb(url, "t", how="upsert", keys=["key"])
    assert said in refused(frame, sink, tmp_path / "c", "update")


def test_a_unique_index_that_refuses_a_row_is_named_without_its_value(
    stream, shop, url, tmp_path
):
    shop["t"].create_index("k", unique=True, name="once")
    line = refused(stream, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    assert re.search(
        r"has a unique index \S*once, in which a row of batch 1 is the same as"
        r" another doc",
        line,
    )
    assert "(E11000); drop the index, or make it the key: how='upsert'" in line
    assert "dup key" not in line
    shop["t"].drop_index("once")
    finish(stream, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    assert rows(shop) == ROWS


def test_a_name_that_mongodb_does_not_take_and_a_log_in_are_one_line(
    stream, url, tmp_path
):
    for database, name in (("my.shop", "t"), ("shop", "a$b"), ("shop", "")):
        sink = sinks.mongodb(url, name, database=database)
        line = refusal(start, stream, sink, name="q", checkpoint=tmp_path / "ckpt")
        assert re.match(
            "MongoDB at .* cannot be used: (database|collection) names (must|cannot) ",
            line,
        )
    with pytest.raises(KitError) as error:
        finish(
            stream,
            sinks.mongodb(url.replace("://", "://kit:hush@"), "t"),
            tmp_path / "ckpt",
        )
    assert re.fullmatch(r"MongoDB at mongodb://127\.0\.0\.1:.*", str(error.value))
    assert "hush" not in str(error.value)


def test_a_server_that_goes_away_in_mid_stream_and_comes_back(stream, tmp_path, until):
    own = Server(tmp_path / "mongodb", jars("mongodb"))
    (tmp_path / "mongodb").mkdir()
    own.start()
    try:
        shop = own.database()
        sink = sinks.mongodb(own.url(shop) + "&serverSelectionTimeoutMS=1000", "t")
        finish(stream, sink, tmp_path / "ckpt")
        query = start(stream, sink, name="q", checkpoint=tmp_path / "ckpt")
        # Killed, this server forgets the writes of its last second, which it had
        # confirmed
        own.daemon.stop()
        feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
        assert "MongoDB at mongodb://127.0.0.1:" in failure(run, query)
        own.start()
        finish(stream, sink, tmp_path / "ckpt")
        assert rows(shop) == sorted([*ROWS, ("a", 10)])
    finally:
        own.stop()


PAGE = (ROOT / "docs" / "mongodb.md").read_text("utf-8")


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(spark, shop, url, tmp_path, until):
    [files] = re.findall(r"```bash\n(mkdir.*?)```", PAGE, re.DOTALL)
    subprocess.run(["bash", "-euc", files], cwd=tmp_path, check=True)
    counted = tmp_path / "counted"
    names: dict[str, Any] = {"counted": counted}
    over = threading.Event()

    def wait():
        until(lambda: {each["_id"] for each in shop["words"].find()} == {"a", "b"}, 100)
        counted.touch()

    def lines():
        yield from ["a b", "a"]
        # A receiver whose peer closes connects again, and gets them again
        over.wait(60)

    with feeds.LineServer(lines) as served:
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            there = block.replace("mongodb://localhost:27017/shop", url).replace(
                "9999", str(served.port)
            )
            there = there.replace('spark, "shop"', f'spark, "{tmp_path}/shop"').replace(
                "ckpt/", f"{tmp_path}/ckpt/"
            )
            # Five seconds are not enough on a machine that is busy
            if "dstreams.run" in there:
                assert "run_for=5" in there
                there = there.replace("run_for=5", "run_for=120, stop_file=counted")
                threading.Thread(target=wait, daemon=True).start()
            exec(compile(there, "docs/mongodb.md", "exec"), names)  # noqa: S102 - our own page
        over.set()
    [document] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    [apples] = shop["totals"].find({"_id": "apples"})
    shown = json.loads(document)
    assert {**apples, "sparkstream": None} == {**shown, "sparkstream": None}
    assert apples["sparkstream"].keys() == shown["sparkstream"].keys()
    assert [each["_id"] for each in names["whole"]] == ["apples", "pears"]
    assert {each["_id"]: each["count"] for each in shop["words"].find()}.keys() == {
        "a",
        "b",
    }
    names["MongoClient"](url).close()


def test_a_dry_run_and_a_stop_in_mid_batch_leave_nothing_behind(
    stream, shop, url, tmp_path, until
):
    sink = sinks.mongodb(url, "t")
    start(stream, sink, name="q", checkpoint=tmp_path / "ckpt", dry_run=True)
    assert shop.list_collection_names() == []
    gate = Gate()
    query = start(
        stream, sink.taking(gate.hold), name="q", checkpoint=tmp_path / "ckpt"
    )
    gate.stop_in_mid_batch(query, until)
    assert query.exception() is None
    finish(stream, sink, tmp_path / "ckpt")
    assert rows(shop) == ROWS


@pytest.mark.slow
def test_on_spark_connect_it_is_the_same(connect, stream, shop, url, tmp_path):
    upsert = 'sinks.mongodb(url, "totals", how="upsert", keys=["k"])'
    said = connected(
        connect, url, tmp_path, 'sinks.mongodb(url, "rows")', upsert, "update"
    )
    assert "collection rows in mongodb://" in said
    assert "was written by another query" in said
    assert (rows(shop, "rows"), rows(shop, "totals")) == (ROWS, TOTALS)


@pytest.mark.slow
def test_killed_in_the_middle_of_batches_counts_and_sums_are_exact(
    shop, url, folder, tmp_path, begin
):
    series = iter(feeds.sales_files(None, rows=ROWS_OF_A_FILE, seed=3))
    pick = random.Random(20)  # noqa: S311 - times, not secrets
    files = cut_off = 0

    def writes():
        return sum(
            each["write"]
            for name in ("rows", "totals")
            for each in ledger(shop, name).values()
        )

    def unfinished():
        """Say whether documents are there of a batch that the ledger does not know as whole."""
        return any(
            shop[name].find_one({"sparkstream.batch": {"$gt": each["batch"]}})
            is not None
            for name in ("rows", "totals")
            for each in ledger(shop, name).values()
        )

    for _ in range(ROUNDS):
        feeds.drip([next(series) for _ in range(2)], folder)
        files += 2
        before = writes()
        driver = begin("python", SCRIPT, url, folder, tmp_path)
        while writes() == before:
            assert driver.running, driver.errors
            time.sleep(0.01)  # between looks
        # The moment of the kill, which no condition picks
        time.sleep(pick.uniform(0, 1.5))
        driver.kill("group")
        cut_off += unfinished()
    last = begin("python", SCRIPT, url, folder, tmp_path, "--available-now")
    assert last.ended(limit=HANGS + 20 * ROUNDS) == 0, last.errors
    truth: dict[int, list[Decimal]] = {}
    for row in feeds.sales_rows(files * ROWS_OF_A_FILE, seed=3):
        truth.setdefault(int(row[0]), []).append(Decimal(row[5]))
    amounts: dict[int, list[Decimal]] = {}
    for each in shop["rows"].find():
        amounts.setdefault(each["OrderID"], []).append(each["SaleAmount"].to_decimal())
    assert {order: sorted(each) for order, each in amounts.items()} == {
        order: sorted(each) for order, each in truth.items()
    }
    assert {
        each["_id"]: (each["rows"], each["total"].to_decimal())
        for each in shop["totals"].find()
    } == {order: (len(each), sum(each)) for order, each in truth.items()}
    assert cut_off, "no kill was in the middle of a batch: let it write more rows"


def test_a_collection_that_was_dropped_after_a_first_batch_was_cut_off_is_made_again(
    stream, shop, url, tmp_path, monkeypatch
):
    def cut_off(*_, **__):
        raise ValueError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(collection._MongoLedger, "finish", cut_off)  # noqa: SLF001 - cut off within a batch
        with pytest.raises(QueryFailed, match="cut off"):
            finish(stream, sinks.mongodb(url, "t"), tmp_path / "ckpt")
    assert [each["batch"] for each in ledger(shop).values()] == [-1]
    shop["t"].drop()
    # Also where the batch leaves no row, and so no document makes the collection.
    finish(stream.where("n > 1"), sinks.mongodb(url, "t"), tmp_path / "ckpt")
    assert rows(shop) == [row for row in ROWS if row[1] > 1]
