"""A broker with TLS and a log-in: the right one, a wrong one, and where no password is."""

import json
import logging
import os
import sys
from functools import partial
from typing import Any

import pytest
from conftest import environment, process
from support.sink_streams import finish, refused, three_batches
from systems import kafka
from systems.conftest import jars

from sparkstream_kit import sinks, sources
from sparkstream_kit.errors import InvalidInputError

# Of the reader below; None: the right one
PASSWORDS = {"OPTIONS": None, "WRONG": "hush-hush"}


@pytest.fixture(scope="module")
def broker():
    """A broker of its own: the other one has no log-in."""
    broker = kafka.Broker(jars("kafka"), secure=True)
    yield broker
    broker.remove()


READER = """
import json, os, sys
from sparkstream_kit import get_session, run, sinks, sources, start

servers, topic, checkpoint = sys.argv[1:]
spark = get_session("reader", profile="test", connectors=["kafka"])
spark.sparkContext.setLogLevel("INFO")
frame = sources.kafka(spark, servers, topic, **json.loads(os.environ["OPTIONS"]))
counted = frame.groupBy("value").count()
counted.explain(extended=True)
sink = sinks.memory("counts")
query = start(counted, sink, mode="complete", checkpoint=checkpoint, availableNow=True)
print(repr(frame), run(query), query.recentProgress)
query.explain(extended=True)
print("read:", sorted(row.value for row in spark.table("counts").collect()))
sources.kafka(spark, servers, topic, **json.loads(os.environ["WRONG"]))
"""


def test_the_password_is_nowhere_to_be_seen(broker, tmp_path):
    assert broker.secure is not None
    topic = broker.topic(records=["a", "b"])
    program, checkpoint = tmp_path / "reader.py", tmp_path / "ckpt"
    program.write_text(READER)
    options = {
        name: json.dumps(broker.secure.options(given))
        for name, given in PASSWORDS.items()
    }
    done = process(
        [sys.executable, program, broker.secure_servers, topic, checkpoint],
        cwd=tmp_path,
        env=environment(SPARKSTREAM_JARS=os.environ["SPARKSTREAM_JARS"], **options),
    )
    assert "read: ['a', 'b']" in done.stdout, done.stderr
    assert "Authentication failed: Invalid username or password" in done.stderr
    kept = "".join(
        file.read_text(errors="replace")
        for file in checkpoint.rglob("*")
        if file.is_file()
    )
    for text in (done.stdout, done.stderr, kept):
        assert topic in text  # and it is the right text
        assert broker.secure.password not in text
        assert "hush" not in text


MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule required"
CANNOT_BE_READ = (
    "kafka.sasl.jaas.config cannot be read; write it as …LoginModule required"
    ' username="…" '
)


@pytest.mark.parametrize(
    ("login", "said"),
    [
        (
            f'{MODULE} username="kit" password="hush-hush";',
            "Authentication failed: Invalid username or",
        ),
        (f"{MODULE} username=kit password=hu hush;", CANNOT_BE_READ),
        ("hush", CANNOT_BE_READ),
    ],
)
def test_a_wrong_log_in_is_one_line_without_the_password(
    spark, broker, caplog, login, said
):
    assert broker.secure is not None
    options: dict[str, Any] = broker.secure.options() | {
        "kafka.sasl.jaas.config": login
    }
    caplog.set_level(logging.INFO)  # at DEBUG py4j shows every call
    with pytest.raises(InvalidInputError) as raised:
        sources.kafka(spark, broker.secure_servers, broker.topic(), **options)
    assert str(raised.value).startswith(f"Kafka at {broker.secure_servers}: ")
    assert said in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert "\n" not in str(raised.value)
    assert "hush" not in f"{raised.value}{raised.value!r}{caplog.text}"


def test_the_sink_that_writes_exactly_once_logs_in_too(spark, broker, tmp_path, caplog):
    assert broker.secure is not None
    caplog.set_level(logging.INFO)
    topic, frame = broker.topic(), three_batches(spark, tmp_path / "in")
    sink = partial(sinks.kafka, broker.secure_servers, topic, exactly_once=True)
    good = sink(**broker.secure.options())
    finish(frame, good, tmp_path / "ckpt")
    assert len(broker.records(topic)) == 6
    line = refused(frame, sink(**broker.secure.options("hush-hush")), tmp_path / "ckpt")
    assert "Authentication failed: Invalid username or password" in line
    [entry] = broker.records(f"{topic}-sparkstream-ledger")[-1:]
    for text in (repr(good), line, caplog.text, str(entry)):
        assert broker.secure.password not in text
        assert "hush" not in text


def test_a_certificate_that_is_not_trusted(spark, broker):
    assert broker.secure is not None
    given = broker.secure.options()
    options: dict[str, Any] = {
        name: given[name] for name in given if "truststore" not in name
    }
    with pytest.raises(
        InvalidInputError, match="certificate that is not trusted here; give"
    ) as raised:
        sources.kafka(spark, broker.secure_servers, "any", **options)
    assert broker.secure.password not in str(raised.value)
