"""Which kind of session it is, and what follows from that: where its files are and where it prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import SparkContext

from sparkstream_kit._spark import FOLDER_KEY
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_folders: dict[str, Path | None] = {}  # by session: the folder of a server of `sparkstream serve`


def is_connect(made: object) -> bool:
    """Say whether a session, or what was made from it, is of Spark Connect, which has no JVM in reach."""
    return ".connect." in type(made).__module__


def current() -> Any:
    """Return this process's session on Spark Connect, in whichever thread it was made, if one runs."""
    if "pyspark.sql.connect.session" not in sys.modules:
        return None
    from pyspark.sql.connect.session import SparkSession

    return SparkSession.getActiveSession() or SparkSession._get_default_session()


def endpoint(running: Any) -> str:
    """Return host and port of the server of a session on Spark Connect."""
    return str(running.client._builder.endpoint)


def runs() -> bool:
    """Say whether this process has a session already."""
    return runs_here() or current() is not None


def runs_here() -> bool:
    """Say whether a classic session runs, in the JVM of this process."""
    return SparkContext._active_spark_context is not None


def has_ended(spark: Any) -> bool:
    """Say whether a session has been stopped."""
    return bool(spark.is_stopped) if is_connect(spark) else spark.sparkContext._jsc is None


def jvm_runs() -> bool:
    """Say whether Spark's JVM runs already, as under spark-submit, and takes no more packages."""
    return SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ


def identity(spark: Any) -> str:
    """Return what tells a session from another one of this process."""
    return str(spark.session_id if is_connect(spark) else spark.sparkContext.applicationId)


def other_master(spark: SparkSession) -> str | None:
    """Return the session's master if it has nodes on other machines."""
    master = spark.conf.get("spark.master", None) or "local"
    return None if master.startswith("local") else master  # local-cluster too has all its nodes here


def scratch_folder(spark: SparkSession) -> str | None:
    """Return a folder on this machine that Spark removes when its JVM ends; None where none is known."""
    if is_connect(spark):  # in a function of a batch, which the server calls
        return os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None
    return str(spark.sparkContext._temp_dir)


def outlives_process(spark: SparkSession) -> bool:
    """Say whether the tables that a session makes stay when this process ends."""
    return is_connect(spark)


def prints_here(spark: SparkSession) -> bool:
    """Say whether what Spark prints goes to the standard output of this process."""
    return not is_connect(spark)


def starts_python_for_batches(spark: SparkSession) -> bool:
    """Say whether a Python process is started at a server before the function of a batch can be called."""
    return is_connect(spark)


def shares_settings(spark: SparkSession) -> bool:
    """Say whether the function of a batch has the settings of the session, and not a copy for its query."""
    return is_connect(spark)


def web_page(spark: SparkSession) -> str | None:
    """Return the address of Spark's own page; None where it is off, or is the page of a server."""
    return None if is_connect(spark) else spark.sparkContext.uiWebUrl


def restart(spark: SparkSession) -> str:
    """Return how a session comes to have a setting that only its start can take."""
    if is_connect(spark):
        return "start the Connect server with it"
    return "call spark.stop() first, then get_session again"


def refuse_dstreams(spark: SparkSession) -> None:
    """Refuse a session that has no DStreams.

    Raises:
        InvalidInputError: it is one of Spark Connect.
    """
    if is_connect(spark):
        raise InvalidInputError(
            "DStreams need a Spark session of this process, and this one is on Spark Connect; "
            "unset SPARK_REMOTE"
        )


def server_folder(spark: Any) -> Path | None:
    """Return the folder of the session's server, if `sparkstream serve` has started it on this machine.

    What is a local path here is one there, too; of any other server the files are its own.
    """
    if not is_connect(spark):
        return None
    session = str(spark.session_id)
    if session not in _folders:
        said = spark.conf.get(FOLDER_KEY, None)
        # The same path may be another folder, on another machine; who is attached is known by an id.
        _folders[session] = Path(said) if said and os.path.exists(f"{said}/clients/{session}") else None  # noqa: PTH110 - also of another user
    return _folders[session]
