"""Extra: a warm server, which jobs attach to by SPARK_REMOTE.

from sparkstream_kit import server
server.serve(15002, "local").url  # 'sc://localhost'

The server is Spark's own Connect server, and listens on the loopback interface of this
machine. `serve`, `status` and `stop` manage it for the command `sparkstream serve`.
`get_session` calls `attach` to get a session on the server that SPARK_REMOTE names,
also on a Connect server that the kit did not start.

Each server of the kit has a folder of its own in the user's cache folder, which only
the user can enter. The folder holds the access token, the log, the warehouse, the note
on the process (`server.json`) and a lock file for each attached client. Linux only.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from sparkstream_kit import profiles
from sparkstream_kit._internal import file_system, threads
from sparkstream_kit._internal import java as _java
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark import FOLDER_KEY, KIT_KEY
from sparkstream_kit.connectors import _packages
from sparkstream_kit.errors import (
    InvalidInputError,
    MissingExtraError,
    TransientError,
    said_by_spark,
)
from sparkstream_kit.profiles import is_local, read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

__all__ = ["PORT", "Server", "folder_of", "reach", "running", "serve", "status", "stop"]


PORT = 15002  # Spark's own default

# The folder of the package; its path identifies the kit that a server imports
_KIT = Path(__file__).parent
_MAIN_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
_TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # noqa: S105 - the name of Spark's variable
_START_LIMIT = 120.0  # seconds that a server may take to answer after its start
_STOP_LIMIT = 15.0  # seconds that a server may take to end after each signal
# The ports that Spark accepts for a server.
_FIRST_PORT = 1024
_LAST_PORT = 65535


@dataclass(frozen=True)
class Server:
    """A running server of the kit.

    Attributes:
        port: the port on which the server listens, on the loopback interface only.
        profile: the settings profile with which it was started.
        pid: the id of its process.
        started: the start time of that process from the kernel, with the id of the
            boot. It tells the process from a later one with the same pid.
        connectors: the names of the connectors whose packages the server loaded.
    """

    port: int
    profile: str
    pid: int
    started: str
    connectors: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The value for SPARK_REMOTE.

        It names `localhost`, because Spark's client sends a token without TLS to that
        name only.
        """
        if self.port == PORT:
            return "sc://localhost"
        return f"sc://localhost:{self.port}"

    @property
    def log(self) -> Path:
        """The path of the server's log, which also has the output of `foreachBatch` functions."""
        return folder_of(self.port) / "server.log"


def folder_of(port: int) -> Path:
    """Return the folder of the server on a port of this machine.

    The name of the folder contains the host name, because machines may share a home
    folder.
    """
    check(folder_of, locals())
    return file_system.cache_folder() / f"connect-{socket.gethostname()}-{port}"


def status(port: int = PORT) -> Server | None:
    """Return the server on a port; None if `serve` started none, or it has ended."""
    check(status, locals())
    try:
        noted = json.loads((folder_of(port) / "server.json").read_text("utf-8"))
        server = Server(**noted | {"connectors": tuple(noted.get("connectors", ()))})
    except (OSError, ValueError, TypeError):
        return None
    if server.started and _started(server.pid) == server.started:
        return server
    return None


def running() -> list[Server]:
    """Return the servers of this user that run on this machine, by their ports."""
    found = []
    prefix = f"connect-{socket.gethostname()}-"
    for folder in file_system.cache_folder().glob(f"{prefix}*"):
        number = folder.name.removeprefix(prefix)
        server = status(int(number)) if number.isdecimal() else None
        if server is not None:
            found.append(server)
    return sorted(found, key=lambda server: server.port)


