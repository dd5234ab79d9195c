"""Answer questions about a session: on its kind, classic or Spark Connect, and on its settings.

`is_connect` is the basic one, and `may_ask` says whether Spark answers questions at
all. The functions after them name the consequence that a caller needs, such as where
output is printed (`on_server`) or whose files a path means (`server_folder`), so that
callers do not depend on the kind of session itself.

`active` makes a session the active one of a thread, and `as_schema` reads DDL with a
session's settings. `in_force` and `put_settings` change runtime settings.
`same_setting` compares two values of a setting, and `shown_setting` formats one for a
message and hides its secrets.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark import SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from sparkstream_kit._internal.spark import FOLDER_KEY
from sparkstream_kit.errors import (
    InvalidInputError,
    hint,
    said_by_spark,
    without_secrets,
)

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping

# PySpark's loggers that print a stack trace for each error that it raises as an
# exception anyway.
CONTEXT_LOGGERS = ("DataFrameQueryContextLogger", "SQLQueryContextLogger")
# Lists that Spark itself extends: for example, it adds the files of
# `spark.jars.packages` to `spark.jars`.
_GROWING = ("spark.archives", "spark.files", "spark.jars", "spark.submit.pyFiles")
# spark.redaction.regex
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
_folders: dict[str, Path | None] = {}  # a cache of `server_folder`, by session id


def is_connect(made: object) -> bool:
    """Return whether an object is of Spark Connect, where this process cannot reach the JVM.

    Args:
        made: a session, or an object made from one, such as a DataFrame or a
            DataStreamWriter.
    """
    return ".connect." in type(made).__module__


def may_ask(spark: Any) -> bool:
    """Return whether Spark answers questions, such as which columns a DataFrame has.

    It does not in a function of a pipeline (`pyspark.pipelines`), which only builds a
    plan: the client then names the function's flow in each request, and the server
    refuses the request. Settings of the session may be read there, too.
    """
    if not is_connect(spark):
        return True
    client = spark.client
    of_thread = getattr(client.thread_local, "user_context_extensions", [])
    extensions = [*client.global_user_context_extensions, *of_thread]
    return not any(_names_a_flow(extension) for _, extension in extensions)


def _names_a_flow(extension: Any) -> bool:
    """Return whether a part of the context that a client sends names a flow of a pipeline.

    In the file of a pipeline, above its functions, the context names the pipeline alone.
    """
    from pyspark.sql.connect import proto

    context = proto.PipelineAnalysisContext()
    if not extension.Unpack(context):
        return False
    return any(field.name.startswith("flow") for field, _ in context.ListFields())


def timestamp_type(spark: Any) -> T.DataType:
    """Return the type that TIMESTAMP stands for in a session."""
    setting = spark.conf.get("spark.sql.timestampType", "TIMESTAMP_LTZ")
    if str(setting).upper() == "TIMESTAMP_NTZ":
        return T.TimestampNTZType()
    return T.TimestampType()


def java(spark: Any) -> Any:
    """Return a classic session's JVM, for a connector's Java classes; None on Spark Connect."""
    if is_connect(spark):
        return None
    return spark._jvm


def current() -> Any:
    """Return the Spark Connect session of any thread of this process; None if it has none."""
    if "pyspark.sql.connect.session" not in sys.modules:
        return None
    from pyspark.sql.connect.session import SparkSession

    return SparkSession.getActiveSession() or SparkSession._get_default_session()


def endpoint(running: Any) -> str:
    """Return the address, `host:port`, of a Spark Connect session's server."""
    return str(running.client._builder.endpoint)


def runs() -> bool:
    """Return whether this process already has a session of either kind."""
    return runs_here() or current() is not None


def runs_here() -> bool:
    """Return whether this process has a classic session, with a JVM of its own."""
    return SparkContext._active_spark_context is not None


def has_ended(spark: Any) -> bool:
    """Return whether a session has been stopped."""
    if is_connect(spark):
        return bool(spark.is_stopped)
    return spark.sparkContext._jsc is None


def jvm_runs() -> bool:
    """Return whether a JVM already runs, as under spark-submit; it takes no more packages."""
    return SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ


def end_jvm() -> None:
    """End the JVM that this process has started, and wait until it has ended."""
    gateway: Any = SparkContext._gateway
    gateway.proc.stdin.close()
    gateway.proc.wait()


def identity(spark: Any) -> str:
    """Return an id that is unique among the sessions of this process."""
    if is_connect(spark):
        return str(spark.session_id)
    return str(spark.sparkContext.applicationId)


