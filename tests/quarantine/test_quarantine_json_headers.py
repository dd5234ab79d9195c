"""Records of JSON behind the id of their schema: the header is left out, or makes them bad."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import refusal

from sparkstream_kit.quarantine import parse_json

RECORDS = [
    (b'\0\0\0\0\7{"id": 1}', 1, None),
    # Bytes of an id that are no text
    (b'\0\0\0\xff\xfe{"id": 2}', 2, None),
    (b'\0\0\0\0\7{"id": "x"}', None, "id: not an int"),
    (b"\0\0\0\0\7", None, "a blank line"),
    (b'{"id": 3}', None, "not JSON with a schema id"),
    (b'\1\0\0\0\7{"id": 4}', None, "not JSON with a schema id"),
    (b"\0\0\0\7", None, "not JSON with a schema id"),
    (None, None, "no value"),
]


def frame(spark, records):
    rows = [
        (None if each is None else bytearray(each), n) for n, each in enumerate(records)
    ]
    return spark.createDataFrame(rows, "value BINARY, offset INT")


@pytest.mark.slow
@pytest.mark.connect
def test_a_header_is_left_out_and_a_wrong_one_makes_a_record_bad(spark):
    given = frame(spark, [record for record, *_ in RECORDS])
    rows = parse_json(given, "id INT", header=True).orderBy("offset").collect()
    found = [(row["id"], row["_reason"]) for row in rows]
    assert found == [(number, reason) for _, number, reason in RECORDS]
    # The exact record is kept, with its header
    for row, (record, *_) in zip(rows, RECORDS, strict=True):
        raw = None if row["_raw"] is None else row["_raw"].encode()
        assert record == (raw if row["_bytes"] is None else row["_bytes"])


class Server(BaseHTTPRequestHandler):
    """A registry with a schema of JSON, 7, and one of Avro, 8."""

    def do_GET(self):
        kinds = {"/schemas/ids/7": "JSON", "/schemas/ids/8": "AVRO"}
        kind = kinds.get(self.path)
        self.send_response(200 if kind else 404)
        self.end_headers()
        answer = {"schema": "{}", "schemaType": kind, "error_code": 40403}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_with_a_registry_the_id_is_that_of_a_schema_of_json(spark):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        given = [b"\0\0\0\0" + bytes([number]) + b'{"id": 1}' for number in (7, 8, 9)]
        url = f"http://127.0.0.1:{server.server_port}"
        rows = parse_json(frame(spark, [*given, b"{}"]), "id INT", registry=url)
        found = rows.orderBy("offset").select("id", "_reason").collect()
        server.shutdown()
        thread.join()
    assert found == [
        (1, None),
        (None, "a schema that is not JSON"),
        (None, "unknown schema id"),
        (None, "not JSON with a schema id"),
    ]


def test_text_is_no_record_with_a_header(spark):
    text = spark.createDataFrame([("a",)], "value STRING")
    said = refusal(parse_json, text, "id INT", header=True)
    assert said.startswith("parse_json() reads the first column, and value is string")
    said = refusal(parse_json, frame(spark, []), "id INT", registry="host")
    assert said.startswith("registry 'host' is no address")