def serve(
    port: int = PORT, profile: str = "local", connectors: Sequence[str] = ()
) -> Server:
    """Start a background server and wait until it answers, or return the running one.

    The server starts in the current folder and with this Python, so its workers can
    import modules from the folder. It requires a token from every client; `get_session`
    reads the token from a file that only this user can read.

    Args:
        port: the port to listen on, from 1024 to 65535, on the loopback interface.
        profile: the settings profile, as for `get_session`; sessions that name no
            profile use it, too.
        connectors: the names of connectors to load, such as "kafka", as for
            `get_session`.

    Raises:
        InvalidInputError: a server with another profile or without these connectors
            runs on the port, the port is taken or not allowed, the server does not
            start within 2 minutes, or this is not Linux.
    """
    check(serve, locals())
    if not sys.platform.startswith("linux"):
        raise InvalidInputError(
            "sparkstream serve needs Linux, where /proc shows whether its server runs"
        )
    if not _FIRST_PORT <= port <= _LAST_PORT:
        raise InvalidInputError(
            f"port must be from {_FIRST_PORT} to {_LAST_PORT}, not {port}"
        )
    settings = profiles.read_profile(profile)
    if connectors:
        import pyspark

        settings |= _packages.needed(connectors, pyspark.__version__, settings)
    if profile not in profiles.PROFILES:
        profile = str(Path(profile).absolute())
    with _alone(port) as folder:
        running = status(port)
        if running is not None and _answers(port):
            _refuse_other(running, profile, connectors)
            return running
        if running is not None:
            # The process that started it was killed before the server answered
            _end(running)
        _clear(folder)
        with _reserved(port) as reserved:
            process = _launch(folder, port, settings, reserved)
        server = Server(
            port, profile, process.pid, _started(process.pid), tuple(connectors)
        )
        try:
            # Write the note before waiting, so that `stop` can end the server if this
            # process is killed.
            file_system.replace(
                folder / "server.json", [json.dumps(asdict(server))], private=True
            )
            _await(process, port)
        except BaseException:
            _end(server)
            _clear(folder)
            raise
    return server


def _refuse_other(running: Server, profile: str, connectors: Sequence[str]) -> None:
    """Refuse a server that runs with another profile, or without one of the connectors."""
    lacks = [name for name in connectors if name not in running.connectors]
    if running.profile == profile and not lacks:
        return
    without = f" and without connector {lacks[0]}" if lacks else ""
    raise InvalidInputError(
        f"a server with profile {running.profile}{without} runs on port {running.port};"
        f" end it first (sparkstream serve stop --port {running.port}), or give another"
        " port"
    )


def stop(port: int = PORT) -> Server | None:
    """End the server on a port, and everything that runs on it.

    Returns:
        The server that was ended; None if no server ran.
    """
    check(stop, locals())
    if not folder_of(port).exists():
        return None
    with _alone(port) as folder:
        server = status(port)
        if server is not None:
            _end(server)
        _clear(folder)
    return server


def _end(server: Server) -> None:
    """End the process group of a server, first with SIGTERM, and after 15 seconds with SIGKILL.

    The group includes the Python processes of its sessions.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):  # the group has ended already
            os.killpg(server.pid, number)
        if _gone(server.pid, _STOP_LIMIT):
            return


@contextmanager
def _alone(port: int) -> Iterator[Path]:
    """Lock the folder of a port's server against another `serve` or `stop`; yield it."""
    folder = folder_of(port)
    try:
        file_system.private_folder(folder).chmod(0o700)
        lock = file_system.private_file(folder / "lock")
    except OSError as err:
        raise InvalidInputError(
            f"cannot keep a server's files: {err}; set XDG_CACHE_HOME to a folder"
        ) from err
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@contextmanager
def _reserved(port: int) -> Iterator[list[int]]:
    """Bind the port on IPv6's loopback address, so that no other program gets the token.

    A client must use the name `localhost` to send its token without TLS, and may try
    the IPv6 address first, on which the server does not listen. The server inherits the
    bound socket, so the port stays taken while it runs.

    Yields:
        The file descriptor of the socket for the server to inherit; an empty list
        without IPv6.

    Raises:
        InvalidInputError: another program has the port.
    """
    taken = InvalidInputError(
        f"port {port} is taken by another program; give another port"
    )
    if _answers(port):
        raise taken
    with ExitStack() as held:
        inherited = []
        try:
            own = held.enter_context(socket.socket(socket.AF_INET6))
            own.bind(("::1", port))
            inherited = [own.fileno()]
        except OSError as err:
            if err.errno == errno.EADDRINUSE:
                raise taken from None
        yield inherited  # without IPv6 on this machine, none


