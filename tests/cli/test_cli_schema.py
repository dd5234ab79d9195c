"""`sparkstream schema` of a registry and of a topic's records, without a broker.

Of real ones: tests/systems/test_registry_schema.py.
"""

import base64
import io
import json

import fastavro
import pytest
from conftest import refusal
from support import registry as registries

from sparkstream_kit import schemas
from sparkstream_kit.cli import main
from sparkstream_kit.cli.topics import Examiner, Place, described, said
from sparkstream_kit.connectors._registry.client import Schema

SALE = {
    "type": "record",
    "name": "Sale",
    "fields": [{"name": "key", "type": "long"}, {"name": "Offset", "type": "int"}],
}


@pytest.fixture
def registry():
    with registries.running() as server:
        client = schemas.registry(server.address)
        client.register("sales-value", Schema("AVRO", json.dumps(SALE)))
        yield server


def sale(**value):
    out = io.BytesIO(b"\0\0\0\0\1")
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(SALE), value)
    return out.getvalue()


def test_a_login_is_taken_from_the_environment(spark, registry, monkeypatch, capsys):
    pair = base64.b64encode(b"ann:hush").decode()
    monkeypatch.setenv("SALES", registry.address.replace("://", "://ann:hush@"))
    monkeypatch.setenv("TOKEN", "hush")
    words = ["schema", "sales-value", "--json", "--registry"]
    for more, login in [
        (["env:SALES"], f"Basic {pair}"),
        ([registry.address, "--token-env", "TOKEN"], "Bearer hush"),
        ([registry.address], None),
    ]:
        assert main([*words, *more]) == 0
        assert registry.logins[-1] == login
        out, err = capsys.readouterr()
        assert "hush" not in out + err
        names = [each["name"] for each in json.loads(out)["schema"]["fields"]]
        assert names == ["key", "Offset"]


def test_names_of_columns_that_are_kafkas_own_are_dropped_in_the_code(spark, registry):
    place = Place(
        servers="h:1",
        topic="sales",
        options={},
        registry=schemas.registry(registry.address),
        registry_code="schemas.registry('x')",
        options_code={"kafka.client.id": 'os.environ["ID"]'},
    )
    record = sale(key=1, Offset=2)
    found = described(spark, place, [(b"k", record), (None, None), (b"\xff", b"a b")])
    assert said(found) == (
        "# topic sales, its newest records: 3\n"
        "#   Avro (schema ids 1): 1\n"
        "#   tombstones: 1\n"
        "#   text: 1\n"
        "# keys: text: 1, other bytes: 1\n"
    )
    assert found.code == (
        "import os\n\n"
        "from sparkstream_kit import get_session, quarantine, schemas, sources\n\n"
        'SCHEMA = (\n    "key BIGINT NOT NULL, "\n    "Offset INT NOT NULL"\n)\n\n'
        'spark = get_session("sales", connectors=["kafka"])\n'
        "registry = schemas.registry('x')\n"
        'records = sources.kafka(spark, "h:1", "sales", binary=True,'
        ' **{"kafka.client.id": os.environ["ID"]})\n'
        'records = records.drop("key", "offset")\n'
        "rows = quarantine.parse_avro(records, SCHEMA, registry=registry)\n"
    )


def test_without_a_registry_its_records_are_told_by_their_ids(spark):
    place = Place("h:1", "sales", {}, None, "", {})
    message = refusal(described, spark, place, [(None, sale(key=1, Offset=2))])
    assert "topic sales at h:1: its records have the schema ids 1; give" in message
    assert "has no records; write some" in refusal(described, spark, place, [])


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (b'{"n": 1}', "JSON"),
        (b" {}\n", "JSON"),
        (b"[1]", "text"),
        (b"1", "text"),
        (b"", "text"),
        ("ä,b\r\n\tc".encode(), "text"),
        (b"a\1b", "other bytes"),
        (b"\xff", "other bytes"),
        (b"\0\0\0\0", "other bytes"),
        (b"\0\0\0\0\1{}", "JSON with a schema id"),
        (b"\0\0\0\0\1x", "with a schema id"),
        (None, "tombstones"),
    ],
)
def test_what_a_record_is(record, name):
    assert Examiner(None).kind_of(record).name == name
