"""The client of a schema registry: what it sends, takes, waits for and keeps."""

import json
import pickle
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import refusal

from sparkstream_kit import schemas
from sparkstream_kit.connectors._registry import client
from sparkstream_kit.connectors._registry.client import Reference, Registry, Schema
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError

ORDER = '{"type": "record", "name": "Order", "fields": []}'
ACCEPTED = "application/vnd.schemaregistry.v1+json, application/json"
UNKNOWN = (404, {"error_code": 40403, "message": "Schema not found"})


class Server(BaseHTTPRequestHandler):
    """A server that answers what a test gives it, by method and path."""

    answers: dict[str, Any]  # a JSON value, or a code and a value; a list: one by one
    asked: list[tuple[str, Any]]
    heads: dict[str, str]

    def answer(self, content=None):
        name = f"{self.command} {self.path}"
        self.asked.append((name, content))
        self.heads.clear()
        self.heads.update(self.headers)
        found = self.answers.get(name, UNKNOWN)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        code, value = found if isinstance(found, tuple) else (200, found)
        self.send_response(code)
        self.end_headers()
        self.wfile.write(
            value if isinstance(value, bytes) else json.dumps(value).encode()
        )

    def do_GET(self):
        self.answer()

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self.answer(json.loads(self.rfile.read(size)))

    def log_message(self, *_):
        pass


def serving(context=None):
    """Run a server for a test; its `place` is in it."""
    handler = type("Handler", (Server,), {"answers": {}, "asked": [], "heads": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        scheme = "http"
        if context:
            scheme = "https"
            server.socket = context.wrap_socket(server.socket, server_side=True)
        handler.place = f"{scheme}://127.0.0.1:{server.server_port}/apis"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield handler
        server.shutdown()
        thread.join()


@pytest.fixture
def server():
    yield from serving()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """What this process knows is that of the test, and it asks again at once."""
    monkeypatch.setattr(client, "_answers", {})
    monkeypatch.setattr(client, "_PAUSE", 0.01)


@pytest.mark.parametrize(
    ("text", "place", "login"),
    [
        ("http://host", "http://host", None),
        ("https://host:8081/", "https://host:8081", None),
        ("http://host/apis/v2/", "http://host/apis/v2", None),
        ("http://host/a?q=1#f", "http://host/a", None),
        ("http://kit:pw@host:1/a", "http://host:1/a", "Basic a2l0OnB3"),
        ("http://kit:h%40sh@host", "http://host", "Basic a2l0OmhAc2g="),
        ("http://kit@host", "http://host", "Basic a2l0Og=="),
        ("http://:pw@host", "http://host", "Basic OnB3"),
    ],
)
def test_the_address_of_a_registry_is_told_apart_from_its_login(text, place, login):
    found = client.of(text)
    assert (found.place, found.login) == (place, login)
    assert "Basic" not in repr(found)


@pytest.mark.parametrize(
    "text", ["host:8081", "ftp://host", "http://", "http://host:port", "http://a b"]
)
def test_what_is_no_address_is_refused(text):
    assert refusal(client.of, text) == (
        f"registry {text!r} is no address, such as http://localhost:8081"
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"user": "a", "token": "t"},
            "a user and a token are two ways to log in; give one",
        ),
        ({"password": "p"}, "a password needs user=; give both"),
        ({"key": "k.pem"}, "key= needs certificate=; give both"),
        ({"wait": "1"}, "schemas.registry(): wait is the string '1'; give a number"),
        ({"ca": "/none.pem"}, "certificate /none.pem cannot be read"),
        ({"ca": __file__}, "the certificates cannot be used"),
        ({"certificate": __file__}, "the certificates cannot be used"),
    ],
)
def test_a_login_that_cannot_be_is_one_line(given, why):
    assert why in refusal(schemas.registry, "http://host", **given)


@pytest.mark.parametrize(
    ("given", "login"),
    [
        ({"user": "kit", "password": "h@sh"}, "Basic a2l0OmhAc2g="),
        ({"user": "kit"}, "Basic a2l0Og=="),
        ({"token": "h@sh"}, "Bearer h@sh"),
        ({}, None),
    ],
)
def test_each_request_has_the_login(server, given, login):
    registry = schemas.registry(server.place, **given)
    server.answers["GET /apis/schemas/ids/7"] = {"schema": ORDER}
    again = pickle.loads(pickle.dumps(registry))  # noqa: S301 - of this test
    assert again.schema(7) == Schema("AVRO", ORDER, id=7)
    assert server.heads.get("Authorization") == login
    assert server.heads["Accept"] == ACCEPTED
    assert "h@sh" not in repr(registry)
    assert "Basic" not in repr(registry)