def refuse_former_patterns(what: str, spark: SparkSession) -> None:
    """Refuse a pattern of dates or times in a session that reads it in Spark 2's way.

    That way takes a day for `31.01.2026 x`, and has no microseconds.

    Args:
        what: what uses the pattern, for the message.
        spark: the session.

    Raises:
        InvalidInputError: the session has that setting.
    """
    setting = "spark.sql.legacy.timeParserPolicy"
    if str(spark.conf.get(setting, "CORRECTED")).upper() == "LEGACY":
        raise InvalidInputError(
            f"{what}: the session's {setting}=LEGACY takes patterns of dates and times"
            " in the way of Spark 2, which reads and writes other values; set it to"
            " CORRECTED"
        )


def other_master(spark: SparkSession) -> str | None:
    """Return the master's URL if it can have nodes on other machines; None for a local one."""
    master = spark.conf.get("spark.master", None) or "local"
    # The test includes local-cluster, whose nodes are all on this machine.
    if master.startswith("local"):
        return None
    return master


def scratch_folder(spark: SparkSession) -> str | None:
    """Return a folder on this machine that Spark removes when its JVM ends; None if none is known.

    It is made again if a cleaner of the temporary folder has removed it.
    """
    # Called in a batch function, so in a Python process of the server
    if is_connect(spark):
        return os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None
    folder = Path(spark.sparkContext._temp_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder)


def on_server(spark: SparkSession) -> bool:
    """Return whether a session's tables, settings, batch functions and output are on a server."""
    return is_connect(spark)


def web_page(spark: SparkSession) -> str | None:
    """Return the address of Spark's web page; None if it is off, or a Connect server's."""
    if is_connect(spark):
        return None
    return spark.sparkContext.uiWebUrl


def refuse_dstreams(spark: SparkSession) -> None:
    """Refuse a session that cannot run DStreams.

    Raises:
        InvalidInputError: the session is on Spark Connect.
    """
    if is_connect(spark):
        raise InvalidInputError(
            "DStreams need a Spark session of this process, and this one is on Spark"
            " Connect; unset SPARK_REMOTE"
        )


def server_folder(spark: Any) -> Path | None:
    """Return the folder of a session's server that `sparkstream serve` started on this machine.

    With such a server, a local path means the same file on both sides. Any other
    server, and a classic session, give None: another server has its own files.
    """
    if not is_connect(spark):
        return None
    session = str(spark.session_id)
    if session not in _folders:
        folder = spark.conf.get(FOLDER_KEY, None)
        # If the server is on another machine, the same path may be another folder here.
        # Only in the server's own folder is there a file for this session.
        is_here = folder and os.path.exists(f"{folder}/clients/{session}")  # noqa: PTH110 - also of another user
        # One assignment: another thread must not read a value that is not final
        _folders[session] = Path(folder) if is_here else None
    return _folders[session]


@contextmanager
def active(spark: Any) -> Iterator[None]:
    """Make a session the active one of this thread in a block, and then restore the former.

    Spark reads the text of a type, and prints a plan, with the settings of the thread's
    active session. A thread that has not created a session has none, and Spark then
    uses its own defaults. On Spark Connect the server does this for each request.
    """
    if is_connect(spark):
        yield
        return
    sessions = _sessions(spark)
    former = sessions.getActiveSession()
    sessions.setActiveSession(spark._jsparkSession)
    try:
        yield
    finally:
        if former.isDefined():
            sessions.setActiveSession(former.get())
        else:
            sessions.clearActiveSession()


def activate(spark: Any) -> None:
    """Make a session the active one of this thread, unless the thread has one that runs."""
    # The client of Spark Connect does it by itself
    if not is_connect(spark) and not _has_active(spark):
        _sessions(spark).setActiveSession(spark._jsparkSession)


def _sessions(spark: Any) -> Any:
    """Return the class in the JVM that knows the active session of each thread."""
    return spark._jvm.org.apache.spark.sql.classic.SparkSession


def _has_active(spark: Any) -> bool:
    """Return whether this thread has an active session that runs."""
    found = _sessions(spark).getActiveSession()
    return bool(found.isDefined()) and not found.get().sparkContext().isStopped()


def _types_of(ddl: str, spark: Any = None) -> T.DataType:
    """Return the type that a DDL text names, with the settings of a session, in any thread.

    Args:
        ddl: the text.
        spark: the session; None for the active session of the thread, or else for the
            first one of this process.
    """
    if spark is not None and is_connect(spark):
        kind: T.DataType = spark._parse_ddl(ddl)
        return kind
    if spark is None:
        first = SparkSession._instantiatedSession
        if first is None or has_ended(first) or _has_active(first):
            return T.DataType.fromDDL(ddl)
        spark = first
    with active(spark):
        return T.DataType.fromDDL(ddl)