def _clear(folder: Path) -> None:
    """Remove the files of a server that has ended, except its log."""
    for name in ("server.json", "token"):
        (folder / name).unlink(missing_ok=True)
    for name in ("clients", "warehouse", "tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _launch(
    folder: Path, port: int, profile: dict[str, str], inherited: list[int]
) -> subprocess.Popen[bytes]:
    """Start the process of the server.

    Its log is for this user only: Spark's Python processes print the address that they
    attach to, which has the token.

    Args:
        folder: the folder of the server.
        port: the port to listen on.
        profile: the settings of the profile and of the connectors.
        inherited: file descriptors that the server keeps open.
    """
    token = secrets.token_urlsafe(32)
    env = _environment(token, folder)
    java, _ = _java.needed(env)
    file_system.replace(folder / "token", [token], private=True)
    for name in ("clients", "warehouse", "tmp"):
        file_system.private_folder(folder / name)
    conf = folder / "server.conf"
    settings = _settings(folder, port, profile)
    lines = [f"{key} {value}\n" for key, value in settings.items()]
    file_system.replace(conf, lines, private=True)
    more = [_java.PARALLEL, *shlex.split(_java.java_options(java))]
    arguments = [
        "--properties-file",
        str(conf),
        "--class",
        _MAIN_CLASS,
        "spark-internal",
    ]
    with file_system.private_file(folder / "server.log") as log:
        try:
            command = _java.command(
                arguments, env, more, archive=None, stderr=log.fileno()
            )
        except subprocess.CalledProcessError as err:
            _clear(folder)
            raise _failed("ended at its start", folder / "server.log") from err
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
        )


def _settings(folder: Path, port: int, profile: dict[str, str]) -> dict[str, str]:
    """Return the settings of the server; a profile may choose the master and the name."""
    chosen = {"spark.master": "local[*]", "spark.app.name": "sparkstream serve"}
    own = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": file_system.for_spark(folder / "warehouse"),
        "spark.local.dir": str(folder / "tmp"),
        FOLDER_KEY: str(folder),
        KIT_KEY: str(_KIT),
    }
    return chosen | profile | own


def _environment(token: str, folder: Path) -> dict[str, str]:
    """Return the environment of the server and of its Python workers.

    The token is in the environment, because other users of the machine cannot read it
    there.
    """
    of_client = ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED", "PYSPARK_GATEWAY")
    env = _java.environment()
    for key in list(env):
        if key.startswith(of_client):
            del env[key]
    # The current folder by its path, because Spark starts the Python of a UDF in a
    # folder of its session.
    path = [str(_KIT.parent), str(Path.cwd()), env.get("PYTHONPATH", "")]
    log4j2 = f"-Dlog4j2.configurationFile={profiles.log4j2_file().as_uri()}"
    temporary = f'"-Djava.io.tmpdir={folder / "tmp"}"'
    options = [env.get("SPARK_SUBMIT_OPTS", ""), log4j2, temporary]
    return env | {
        # Keeps Spark's web UI, which needs no token, on this machine
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": ":".join(filter(None, path)),
        "SPARK_SUBMIT_OPTS": " ".join(options),
        _TOKEN: token,
    }


def _await(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server accepts connections.

    Raises:
        InvalidInputError: the server ended, or did not answer within 2 minutes; the
            message has the cause from its log.
    """
    threads.until(lambda: _answers(port) or server.poll() is not None, _START_LIMIT)
    log = folder_of(port) / "server.log"
    if server.poll() is not None:
        raise _failed("ended at its start", log)
    if not _answers(port):
        raise _failed(f"did not answer in {_START_LIMIT:g} s", log)


def _failed(what: str, log: Path) -> InvalidInputError:
    from sparkstream_kit._internal.spark.launch import cause_in_log

    return InvalidInputError(
        f"the server {what}: {cause_in_log(log.read_text(errors='replace'))}; see {log}"
    )


def _answers(port: int) -> bool:
    """Return whether a program accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _gone(group: int, limit: float) -> bool:
    """Wait until no process of a group runs; return whether that is so.

    Only then none of them holds a file or a port.

    Args:
        group: the id of the process group.
        limit: the longest time to wait, in seconds.
    """

    def is_gone() -> bool:
        # Only the process that started the server can reap it
        with suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)
        processes = Path("/proc").glob("[0-9]*")
        return not any(_runs_in_group(process, group) for process in processes)

    return threads.until(is_gone, limit)


