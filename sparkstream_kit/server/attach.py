"""Extra: a session on a Spark Connect server: which settings can apply there, and what it must be sent."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import socket
import tempfile
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sparkstream_kit import _files
from sparkstream_kit._spark import KIT_KEY
from sparkstream_kit._spark.session import current, endpoint, identity, runs_here, server_folder
from sparkstream_kit._spark.settings import shown
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, said_by_spark
from sparkstream_kit.profiles import is_local, read_profile
from sparkstream_kit.server import serving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

__all__ = ["attach", "of_session"]

_log = logging.getLogger(__name__)

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_ANSWER_LIMIT = 5.0  # seconds that a server may take to accept a connection
_TRIES = 5  # to reach a server that has ended: half a minute, with PySpark's own pauses


def attach(url: str, app_name: str, profile: str | Path | None, conf: Mapping[str, str]) -> SparkSession:
    """Return a session on the server, with the settings that can apply to one session.

    The server has its own master, memory and static settings: of the profile these are left out, and an
    entry of `conf` that differs is an error.

    Raises:
        InvalidInputError: no server listens there, it does not take our token, a setting that only the
            server's start can take, or a value of the profile that Spark cannot read.
        MissingExtraError: the client's libraries are not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("pandas", "pyarrow", "grpc")):
        raise MissingExtraError("Spark Connect", "connect")
    from pyspark.errors import PySparkException, PySparkImportError
    from pyspark.sql import SparkSession

    settings: dict[str, Any] | None = None if profile is None else read_profile(profile)
    host, port = _address(url)
    _check_listening(host, port)
    if runs_here():
        raise InvalidInputError(
            f"a session of this process runs, and {url.partition('/;')[0]} is asked for; call spark.stop() "
            "first, or unset SPARK_REMOTE"
        )
    if (running := _running(url, host, port)) is not None:
        return cast("SparkSession", running)
    own = _own_url(url, host, port)
    try:
        spark: SparkSession = SparkSession.builder.remote(own or url).appName(app_name).getOrCreate()
    except PySparkImportError as err:
        raise MissingExtraError("Spark Connect", "connect") from err
    except PySparkException as err:
        _refused(url, err, None if own is None else port)
        raise
    if own is not None:
        _register(spark, own, port)
        _notice_an_end(spark)
    if settings is None and server_folder(spark) is None:
        settings = read_profile("local" if is_local(str(spark.conf.get("spark.master", None))) else "cluster")
    if settings := {key: value for key, value in (settings or {}).items() if key not in conf}:
        _apply(spark, SparkSession.builder.remote(own or url), settings)
    if server_folder(spark) is None or spark.conf.get(KIT_KEY, None) != str(Path(__file__).parent.parent):
        _send_kit(spark)
    return spark


def _apply(spark: SparkSession, builder: Any, profile: Mapping[str, str]) -> None:
    """Give a new session what it can take of a profile."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        builder.config(map=profile).getOrCreate()
    for (
        each
    ) in said:  # Spark warns of what only a server's start can take, and of a value that it cannot read
        if re.match("(?is)failed to set (?!.*cannot.modify)", str(each.message)):
            spark.stop()  # for the corrected call to begin anew
            raise InvalidInputError(f"{said_by_spark(UserWarning(each.message))}; correct that setting")


def of_session(conf: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of `conf` that a session has of its own; the others are a warning each."""
    for key, value in conf.items():
        if not key.startswith(("spark.sql.", "spark.remote")):
            _log.warning("conf %s is not in force: the Spark Connect server has its own", shown(key, value))
    return {key: value for key, value in conf.items() if key.startswith("spark.sql.")}


def _notice_an_end(spark: Any) -> None:
    """Have a run end soon after its server, which is on this machine; PySpark would try for ten minutes."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    spark.client.set_retry_policies([DefaultPolicy(max_retries=_TRIES)])
    # The threads of PySpark that notice it, too, warn with a stack trace.
    warnings.filterwarnings("ignore", r"\[RETRIES_EXCEEDED\]|StreamingQueryListenerBus Handler", UserWarning)


def _address(url: str) -> tuple[str, int]:
    """Return host and port of a server's address."""
    host, _, port = url.removeprefix("sc://").partition("/")[0].rpartition(":")
    if not url.startswith("sc://") or not (host or port):
        raise InvalidInputError(
            f"SPARK_REMOTE={url.partition('/;')[0]} is no address of a Connect server, such as sc://localhost"
        )
    if not port.isdigit():
        host, port = f"{host}:{port}".strip(":"), str(serving.PORT)
    return host.strip("[]"), int(port)