def schema_of_ddl(ddl: str, spark: Any = None) -> T.StructType:
    """Make a schema from DDL text with a session's settings; without one as `schemas.from_ddl`."""
    schema = type_of_ddl(ddl, f"DDL {ddl!r}", spark)
    if not isinstance(schema, T.StructType) or not schema.fields:
        raise InvalidInputError(
            f"DDL {ddl!r} names no columns; write it like 'a INT, b DECIMAL(12,2)'"
        )
    return schema


def type_of_ddl(ddl: str, what: str, spark: Any = None) -> T.DataType:
    """Return the types that DDL text names; an error says what it is, such as "DDL 'a INT'"."""
    asked = current() if spark is None else spark
    if asked is not None and not may_ask(asked):
        return _type_without_spark(ddl, what, asked)
    try:
        return _types_of(ddl, spark)
    except PySparkRuntimeError as error:
        raise InvalidInputError(
            f"cannot read {what} without Spark; start a session first"
        ) from error
    except PySparkException as error:
        reason = said_by_spark(error)
        if ddl not in what:  # a position in a text that the user has not written
            reason = re.sub(r" \(line \d+, pos \d+\)", "", reason)
        raise InvalidInputError(
            f"cannot read {what}: {reason}{_hint_at(error, ddl)}"
        ) from error


def _type_without_spark(text: str, what: str, spark: Any) -> T.DataType:
    """Return the types that DDL text names, where Spark's parser may not be asked."""
    from sparkstream_kit._internal import ddl

    try:
        return ddl.read(text, timestamp_type(spark))
    except ddl.UnreadError as error:
        place = f" at {error.word!r}" if error.word else " at its end"
        raise InvalidInputError(
            f"cannot read {what}{place} in a function of a pipeline, where Spark may not"
            " be asked; make the schema above the function:"
            f" schemas.from_ddl(…){hint(error.word, _TYPES)}"
        ) from None


# The types that a user may misspell; INT and INTEGER are one type, as are TINYINT and
# BYTE.
_TYPES = (
    "ARRAY",
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "BYTE",
    "CHAR",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "LONG",
    "MAP",
    "NUMERIC",
    "SHORT",
    "SMALLINT",
    "STRING",
    "STRUCT",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TIMESTAMP_NTZ",
    "TINYINT",
    "VARCHAR",
    "VARIANT",
)


def _hint_at(error: PySparkException, ddl: str) -> str:
    """Return what may be wrong with DDL that Spark cannot read, beginning with a semicolon."""
    unknown = re.search(r'Unsupported data type "(\w+)', str(error))
    if unknown:
        return hint(unknown[1], _TYPES)
    # In `unit price INT` and in `unit.price INT`, Spark stops at the type or at the
    # sign.
    stopped_at = re.search(r"at or near '(\w+|[^\w,:()<>])'", str(error))
    if stopped_at and (stopped_at[1].upper() in _TYPES or not stopped_at[1].isalnum()):
        return "; write a name with blanks or signs in backticks: `unit price` INT"
    if re.fullmatch(r"\s*\w+\s*(,\s*\w+\s*)*", ddl):
        return "; write a type behind each name: 'a INT, b DECIMAL(12,2)'"
    kind = rf"({'|'.join(_TYPES)})\b(\([\d\s,]*\))?"
    if re.search(rf"(?i)\b{kind}\s+\w+\s+{kind}", ddl):
        return "; write a comma between two columns: 'a INT, b DECIMAL(12,2)'"
    return ""


def as_schema(given: T.StructType | str, spark: Any = None) -> T.StructType:
    """Return a schema given as StructType or DDL; a session names the types in DDL.

    Without a session DDL is read as by `schemas.from_ddl`.
    """
    if isinstance(given, str):
        return schema_of_ddl(given, spark)
    return given


class _Block:
    """A block of `in_force`.

    Attributes:
        wanted: its settings.
        alone: whether no other thread may have a block of this session meanwhile.
        thread: the thread that is in the block.
    """

    def __init__(self, wanted: Mapping[str, str | None], *, alone: bool) -> None:
        self.wanted = wanted
        self.alone = alone
        self.thread = threading.get_ident()

    def waits_for(self, other: _Block) -> bool:
        """Return whether this block can begin only after another one has ended."""
        if other.thread == self.thread:
            return False
        shared = self.wanted.keys() & other.wanted.keys()
        differs = any(self.wanted[key] != other.wanted[key] for key in shared)
        return self.alone or other.alone or differs


class _Settings:
    """The settings of one session that blocks of `in_force` have changed.

    Attributes:
        blocks: the blocks in force, in the order in which they began.
        former: the value before the first of these blocks, for each of their keys.
    """

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self.former: dict[str, str | None] = {}

    def begin(self, spark: SparkSession, block: _Block) -> None:
        """Apply the settings of a block."""
        for key, value in put_settings(spark, block.wanted).items():
            self.former.setdefault(key, value)
        self.blocks.append(block)

    def end(self, spark: SparkSession, block: _Block) -> None:
        """Restore the settings of a block that no other block still needs."""
        self.blocks.remove(block)
        restored: dict[str, str | None] = {}
        for key, value in block.wanted.items():
            others = [each.wanted[key] for each in self.blocks if key in each.wanted]
            if others:
                before = others[-1]
            else:
                before = self.former.pop(key)
            # If not, other code has changed it meanwhile
            if spark.conf.get(key, None) == value:
                restored[key] = before
        _apply(spark, restored)


