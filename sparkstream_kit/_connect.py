"""A session on a Spark Connect server: which of the settings can apply there, and what it must be sent."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import socket
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

__all__ = ["attach", "is_connect", "of_session", "remote_url"]

_log = logging.getLogger(__name__)

_PORT = 15002  # Spark's own default
_ANSWER_LIMIT = 5.0  # seconds that a server may take to accept a connection


def remote_url(conf: Mapping[str, str]) -> str | None:
    """Return the address of the Connect server that `conf` or SPARK_REMOTE names, if one does."""
    return conf.get("spark.remote") or os.environ.get("SPARK_REMOTE")


def is_connect(spark: SparkSession) -> bool:
    """Say whether a session is one of Spark Connect, which has no JVM in reach."""
    return ".connect." in type(spark).__module__


def attach(url: str, app_name: str, profile: Mapping[str, str], conf: Mapping[str, str]) -> SparkSession:
    """Return a session on the server, with the settings that can apply to one session.

    The server has its own master, memory and static settings: of the profile these are left out, and an
    entry of `conf` that differs is an error.

    Raises:
        InvalidInputError: no server listens there, or a setting that only the server's start can take.
        MissingExtraError: the client's libraries are not installed.
    """
    from pyspark.errors import PySparkImportError
    from pyspark.sql import SparkSession

    missing = [name for name in ("pandas", "pyarrow", "grpc") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError("Spark Connect", "connect")
    _check_listening(url)
    try:
        spark: SparkSession = SparkSession.builder.remote(url).appName(app_name).getOrCreate()
    except PySparkImportError as err:
        raise MissingExtraError("Spark Connect", "connect") from err
    for key, value in profile.items():
        if key not in conf and spark.conf.isModifiable(key):
            spark.conf.set(key, value)
    _send_kit(spark)
    return spark


def of_session(conf: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of `conf` that a session has of its own; the others are a warning each."""
    for key, value in conf.items():
        if not key.startswith(("spark.sql.", "spark.remote")):
            _log.warning("conf %s=%s is not in force: the Spark Connect server has its own", key, value)
    return {key: value for key, value in conf.items() if key.startswith("spark.sql.")}


def _check_listening(url: str) -> None:
    """Refuse at once what Spark's client would try again for ten minutes."""
    host, _, port = url.removeprefix("sc://").partition("/")[0].rpartition(":")
    if not url.startswith("sc://") or not (host or port):
        raise InvalidInputError(
            f"SPARK_REMOTE={url} is no address of a Connect server, such as sc://localhost"
        )
    if not port.isdigit():
        host, port = f"{host}:{port}".strip(":"), str(_PORT)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_LIMIT).close()
    except OSError as err:
        raise InvalidInputError(
            f"no Spark Connect server answers at {host} port {port} ({err.strerror or err}); start it, or "
            "unset SPARK_REMOTE to use a session of this process"
        ) from err


def _send_kit(spark: Any) -> None:
    """Send the kit to the server's Python workers, where the functions of its sinks run.

    Each content has a name of its own, so that after an edit the next session runs the edited code.
    """
    root = Path(__file__).parent
    sources = sorted(path for path in root.rglob("*.py"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    with tempfile.TemporaryDirectory(prefix="sparkstream-") as folder:
        archive = Path(folder, f"sparkstream_kit-{digest.hexdigest()[:16]}.zip")
        with zipfile.ZipFile(archive, "w") as made:
            for path in sources:
                made.write(path, path.relative_to(root.parent))
        spark.addArtifacts(str(archive), pyfile=True)