def _runs_in_group(process: Path, group: int) -> bool:
    """Return whether a process belongs to a group and still runs.

    A process whose main thread is dead (state Z) still runs if it has other threads.
    """
    try:
        state, _parent, process_group = _stat_fields(process)[:3]
        if process_group != str(group):
            return False
        if state != "Z":
            return True
        # Its main thread is dead; the others may run on
        threads_left = list((process / "task").iterdir())
        return len(threads_left) > 1
    except OSError:  # the process has just ended
        return False


def _stat_fields(process: Path) -> list[str]:
    """Return what /proc/PID/stat says of a process, from its state on.

    It is such as "4711 (java) S 1 4711 …": state, parent, process group. The name in
    brackets may have any characters.
    """
    return (process / "stat").read_text("utf-8").rpartition(")")[2].split()


def _started(pid: int) -> str:
    """Return a process's boot id and start time (clock ticks); empty if not running."""
    try:
        fields = _stat_fields(Path(f"/proc/{pid}"))
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""
    if fields[0] == "Z":
        return ""
    return f"{boot} {fields[19]}"


_log = logging.getLogger(__name__)

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_ANSWER_LIMIT = 5.0  # seconds that a server may take to accept a connection
# Attempts to reach a server that has ended; with PySpark's pauses, these take half a
# minute
_TRIES = 5


def attach(
    url: str, app_name: str, profile: str | Path | None, conf: Mapping[str, str]
) -> SparkSession:
    """Open a session on a Spark Connect server, with a profile's settings for sessions.

    The master, the memory and the static settings are those of the server: such
    settings of the profile are left out. If this process already has a session on the
    server, that session is returned.

    Args:
        url: the address of the server, such as "sc://localhost".
        app_name: the name of the application.
        profile: the settings profile of the session; by default that of the server, or
            for a server that the kit did not start, `local` or `cluster`, depending on
            its master.
        conf: settings that win over those of the profile. The caller applies them (see
            `of_session`).

    Raises:
        InvalidInputError: no server listens at the address, it rejects the token, a
            session of this process or on another server runs, or Spark cannot read a
            setting of the profile or of the server.
        MissingExtraError: the client libraries of Spark Connect are not installed.
    """
    from sparkstream_kit._internal.spark.session import runs_here, server_folder

    host, port = reach(url)
    from pyspark.sql import SparkSession

    settings: dict[str, str] | None = None
    if profile is not None:
        settings = read_profile(profile)
    if runs_here():
        raise InvalidInputError(
            f"a session of this process runs, and {url.partition('/;')[0]} is asked"
            " for; call spark.stop() first, or unset SPARK_REMOTE"
        )
    running = _running(url, host, port)
    if running is not None:
        return cast("SparkSession", running)
    own = _own_url(url, host, port)
    spark = _connect(url, own, app_name)
    if own is not None:
        _register(spark, own, port)
        _notice_an_end(spark)
    if settings is None and server_folder(spark) is None:
        master = str(spark.conf.get("spark.master", None))
        settings = read_profile("local" if is_local(master) else "cluster")
    wanted = {key: value for key, value in (settings or {}).items() if key not in conf}
    if wanted:
        _apply(spark, SparkSession.builder.remote(own or url), wanted)
    if server_folder(spark) is None or spark.conf.get(KIT_KEY, None) != str(_KIT):
        _send_kit(spark)
    return spark


