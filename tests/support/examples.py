"""Runs docstring examples that need a session, in an empty folder; ends with 1 if one fails.

python examples.py NAME…, such as sources.csv; each example has the names that it uses,
of a kind that fits.
"""

import importlib
import inspect
import pkgutil
import shutil
import socketserver
import sys
import textwrap
import threading
import traceback
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path

from pyspark.sql import functions as F
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

import sparkstream_kit
from sparkstream_kit import (
    get_session,
    models,
    quarantine,
    run,
    sinks,
    sources,
    spark_session,
    start,
    windows,
)

MODULES = [
    room.name
    for room in pkgutil.iter_modules(sparkstream_kit.__path__)
    if room.name[0] != "_"
]
FILES = {
    "incoming/1.csv": "tea,2\nink,1\n",
    "samples/1.csv": "product,amount\ntea,2\n",
    "events/1.json": '{"time": "2026-01-14T09:00:00Z", "action": "Open"}\n',
    "logs/1.log": '10.0.0.1 - - [14/Jan/2026:09:00:00 +0000] "GET / HTTP/1.0" 200 12\n',
    "orders.odcs.yaml": (
        "{apiVersion: v3.1.0, kind: DataContract, id: a, schema: [{name: orders,"
        " properties: [{name: product, logicalType: string, required: true}]}]}"
    ),
    "actions.csv": "time,action\n2026-01-14T09:00:00Z,Open\n",
}


class Words(socketserver.StreamRequestHandler):
    """Sends each client a few words, and stays until it goes."""

    def handle(self):
        self.wfile.write(b"tea ink\ntea\n")
        self.rfile.read()


def stream(spark, watermark=None, **columns):
    """Return a stream of columns, by SQL; `timestamp` and `value` are there."""
    rows = sources.rate(spark).selectExpr(
        *(f"{sql} AS {name}" for name, sql in columns.items())
    )
    return (
        windows.with_watermark(rows, watermark, "1 minute", ahead=None)
        if watermark
        else rows
    )


def prepared(spark):
    """Return the names that examples use, after making the files that they read.

    A table and a model are made, too.
    """
    for name, text in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    spark.sql("SELECT 'tea' AS product, 5 AS total").write.saveAsTable("sales")
    spam = make_pipeline(HashingVectorizer(n_features=8), SGDClassifier()).fit(
        ["a", "b"], ["ham", "spam"]
    )
    models.publish(spam, "models/spam", version="000001")

    lines = sources.text(spark, "incoming")
    query = start(
        lines, sinks.console(), name="kept", checkpoint="kept/sales", availableNow=True
    )
    summary = run(query)
    sold = {
        "product": "'tea'",
        "merchant": "'m'",
        "shop": "'a'",
        "amount": "2",
        "time": "timestamp",
    }
    measured = {"device": "'d'", "card": "'c'", "time": "timestamp"}
    values = dict.fromkeys(("temperature", "lat", "lon"), "CAST(value AS DOUBLE)")
    readings = stream(spark, "time", **measured, **values)
    merchants = spark.sql("SELECT 'm' AS merchant, 'x' AS city")
    parser = ArgumentParser()
    for flag in ("--window", "--slide"):
        parser.add_argument(flag, type=float)
    return {
        **{
            name: importlib.import_module(f"sparkstream_kit.{name}") for name in MODULES
        },
        "F": F,
        "sys": sys,
        "Decimal": Decimal,
        "run": run,
        "start": start,
        "spark_session": spark_session,
        "spark": spark,
        "lines": lines,
        "query": query,
        "summary": summary,
        "parser": parser,
        "sales": stream(spark, **sold, key="'k'"),
        "table": spark.table("sales"),
        "merchants": merchants,
        "readings": readings,
        "timely": readings,
        "payments": readings,
        "read": lambda _: merchants,
        "orders": stream(spark, "time", product="'tea'", time="timestamp"),
        "prices": stream(
            spark, "time", product="'tea'", time="timestamp", price="value"
        ),
        "views": stream(spark, "shown_at", ad_id="'a'", shown_at="timestamp"),
        "clicks": stream(spark, "clicked_at", ad_id="'a'", clicked_at="timestamp"),
        "events": stream(spark, event_id="'e'", action="'Open'", time="timestamp"),
        "posts": stream(spark, text="'hello'", label="'ham'"),
        "rows": quarantine.parse_csv(lines, "product STRING, price INT"),
    }


def main(names):
    """Run each example with names of its own, and no query or checkpoint of another."""
    spark = get_session("examples", conf={"spark.master": "local[2]"})
    given = prepared(spark)
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Words)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port, failed = str(server.server_address[1]), 0
    for name in names:
        module, _, call = name.rpartition(".")
        found = getattr(
            importlib.import_module(f"sparkstream_kit.{module}".rstrip(".")), call
        )
        code = textwrap.dedent(
            (inspect.getdoc(found) or "").partition("In a session::\n\n")[2]
        )
        code = code.replace("9999", port).replace("run_for=20", "run_for=2")
        shutil.rmtree("ckpt", ignore_errors=True)
        shutil.copytree("kept", "ckpt") if '"ckpt/' in code else None
        own = {**vars(inspect.getmodule(found)), **given}
        try:
            exec(compile(code, name, "exec"), own)  # noqa: S102 - our own docstrings
            for query in spark.streams.active:
                query.stop()
        except SystemExit as ended:
            failed += ended.code != 0
        except Exception:  # noqa: BLE001 - each is printed, and counted
            failed += 1
            sys.stderr.write(f"== {name}\n{code}\n{traceback.format_exc(limit=-3)}\n")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
