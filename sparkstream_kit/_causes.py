"""The innermost cause of a failure of Spark, on one line."""

from __future__ import annotations

import re
from typing import Any

from sparkstream_kit.errors import hint

_NO_SOURCE = re.compile(r"Failed to find (?:the )?data source: ([^\s,]+?)\.(?:\s|$)")
_OWN_SOURCES = ("console", "csv", "json", "memory", "noop", "orc", "parquet", "rate", "socket", "text", "xml")
# Spark's own come in Spark's version, others in one of theirs.
_PACKAGES = {
    "avro": "org.apache.spark:spark-avro_2.13:{}",
    "delta": "io.delta:delta-spark_2.13:VERSION",
    "kafka": "org.apache.spark:spark-sql-kafka-0-10_2.13:{}",
    "mongodb": "org.mongodb.spark:mongo-spark-connector_2.13:VERSION",
}

_TRACEBACK = "Traceback (most recent call last):"
_RAISED_IN_SQL = re.compile(r"^\w+: \[USER_RAISED_EXCEPTION\] (.*?)( SQLSTATE: \w+)?$")
_JAVA_CAUSE = re.compile(r"^(?:: |Caused by: )(?:[\w$]+\.)*([\w$]+(?:: .*)?)$", re.MULTILINE)
# What Java and Spark's scripts say of every start that fails, beside the cause.
_SAYS_NOTHING = re.compile(
    r"^Error occurred during initialization of VM|^Error: Could not create the Java Virtual Machine|"
    r"^Error: A fatal exception has occurred|CMD: bad array subscript"
)


def innermost(error: BaseException) -> str:
    """Return the innermost cause of a failed query or batch, such as `ValueError: no such shop`."""
    # PySpark keeps the cause in `_cause`, and the Java exception in `_origin`; py4j in `java_exception`.
    while (inner := getattr(error, "_cause", None)) is not None:
        error = inner
    java: Any = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    if java is None:
        text = str(error)
        # PySpark's text of an exception that it has no class for begins with that of Java.
        return one_line(
            text if re.match(r"[\w.$]+(Error|Exception): ", text) else f"{type(error).__name__}: {text}"
        )
    while java.getCause() is not None:
        java = java.getCause()
    return one_line(f"{java.getClass().getSimpleName()}: {java.getMessage() or 'no message'}")


def missing_source(error: BaseException) -> str | None:
    """Return a line that says what to install, if an error is that Spark does not have a data source.

    Example:
        >>> missing_source(ValueError("Failed to find the data source: parqet. Make sure the provider …"))
        'Spark has no data source parqet; did you mean parquet?'
    """
    found = _NO_SOURCE.search(str(error))
    if found is None:
        return None
    name = found[1]
    said = f"Spark has no data source {name}"
    if near := hint(name, _OWN_SOURCES):
        return said + near
    import pyspark  # loaded: the error is Spark's

    package = _PACKAGES.get(name.lower(), "ITS-PACKAGE").format(pyspark.__version__)
    return (
        f"{said}; launch with spark-submit --packages {package}, or give get_session(…, "
        f"conf={{'spark.jars.packages': '{package}'}}) before Spark runs"
    )


def one_line(text: str) -> str:
    r"""Return the line of `text` that says what went wrong: of a Python traceback, its last.

    Example:
        >>> one_line("PythonException: Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\tat y")
        "KeyError: 'a'"
        >>> one_line(
        ...     "Traceback (most recent call last):\npy4j.protocol.Py4JJavaError: o1.save\n"
        ...     ": org.apache.spark.SparkException: failed\nCaused by: java.io.IOException: No space left"
        ... )
        'IOException: No space left'
        >>> one_line("SparkRuntimeException: [USER_RAISED_EXCEPTION] no such shop SQLSTATE: P0001")
        'no such shop'
    """
    if _TRACEBACK in text:
        text = text.rpartition(_TRACEBACK)[2]
        # A call into the JVM that PySpark has no class for: what Java said stands below py4j's own line.
        if from_java := _JAVA_CAUSE.findall(text):
            return str(from_java[-1]).strip()
        lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    else:
        lines = [line for line in text.splitlines() if line.strip()]
    return _RAISED_IN_SQL.sub(r"\1", lines[0].strip()) if lines else text.strip()


def of_log(text: str) -> str:
    r"""Return the line of a log that says most: the innermost cause, the first error, or the last line.

    Example:
        >>> of_log("ERROR Server: Error at its start\njava.lang.IllegalStateException: no port\n\tat x")
        'IllegalStateException: no port'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _SAYS_NOTHING.search(line)]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    thrown = [line for line in lines if re.match(r"([\w$]+\.)+[\w$]*(Error|Exception)\b", line)]
    errors = [line for line in lines if re.search(r"Error|Exception|error:|not found", line)]
    said = next(iter([*causes[-1:], *thrown[:1], *errors[:1], *lines[-1:]]), "without a word")
    return re.sub(r'^(Exception in thread "[^"]*" )?(\w+\.)*(?=\w+(Error|Exception)\b)', "", said)


def unknown_host(host: str) -> str:
    """Return a line that says that no name service knows a host."""
    return f"unknown host {host}; correct the name, or give the address"


def nobody_listens(address: str) -> str:
    """Return a line that says that a connection to `host:port` was refused.

    Example:
        >>> nobody_listens("localhost:9999")
        'connection refused: nothing listens on localhost:9999; start the server first, such as nc -lk 9999'
    """
    port = address.rpartition(":")[2]
    return f"connection refused: nothing listens on {address}; start the server first, such as nc -lk {port}"