def _connect(url: str, own: str | None, app_name: str) -> SparkSession:
    """Open a session on a server; leave none behind if the server refuses.

    Args:
        url: the address of the server, as the user gave it.
        own: the address with the token, for a server of the kit.
        app_name: the name of the application.

    Raises:
        InvalidInputError: the server takes only clients with its token.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.remote(own or url)
    try:
        spark: SparkSession = builder.appName(app_name).getOrCreate()
    except PySparkException as err:
        left = SparkSession.getActiveSession()
        if left is not None:
            left.stop()
        if "UNAUTHENTICATED" not in str(err):
            raise
        raise InvalidInputError(
            f"the Spark Connect server at {url.partition('/;')[0]} takes only clients"
            " with its token; set SPARK_CONNECT_AUTHENTICATE_TOKEN, or start a server"
            " of your own (sparkstream serve start)"
        ) from err
    return spark


def _apply(spark: SparkSession, builder: Any, profile: Mapping[str, str]) -> None:
    """Apply those settings of a profile to a new session that can be changed in a session.

    Raises:
        InvalidInputError: Spark cannot read the value of a setting.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        builder.config(map=profile).getOrCreate()
    # Spark warns about settings that only a server's start can set, and about
    # unreadable values.
    for each in said:
        if re.match("(?is)failed to set (?!.*cannot.modify)", str(each.message)):
            spark.stop()  # so that a call with a corrected profile gets a new session
            raise InvalidInputError(
                f"{said_by_spark(UserWarning(each.message))}; correct that setting"
            )