def test_a_login_is_not_sent_to_where_a_registry_points(server):
    """Another server could read it."""
    registry = schemas.registry(server.place, token="h@sh")  # noqa: S106
    other = serving()
    target = next(other)
    target.answers["GET /there"] = {"schema": ORDER}
    # An answer with the header Location
    moved = target.place.removesuffix("/apis") + "/there"
    server.do_GET = lambda self: (
        self.send_response(302),
        self.send_header("Location", moved),
        self.end_headers(),
    )
    assert registry.schema(7) == Schema("AVRO", ORDER, id=7)
    assert "Authorization" not in target.heads
    assert next(other, None) is None


def test_a_schema_comes_with_those_that_it_refers_to(server):
    def referring(name, *to):
        references = [
            {"name": each, "subject": f"{each}/v", "version": 2} for each in to
        ]
        return {"schema": name, "schemaType": "PROTOBUF", "references": references}

    server.answers = {
        "GET /apis/schemas/ids/7": referring("order", "shop", "place"),
        "GET /apis/subjects/shop%2Fv/versions/2": referring("shop", "place"),
        "GET /apis/subjects/place%2Fv/versions/2": referring("place"),
    }
    schema = Registry(server.place).schema(7)
    assert schema is not None
    assert (schema.kind, schema.text, schema.id) == ("PROTOBUF", "order", 7)
    texts = {name: each.text for name, each in schema.imported().items()}
    assert list(texts.items()) == [("place", "place"), ("shop", "shop")]
    del server.answers["GET /apis/subjects/place%2Fv/versions/2"]
    server.answers["GET /apis/schemas/ids/8"] = referring("order", "place")
    with pytest.raises(KitError, match="schema 8: it refers to version 2 of place/v$"):
        Registry(server.place).schema(8)


def test_a_subject_has_versions(server):
    answer = {"subject": "s", "version": 3, "id": 9, "schema": ORDER}
    server.answers["GET /apis/subjects/s-value/versions/latest"] = answer
    registry = Registry(server.place)
    assert registry.latest("s-value") == Schema("AVRO", ORDER, id=9, version=3)
    assert registry.latest("other") is None


def test_a_schema_is_looked_up_registered_and_compared(server):
    registry = Registry(server.place)
    schema = Schema("PROTOBUF", "order", (Reference("shop", "shop-value", 2),))
    sent = {
        "schemaType": "PROTOBUF",
        "schema": "order",
        "references": [{"name": "shop", "subject": "shop-value", "version": 2}],
    }
    compared = "POST /apis/compatibility/subjects/a%20b/versions?verbose=true"
    assert registry.look_up("a b", schema) is None
    assert registry.compatible("a b", schema) == []
    server.answers = {
        "POST /apis/subjects/a%20b": {"subject": "a b", "id": 4},
        "POST /apis/subjects/a%20b/versions": {"id": 5},
        compared: {"is_compatible": False, "messages": ["field shop is gone"]},
    }
    assert registry.look_up("a b", schema) == 4
    assert registry.register("a b", schema) == 5
    assert registry.compatible("a b", schema) == ["field shop is gone"]
    assert [content for _, content in server.asked] == [sent] * 5
    assert server.heads["Content-Type"] == "application/vnd.schemaregistry.v1+json"
    server.answers[compared] = {"is_compatible": False}
    assert registry.compatible("a b", schema) == ["the registry does not say why"]
    server.answers[compared] = {"is_compatible": True, "messages": []}
    assert registry.compatible("a b", schema) == []


