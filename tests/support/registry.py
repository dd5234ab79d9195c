"""A schema registry in the memory of a test, with the part of Confluent's API that the kit asks."""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit


def breaks(former, new):
    """Return why records of the former schema cannot be read with the new one, as BACKWARD asks.

    Only the fields of the record itself are compared.
    """
    old = {each["name"]: each["type"] for each in json.loads(former).get("fields", ())}
    found = []
    for each in json.loads(new).get("fields", ()):
        name = each["name"]
        if name not in old and "default" not in each:
            found.append(f"READER_FIELD_MISSING_DEFAULT_VALUE: {name}")
        if name in old and old[name] != each["type"]:
            found.append(f"TYPE_MISMATCH: {name}")
    return found


class _Handler(BaseHTTPRequestHandler):
    known: SimpleNamespace

    def do_GET(self):
        self.known.logins.append(self.headers["Authorization"])
        path = urlsplit(self.path).path
        by_id = re.fullmatch(r"/schemas/ids/(\d+)", path)
        if by_id:
            number = int(by_id[1])
            if 0 < number <= len(self.known.schemas):
                self.say(200, self.shown(number))
            else:
                self.say(404, {"error_code": 40403})
            return
        subject = unquote(path.split("/")[2])
        versions = self.known.subjects.get(subject)
        if versions:
            shown = {**self.shown(versions[-1]), "id": versions[-1]}
            self.say(200, {**shown, "version": len(versions)})
        else:
            self.say(404, {"error_code": 40401})

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        sent = json.loads(self.rfile.read(size))
        schema = (sent.get("schemaType", "AVRO"), sent["schema"])
        parts = urlsplit(self.path).path.split("/")
        subject = unquote(parts[parts.index("subjects") + 1])
        versions = self.known.subjects.get(subject, [])
        if parts[1] == "compatibility":
            found = []
            if versions:
                found = breaks(self.known.schemas[versions[-1] - 1][1], schema[1])
            self.say(200, {"is_compatible": not found, "messages": found})
        elif parts[-1] == "versions":
            self.known.registered.append(subject)
            if schema not in self.known.schemas:
                self.known.schemas.append(schema)
            number = self.known.schemas.index(schema) + 1
            self.known.subjects.setdefault(subject, []).append(number)
            self.say(200, {"id": number})
        else:
            ids = [n for n in versions if self.known.schemas[n - 1] == schema]
            if ids:
                self.say(200, {"id": ids[0]})
            else:
                self.say(404, {"error_code": 40403})

    def shown(self, number):
        kind, text = self.known.schemas[number - 1]
        return {"schemaType": kind, "schema": text}

    def say(self, code, value):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


@contextmanager
def running():
    """Run a registry, with BACKWARD compatibility of Avro.

    Yields:
        Its `address`; its `schemas`, each a kind and a text, the first with id 1; its
        `subjects`, with the ids of their versions; the subjects of which something was
        `registered`, one for each request; and the `logins` of requests that read.
    """
    known = SimpleNamespace(schemas=[], subjects={}, registered=[], logins=[])
    handler = type("Handler", (_Handler,), {"known": known})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        known.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield known
        server.shutdown()
        thread.join()