def of_session(conf: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of `conf` that apply to a session, those of `spark.sql.*`.

    Log a warning for each other entry, because the server has its own value;
    `spark.remote` is left out silently.
    """
    from sparkstream_kit._internal.spark.session import shown_setting

    for key, value in conf.items():
        if not key.startswith(("spark.sql.", "spark.remote")):
            _log.warning(
                "conf %s is not in force: the Spark Connect server has its own",
                shown_setting(key, value),
            )
    return {key: value for key, value in conf.items() if key.startswith("spark.sql.")}


def _notice_an_end(spark: Any) -> None:
    """Let a run end soon after its local server has ended, by fewer retries.

    By default, PySpark would retry for ten minutes.
    """
    from pyspark.sql.connect.client.retries import DefaultPolicy

    spark.client.set_retry_policies([DefaultPolicy(max_retries=_TRIES)])
    # Threads of PySpark also notice the end of the server, and would print warnings
    # with a stack trace.
    warnings.filterwarnings(
        "ignore", r"\[RETRIES_EXCEEDED\]|StreamingQueryListenerBus Handler", UserWarning
    )


def _address(url: str) -> tuple[str, int]:
    """Return the host and port of a server's address; refuse one that is not valid."""
    with suppress(ValueError):  # raised for a port that is not a number
        parts = urlsplit(url)
        if parts.scheme == "sc" and parts.hostname:
            return parts.hostname, parts.port or PORT
    raise InvalidInputError(
        f"SPARK_REMOTE={url.partition('/;')[0]} is no address of a Connect server; give"
        " one such as sc://localhost, or unset SPARK_REMOTE"
    )


def _running(url: str, host: str, port: int) -> Any:
    """Return this process's session on the server at an address; None if it has none.

    Raises:
        InvalidInputError: the process has a session on another server.
    """
    from sparkstream_kit._internal.spark.session import current, endpoint

    running = current()
    if running is None:
        return None
    own_host, own_port = _address(f"sc://{endpoint(running)}")
    same_host = own_host == host or {own_host, host} <= _LOOPBACK
    if own_port != port or not same_host:
        raise InvalidInputError(
            f"a session of the server at {own_host} port {own_port} runs, and"
            f" {url.partition('/;')[0]} is asked for; call spark.stop() first"
        )
    return running


def reach(url: str) -> tuple[str, int]:
    """Check that a Spark Connect server accepts connections, with a timeout of 5 seconds.

    Without this check, Spark's own client would retry for ten minutes.

    Args:
        url: the address of the server, such as "sc://localhost:15002".

    Returns:
        The host and the port of the server.

    Raises:
        InvalidInputError: no server answers, or the address is not valid.
        MissingExtraError: the client libraries of Spark Connect are not installed.

    Examples:
        >>> reach("sc://localhost:1")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.TransientError: no Spark Connect server answers at localhost ...
    """
    check(reach, locals())
    for library in ("pandas", "pyarrow", "grpc"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError("Spark Connect", "connect")
    host, port = _address(url)
    try:
        socket.create_connection((host, port), timeout=_ANSWER_LIMIT).close()
    except OSError as err:
        raise TransientError(
            f"no Spark Connect server answers at {host} port {port}"
            f" ({err.strerror or err}); start it (on this machine: sparkstream serve"
            " start), or unset SPARK_REMOTE for a session of this process"
        ) from err
    return host, port


def _own_url(url: str, host: str, port: int) -> str | None:
    """Return the address with the token added, if `serve` started the server there; else None.

    None also if the address has a token already.
    """
    if host not in _LOOPBACK or "token=" in url or status(port) is None:
        return None
    file = folder_of(port) / "token"
    if not file.exists():
        return None
    # Such as sc://127.0.0.1:15002/;user_id=me, which has options after the slash
    options = url.removeprefix("sc://").partition("/")[2].strip(";")
    if options:
        options += ";"
    token = file.read_text("utf-8")
    # Spark's client sends a token without TLS only to the name `localhost`.
    return f"sc://localhost:{port}/;{options}token={token}"


def left_running(lock_text: bytes) -> str | None:
    """Return which query a killed client left running, and how to end it; None if none.

    The killed client no longer holds the lock of its checkpoint, but its text is still
    in the lock file.

    Args:
        lock_text: the content of the lock file.
    """
    with suppress(OSError, ValueError, LookupError, TypeError):
        holder = json.loads(lock_text)
        client = Path(holder["client"])
        server = json.loads((client.parent.parent / "server.json").read_text("utf-8"))
        if client.exists() and _started(server["pid"]) == server["started"]:
            where = f"in the Spark Connect server (process {server['pid']})"
            return (
                f"query {holder['query']}, which runs on {where} although its client"
                " was killed; end it: run any job there, or sparkstream serve stop"
            )
    return None


def _register(spark: SparkSession, url: str, port: int) -> None:
    """Register this client at a local server, and end the sessions of clients that were killed.

    Without that, the server would run the queries of a killed client forever. Each
    client holds a lock on a file with the id of its session. A file without a lock
    belongs to a client that has died. At the exit of this process, the session is
    stopped and its file removed.
    """
    from pyspark.sql.connect.client import SparkConnectClient

    from sparkstream_kit._internal.spark.session import identity

    session = identity(spark)
    clients = folder_of(port) / "clients"
    if not clients.is_dir():
        return
    for file_of_other in clients.glob("[!.]*"):
        # Locking the file of a living client raises an OSError
        with suppress(OSError), file_of_other.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            client = SparkConnectClient(
                connection=f"{url};session_id={file_of_other.name}"
            )
            with suppress(Exception):  # the session may have ended by itself
                client.release_session()
            client.close()
            file_of_other.unlink(missing_ok=True)
    # Lock the file under a hidden name first: without the lock, another client would
    # take this one for dead.
    own_file = clients / session
    own_lock = file_system.private_file(own_file.with_name(f".{session}"))
    fcntl.flock(own_lock, fcntl.LOCK_EX)
    own_file.with_name(f".{session}").rename(own_file)

    # Close the file in forked children. A child would otherwise keep the lock after
    # this client has died, and end the session of this client when the child exits.
    os.register_at_fork(after_in_child=own_lock.close)

    def leave() -> None:
        if own_lock.closed:
            return
        spark.stop()
        own_file.unlink(missing_ok=True)
        own_lock.close()

    atexit.register(leave)


def _send_kit(spark: Any) -> None:
    """Send the kit's code to the server's Python workers, for the functions of sinks.

    The name of the archive contains a hash of the code, so that after an edit the next
    session runs the new code.
    """
    sources = _own_sources()
    digest = hashlib.sha256(b"".join(sources.values()))
    with tempfile.TemporaryDirectory(prefix="sparkstream-") as folder:
        archive = Path(folder, f"sparkstream_kit-{digest.hexdigest()[:16]}.zip")
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, source in sources.items():
                zipped.writestr(name, source)
        spark.addArtifacts(str(archive), pyfile=True)


def _own_sources() -> dict[str, bytes]:
    """Return the kit's sources by path, from its folder or from a `--py-files` zip."""
    zipped = getattr(__spec__.loader, "archive", None)
    if zipped is None:
        paths = sorted(_KIT.rglob("*.py"))
        return {str(path.relative_to(_KIT.parent)): path.read_bytes() for path in paths}
    sources: dict[str, bytes] = {}
    with zipfile.ZipFile(zipped) as archive:
        for name in archive.namelist():
            if name.startswith(f"{_KIT.name}/") and name.endswith(".py"):
                sources[name] = archive.read(name)
    return sources