REFUSED = {
    "a login": (401, b"", "; give user= and password=, token=, or certificate="),
    "a right": (403, b"", "; give user= and password=, token=, or certificate="),
    "a schema that breaks readers": (409, {"message": "no\n way"}, ": no way"),
    "a schema that cannot be read": (422, b"<html>", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_registry_refuses_is_one_line_at_once(server, case):
    code, answer, why = REFUSED[case]
    server.answers["POST /apis/subjects/s/versions"] = (code, answer)
    with pytest.raises(InvalidInputError) as caught:
        Registry(server.place).register("s", Schema("AVRO", ORDER))
    said = str(caught.value)
    assert said.startswith(
        f"schema registry {server.place} does not register a schema of s: HTTP Error {code}: "
    )
    assert said.endswith(why)
    assert "\n" not in said
    assert len(server.asked) == 1


def test_another_server_is_no_registry_that_knows_nothing(server):
    """A wrong path would make each record bad."""
    server.answers["GET /apis/schemas/ids/7"] = (404, b"<html>not found</html>")
    server.answers["GET /apis/schemas/ids/8"] = (404, {"error_code": 404})
    for number in (7, 8):
        with pytest.raises(KitError, match=f"no schema {number}: HTTP Error 404"):
            Registry(server.place).schema(number)


def test_an_answer_without_a_schema_is_an_error_that_names_the_registry(server):
    answers: dict[int, tuple[Any, str]] = {
        1: (b"no JSON", "Expecting value: line 1 column 1 (char 0)"),
        2: ({}, "'schema'"),
        3: ((200, []), "its answer is no JSON object"),
        4: ({"schema": None}, "its schema is no text"),
        5: ({"schema": ORDER, "references": [{}]}, "'name'"),
    }
    for number, (answer, why) in answers.items():
        server.answers[f"GET /apis/schemas/ids/{number}"] = answer
        with pytest.raises(KitError) as caught:
            Registry(server.place).schema(number)
        said = f"schema registry {server.place} gives no schema {number}: {why}"
        assert str(caught.value) == said
    server.answers["POST /apis/subjects/s/versions"] = {"id": "1"}
    with pytest.raises(KitError, match="its answer has no id"):
        Registry(server.place).register("s", Schema("AVRO", ORDER))


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_registry_that_is_away_is_asked_again(server, code):
    server.answers["GET /apis/schemas/ids/7"] = [(code, b"")] * 3 + [{"schema": ORDER}]
    schema = Registry(server.place).schema(7)
    assert schema == Schema("AVRO", ORDER, id=7)
    assert len(server.asked) == 4


def test_a_registry_that_stays_away_is_an_error_that_may_pass(server, free_port):
    server.answers["GET /apis/schemas/ids/7"] = (503, b"")
    with pytest.raises(TransientError, match="gives no schema 7: HTTP Error 503"):
        Registry(server.place, wait=0.2).schema(7)
    assert 2 < len(server.asked) < 8  # pauses double: 0.01, 0.02, 0.04, 0.08
    gone = Registry(f"http://127.0.0.1:{free_port}", wait=0)
    with pytest.raises(TransientError, match="Connection refused"):
        gone.schema(7)


def test_a_registry_behind_a_proxy_that_hangs_up_is_away(free_port):
    def hang_up(listener):
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.close()

    with socket.create_server(("127.0.0.1", free_port)) as listener:
        proxy = threading.Thread(target=hang_up, args=(listener,))
        proxy.start()
        with pytest.raises(TransientError, match="gives no schema 7"):
            Registry(f"https://127.0.0.1:{free_port}", wait=0.2).schema(7)
        listener.shutdown(socket.SHUT_RDWR)
        proxy.join()


def test_an_id_is_asked_for_once_and_again_if_it_was_unknown(server, monkeypatch):
    server.answers["GET /apis/schemas/ids/7"] = {"schema": ORDER}
    registry = Registry(server.place)
    for _ in range(2):
        assert registry.schema(7) is not None
        assert registry.schema(9) is None
    assert len(server.asked) == 2
    other = schemas.registry(server.place, token="another")  # noqa: S106
    assert other.schema(7) is not None
    assert len(server.asked) == 3
    # After a minute
    monkeypatch.setattr(client, "_AGAIN", 0.0)
    assert registry.schema(8) is None
    server.answers["GET /apis/schemas/ids/8"] = {"schema": "string"}
    assert registry.schema(8) == Schema("AVRO", "string", id=8)


def test_damaged_records_do_not_fill_the_memory(server, monkeypatch):
    monkeypatch.setattr(client, "_MOST", 3)
    known = []
    for number in range(7):
        Registry(server.place).schema(number)
        known.append(len(client._answers))  # noqa: SLF001
    assert known == [1, 2, 3, 1, 2, 3, 1]


# --- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with a certificate of the server and one of a user, each with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "user"):
        command = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt"
        command += f" ec_paramgen_curve:prime256v1 -subj /CN={name}"
        command += " -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            [*command.split(), *files], cwd=folder, check=True, capture_output=True
        )
    return folder


@pytest.fixture
def secure(certificates):
    """A server with TLS, which lets in whoever has the certificate of the user."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.load_verify_locations(certificates / "user.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    for handler in serving(context):
        handler.answers["GET /apis/schemas/ids/7"] = {"schema": ORDER}
        yield handler


def test_a_registry_is_trusted_and_logged_in_to_by_certificates(secure, certificates):
    files = {
        "ca": certificates / "server.pem",
        "certificate": certificates / "user.pem",
        "key": certificates / "user.key",
    }
    registry = schemas.registry(secure.place, **files)
    # As a worker on another machine has it, which has no such files
    again = pickle.loads(pickle.dumps(registry))  # noqa: S301 - of this test
    assert again.schema(7) == Schema("AVRO", ORDER, id=7)
    assert "KEY" not in repr(registry)
    both = certificates / "both.pem"
    both.write_text("".join(files[name].read_text() for name in ("certificate", "key")))
    one = schemas.registry(secure.place, ca=files["ca"], certificate=both)
    assert one.schema(7) is not None


def test_a_registry_that_nobody_vouches_for_gets_no_request(secure, certificates):
    own = certificates / "user.pem", certificates / "user.key"
    registry = schemas.registry(secure.place, certificate=own[0], key=own[1], token="x")  # noqa: S106
    with pytest.raises(
        InvalidInputError, match="give the certificates to trust as ca="
    ):
        registry.schema(7)
    assert secure.asked == []


def test_without_the_own_certificate_nobody_is_let_in(secure, certificates):
    registry = schemas.registry(secure.place, ca=certificates / "server.pem", wait=0)
    with pytest.raises(KitError, match="gives no schema 7"):
        registry.schema(7)
    assert secure.asked == []