# Held while a block of `in_force` begins or ends, in any session
_changing = threading.Condition()
# By `settings_id`, for the sessions that have a block in force
_changed: dict[str, _Settings] = {}


def settings_id(spark: Any) -> str:
    """Return the id of a session and its settings; `spark.newSession()` has another one."""
    if is_connect(spark):
        return str(spark.session_id)
    return str(spark._jsparkSession.sessionUUID())


@contextmanager
def in_force(
    spark: SparkSession, wanted: Mapping[str, str | None], *, alone: bool = False
) -> Iterator[None]:
    """Apply settings to a session within a block, and restore the former ones afterwards.

    The blocks of several threads can overlap: a setting is restored when the last block
    that needs it has ended. A block waits while a block of another thread gives one of
    its settings another value.

    Args:
        spark: the session.
        wanted: the settings by key; None stands for Spark's default.
        alone: wait until no other thread has a block of this session, and keep them
            waiting: what begins in the block must not take their settings over, as a
            query that starts would.
    """
    session = settings_id(spark)
    block = _Block(dict(wanted), alone=alone)

    def can_begin() -> bool:
        if session not in _changed:
            return True
        return not any(map(block.waits_for, _changed[session].blocks))

    with _changing:
        _changing.wait_for(can_begin)
        settings = _changed.get(session, _Settings())
        settings.begin(spark, block)
        _changed[session] = settings
    try:
        yield
    finally:
        with _changing:
            try:
                settings.end(spark, block)
            finally:
                if not settings.blocks:
                    del _changed[session]
                _changing.notify_all()


@contextmanager
def without_logged_errors() -> Iterator[None]:
    """Within a block, keep PySpark from logging this thread's errors and their Java stacks.

    PySpark raises these errors, too. `silence_jvm` does the same for a session that the
    kit has launched; a session of Connect may be another's.
    """
    thread = threading.get_ident()

    def is_of_another(record: logging.LogRecord) -> bool:
        return record.thread != thread

    loggers = [PySparkLogger.getLogger(name) for name in CONTEXT_LOGGERS]
    for logger in loggers:
        logger.addFilter(is_of_another)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_of_another)


def put_settings(
    spark: SparkSession, settings: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Apply settings to a session, and return the former values of these settings.

    Args:
        spark: the session.
        settings: the settings by key; None stands for Spark's default.

    Returns:
        The former values by key; None for a setting that was not set.

    Raises:
        InvalidInputError: Spark cannot read a value. The former settings have been
            restored.
    """
    former = {key: spark.conf.get(key, None) for key in settings}
    try:
        _apply(spark, settings)
    except PySparkException as err:
        _apply(spark, former)
        raise InvalidInputError(f"{said_by_spark(err)}; correct that setting") from err
    return former


def _apply(spark: SparkSession, settings: Mapping[str, str | None]) -> None:
    for key, value in settings.items():
        if value is None:
            spark.conf.unset(key)
        else:
            spark.conf.set(key, value)


def same_setting(key: str, value: str, actual: str) -> bool:
    """Return whether a setting has the wanted value in Spark: the same text, or the same paths.

    Spark writes paths in a form of its own, such as file:///opt/a%20b.jar.

    Examples:
        >>> same_setting("spark.jars", "/opt/a.jar", "file:///opt/a.jar,file:///opt/b.jar")
        True
    """
    own = _paths_in(value)
    other = _paths_in(actual)
    if key in _GROWING:
        return own <= other
    return own == other


def _paths_in(text: str) -> set[str]:
    """Return the paths in a list with commas, in a form in which they can be compared."""
    plain = [re.sub("^file:(//)?(?=/)", "", path.strip()) for path in text.split(",")]
    return {os.path.realpath(unquote(path)) for path in plain}


def shown_setting(key: str, value: str) -> str:
    """Format a setting as `key=value` for a message, with its secrets hidden.

    Examples:
        >>> shown_setting("spark.hadoop.fs.s3a.secret.key", "XYZ")
        'spark.hadoop.fs.s3a.secret.key=(hidden)'
    """
    return f"{key}={shown_value(key, value)}"


def shown_value(key: str, value: str) -> str:
    """Return the value of a setting for a message, with its secrets hidden."""
    if _SECRET.search(key):
        return "(hidden)"
    return without_secrets(value)