def _running(url: str, host: str, port: int) -> Any:
    """Return this process's session; refuse one of another server."""
    running = current()
    if running is None:
        return None
    of = _address(f"sc://{endpoint(running)}")
    if of[1] != port or (of[0] != host and not {of[0], host} <= _LOOPBACK):
        raise InvalidInputError(
            f"a session of the server at {of[0]} port {of[1]} runs, and {url.partition('/;')[0]} is asked "
            "for; call spark.stop() first"
        )
    return running


def _check_listening(host: str, port: int) -> None:
    """Refuse at once what Spark's client would try again for ten minutes."""
    try:
        socket.create_connection((host, port), timeout=_ANSWER_LIMIT).close()
    except OSError as err:
        raise InvalidInputError(
            f"no Spark Connect server answers at {host} port {port} ({err.strerror or err}); start it "
            "(on this machine: sparkstream serve), or unset SPARK_REMOTE to use a session of this process"
        ) from err


def _own_url(url: str, host: str, port: int) -> str | None:
    """Return the address with the token of the server that `serve` has started there, if it has."""
    if host not in _LOOPBACK or "token=" in url:
        return None
    try:
        if serving.status(port) is None:
            return None
        token = (serving.folder_of(port) / "token").read_text("utf-8")
    except OSError:
        return None
    options = url.removeprefix("sc://").partition("/")[2].strip(";")
    # By this name alone Spark's client sends a token without TLS, as the loopback needs none.
    return f"sc://localhost:{port}/;{options}{';' if options else ''}token={token}"


def _refused(url: str, error: Exception, own: int | None) -> None:
    """Put in words why a server makes no session: not for our token, or not with its own settings.

    gRPC does not say the latter. The log of a server of `sparkstream serve` does, known by its port.
    """
    from pyspark.sql import SparkSession

    left = SparkSession.getActiveSession()
    if left is not None:
        left.stop()
    if "UNAUTHENTICATED" in str(error):
        raise InvalidInputError(
            f"the Spark Connect server at {url.partition('/;')[0]} takes only clients with its token; set "
            "SPARK_CONNECT_AUTHENTICATE_TOKEN, or start a server of your own (sparkstream serve)"
        ) from error
    log = "" if own is None else (serving.folder_of(own) / "server.log").read_text(errors="replace")
    if unreadable := re.findall(r"\[INVALID_CONF_VALUE.*", log):
        raise InvalidInputError(
            f"the server's settings: {said_by_spark(ValueError(unreadable[-1]))}; correct its profile, and "
            "start it again"
        ) from error


def _register(spark: SparkSession, url: str, port: int) -> None:
    """Note who is attached, and end what killed clients have left: the server would run it for ever."""
    from pyspark.sql.connect.client import SparkConnectClient

    session = identity(spark)
    clients = serving.folder_of(port) / "clients"
    if not clients.is_dir():
        return
    for left in clients.glob("[!.]*"):
        with suppress(OSError), left.open() as file:  # who lives holds its lock
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = SparkConnectClient(connection=f"{url};session_id={left.name}")
            with suppress(Exception):  # it had ended by itself
                gone.release_session()
            gone.close()
            left.unlink(missing_ok=True)
    # Locked before it has a name to be found by: another client that comes now would take us for dead.
    mine = clients / session
    held = _files.private_file(mine.with_name(f".{session}"))
    fcntl.flock(held, fcntl.LOCK_EX)
    mine.with_name(f".{session}").rename(mine)

    # A forked child would keep the lock of a client that is dead, and end its session when it exits.
    os.register_at_fork(after_in_child=held.close)

    def leave() -> None:
        if held.closed:
            return
        spark.stop()
        mine.unlink(missing_ok=True)
        held.close()

    atexit.register(leave)


def _send_kit(spark: Any) -> None:
    """Send the kit to the server's Python workers, where the functions of its sinks run.

    Each content has a name of its own, so that after an edit the next session runs the edited code.
    """
    sources = _own_sources()
    digest = hashlib.sha256(b"".join(sources.values()))
    with tempfile.TemporaryDirectory(prefix="sparkstream-") as folder:
        archive = Path(folder, f"sparkstream_kit-{digest.hexdigest()[:16]}.zip")
        with zipfile.ZipFile(archive, "w") as made:
            for name, source in sources.items():
                made.writestr(name, source)
        spark.addArtifacts(str(archive), pyfile=True)


def _own_sources() -> dict[str, bytes]:
    """Return the kit's modules by their paths, out of its folder or of the zip of `--py-files`."""
    root = Path(__file__).parent.parent
    zipped = getattr(__spec__.loader, "archive", None)
    if zipped is None:
        return {str(path.relative_to(root.parent)): path.read_bytes() for path in sorted(root.rglob("*.py"))}
    with zipfile.ZipFile(zipped) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{root.name}/")]
        return {name: archive.read(name) for name in names if name.endswith(".py")}
