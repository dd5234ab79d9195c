"""The sockets of running queries: which there are, and whether Spark still reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pyspark import SparkContext

from sparkstream_kit._spark.plan import inputs_in
from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import nobody_listens, unknown_host
from sparkstream_kit.profiles import is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery


def addresses(query: StreamingQuery, progress: StreamingQueryProgress | None = None) -> list[tuple[str, int]]:
    """Return host and port of each socket that a query reads; on Connect, by a progress of it."""
    if not hasattr(query, "_jsq"):
        return _said(" ".join(source.description for source in progress.sources) if progress else "")
    read = [
        each.options
        for each in inputs_in(query._jsq.streamingQuery().analyzedPlan())
        if each.kind == "socket"
    ]
    return [(options["host"], int(options["port"])) for options in read]


def _said(text: str) -> list[tuple[str, int]]:
    """Return the addresses in Spark's descriptions of its sources."""
    found = re.findall(r"TextSocketV2\[host: (\S+), port: (\d+)\]", text)
    return [(host, int(port)) for host, port in dict.fromkeys(found)]


def is_being_read(spark: SparkSession | None, of: list[tuple[str, int]]) -> bool:
    """Say whether Spark still reads one of these sockets; call it once the first batch is through.

    Spark's reader is a JVM thread that ends when the peer has closed. The port itself is not asked: a
    server may serve one client only. The JVM of this process needs no session to be asked.
    """
    if spark is None or not is_connect(spark):
        jvm: Any = SparkContext._jvm
        threads = jvm.java.lang.Thread.getAllStackTraces().keySet().toString()
    elif is_local(str(spark.conf.get("spark.master", None))):
        # A query is run by the JVM that has the threads, where it is its own executor.
        threads = spark.sql("SELECT reflect('java.lang.Thread', 'getAllStackTraces')").collect()[0][0]
    else:
        return True
    return any(f"TextSocketSource({host}, {port})" in threads for host, port in of)


def unavailable(query: StreamingQuery, failure: str) -> str | None:
    """Return a line that says why a query could not connect to its socket; None for any other failure.

    Args:
        query: the query.
        failure: what Spark says of the failure.
    """
    found = re.search(
        r"^(?:Caused by: )?java\.net\.(Connect|UnknownHost|NoRouteToHost)Exception\b", failure, re.MULTILINE
    )
    peers = addresses(query) or _said(failure)
    if not peers or found is None:
        return None
    host, port = peers[0]
    if found[1] == "Connect":
        return nobody_listens(f"{host}:{port}")
    if found[1] == "UnknownHost":
        return unknown_host(host)
    return f"no route to host {host}; check its address"
