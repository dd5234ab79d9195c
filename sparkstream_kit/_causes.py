"""The innermost cause of a failure of Spark, on one line."""

from __future__ import annotations

import re
from typing import Any

_TRACEBACK = "Traceback (most recent call last):"
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
    """
    if _TRACEBACK in text:
        text = text.rpartition(_TRACEBACK)[2]
        # A call into the JVM that PySpark has no class for: what Java said stands below py4j's own line.
        if from_java := _JAVA_CAUSE.findall(text):
            return str(from_java[-1]).strip()
        lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    else:
        lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip() if lines else text.strip()


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
