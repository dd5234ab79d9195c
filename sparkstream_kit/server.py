"""Extra: a warm server, which jobs attach to by SPARK_REMOTE.

from sparkstream_kit import server
server.serve(15002, "local").url  # 'sc://localhost'

It is Spark's own Connect server, on this machine's loopback. Each server has a folder of its own in the
user's cache folder, which only the user can enter: its access token, its log, its warehouse, who it is and
who is attached. Linux only.
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
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from sparkstream_kit import _files, _packages, _waiting, profiles
from sparkstream_kit._arguments import check
from sparkstream_kit._spark import FOLDER_KEY, KIT_KEY
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, cause_in_log, said_by_spark
from sparkstream_kit.profiles import is_local, read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

__all__ = ["PORT", "Server", "folder_of", "reach", "serve", "status", "stop"]


PORT = 15002  # Spark's own default

_KIT = Path(__file__).parent  # the folder of the package
_MAIN_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
_TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # noqa: S105 - the name of Spark's variable
_START_LIMIT = 120.0
_STOP_LIMIT = 15.0
_FIRST_PORT, _LAST_PORT = 1024, 65535  # that Spark would serve on


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        port: where it listens, on loopback only.
        profile: the profile that it was started with.
        pid: its process.
        started: when that process began, in the kernel's words: a pid alone may belong to another by now.
        connectors: the systems that its Spark was given beside its own.
    """

    port: int
    profile: str
    pid: int
    started: str
    connectors: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The value for SPARK_REMOTE; Spark's client sends a token in plain to `localhost` by name only."""
        return "sc://localhost" if self.port == PORT else f"sc://localhost:{self.port}"

    @property
    def log(self) -> Path:
        """Where it writes its log, and what functions of a batch print."""
        return folder_of(self.port) / "server.log"


def folder_of(port: int) -> Path:
    """Return the folder of this machine's server on a port; machines may share a home folder."""
    check(folder_of, locals())
    return _files.cache_folder() / f"connect-{socket.gethostname()}-{port}"


def status(port: int = PORT) -> Server | None:
    """Return the server that runs on a port; None if `serve` has started none there, or it has ended."""
    check(status, locals())
    try:
        noted = json.loads((folder_of(port) / "server.json").read_text("utf-8"))
        server = Server(**noted | {"connectors": tuple(noted.get("connectors", ()))})
    except (OSError, ValueError, TypeError):
        return None
    return server if server.started and _started(server.pid) == server.started else None


def serve(port: int = PORT, profile: str = "local", connectors: Sequence[str] = ()) -> Server:
    """Start a server in the background, and return when it answers; one that runs already is returned.

    It is started in this folder and with this Python, so that its workers import what is here. It asks every
    client for a token, which `get_session` reads from a file that only this user can read.

    Args:
        port: a free port of loopback, 1024 to 65535.
        profile: as for `get_session`; it is the profile of every session that names none.
        connectors: the systems that its Spark shall know beside its own, as for `get_session`.

    Raises:
        InvalidInputError: another profile or other connectors are served there, the port is taken, or the
            server did not start.
    """
    check(serve, locals())
    if not _FIRST_PORT <= port <= _LAST_PORT:
        raise InvalidInputError(f"port must be from {_FIRST_PORT} to {_LAST_PORT}, not {port}")
    settings = profiles.read_profile(profile)
    settings |= _packages.needed(connectors, _files.pyspark_version(), settings)
    profile = profile if profile in profiles.PROFILES else str(Path(profile).absolute())
    with _alone(port) as folder:
        running = status(port)
        if running is not None and _answers(port):
            _refuse_another(running, profile, connectors)
            return running
        if running is not None:
            _end(running)  # whoever started it was killed before it answered
        _clear(folder)
        with _reserved(port) as reserved:
            process, log = _launch(folder, port, settings, reserved)
        server = Server(port, profile, process.pid, _started(process.pid), tuple(connectors))
        try:
            # Noted at once: should this process be killed now, the server can still be ended.
            _files.replace(folder / "server.json", [json.dumps(asdict(server))], private=True)
            _await(process, log, port)
        except BaseException:
            _end(server)
            _clear(folder)
            raise
    return server


def _refuse_another(running: Server, profile: str, connectors: Sequence[str]) -> None:
    """Refuse a server that runs where another one was asked for."""
    port = running.port
    if running.profile != profile:
        what = f"a server with profile {running.profile} runs on port {port}"
    elif lacks := [name for name in connectors if name not in running.connectors]:
        what = f"the server that runs on port {port} has no connector {lacks[0]}"
    else:
        return
    raise InvalidInputError(
        f"{what}; end it first (sparkstream serve --stop --port {port}), or give another port"
    )


def stop(port: int = PORT) -> Server | None:
    """End the server on a port, with all that runs on it; return which it was, None if none runs."""
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
    """End a server and its children: spark-submit works out its command in a process of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):  # just gone
            os.killpg(server.pid, number)
        if _gone(server.pid, _STOP_LIMIT):
            return


@contextmanager
def _alone(port: int) -> Iterator[Path]:
    """Keep a second `serve` or `stop` of the same port out; give the server's folder."""
    folder = folder_of(port)
    try:
        _files.private_folder(folder).chmod(0o700)
        lock = _files.private_file(folder / "lock")
    except OSError as err:
        raise InvalidInputError(
            f"cannot keep a server's files: {err}; set XDG_CACHE_HOME to a folder"
        ) from err
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@contextmanager
def _reserved(port: int) -> Iterator[list[int]]:
    """Take the port on the loopback of IPv6 for the server to inherit: nobody can listen there then.

    A client must name `localhost` to send its token without TLS, and may try IPv6 first.

    Raises:
        InvalidInputError: somebody else has the port.
    """
    taken = InvalidInputError(f"port {port} is taken by another program; give another port")
    if _answers(port):
        raise taken
    try:
        held = socket.socket(socket.AF_INET6)
        held.bind(("::1", port))
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            raise taken from None
        yield []  # no IPv6 here
        return
    with held:
        yield [held.fileno()]


def _clear(folder: Path) -> None:
    """Remove what a server that has ended left, but its log."""
    for name in ("server.json", "token"):
        (folder / name).unlink(missing_ok=True)
    for name in ("clients", "warehouse", "tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _launch(
    folder: Path, port: int, profile: dict[str, str], inherited: list[int]
) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """Start the server, and what writes its log."""
    from pyspark.find_spark_home import _find_spark_home

    home = _find_spark_home()
    submit = f"{home}/bin/spark-submit"
    if not os.access(submit, os.X_OK):
        raise InvalidInputError(f"{submit} cannot be run; correct or unset SPARK_HOME")
    token = secrets.token_urlsafe(32)
    with _files.private_file(folder / "token") as file:
        file.write(token.encode())
    for name in ("clients", "warehouse", "tmp"):
        _files.private_folder(folder / name)
    settings = {"spark.master": "local[*]", "spark.app.name": "sparkstream serve"} | profile
    settings |= {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": _files.for_spark(folder / "warehouse"),
        "spark.local.dir": str(folder / "tmp"),
        FOLDER_KEY: str(folder),
        KIT_KEY: str(_KIT),
    }
    conf = folder / "server.conf"
    _files.replace(conf, (f"{key} {value}\n" for key, value in settings.items()), private=True)
    command = [submit, "--properties-file", str(conf), "--class", _MAIN_CLASS]
    with _files.private_file(folder / "server.log") as log:
        # Spark's own Pythons print the address that they attach to, and its token.
        hide = ["sed", "-u", "s/token=[^ ;]*/token=(hidden)/g"]
        filtered = subprocess.Popen(
            hide, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = subprocess.Popen(
        [*command, "spark-internal"],
        env=_environment(home, token, folder),
        stdin=subprocess.DEVNULL,
        stdout=filtered.stdin,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=inherited,
    )
    if filtered.stdin is not None:
        filtered.stdin.close()  # it ends with the last that writes to it
    return server, filtered


def _environment(home: str, token: str, folder: Path) -> dict[str, str]:
    """Return the server's environment, which its Python workers have too; others cannot see into it."""
    of_client = ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED", "PYSPARK_GATEWAY")
    env = {key: value for key, value in os.environ.items() if not key.startswith(of_client)}
    # This folder by its name: Spark starts the Pythons of UDFs in one of each session's own.
    path = [str(_KIT.parent), str(Path.cwd()), env.get("PYTHONPATH", "")]
    log4j2 = f"-Dlog4j2.configurationFile={profiles.log4j2_file().as_uri()}"
    temporary = f'"-Djava.io.tmpdir={folder / "tmp"}"'
    options = [env.get("SPARK_SUBMIT_OPTS", ""), _packages.java_options(), log4j2, temporary]
    return env | {
        "SPARK_LOCAL_IP": "127.0.0.1",  # where Spark's web pages listen, which ask for no token
        "SPARK_HOME": home,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": ":".join(filter(None, path)),
        "SPARK_SUBMIT_OPTS": " ".join(options),
        _TOKEN: token,
    }


def _await(server: subprocess.Popen[bytes], log: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers."""
    _waiting.until(lambda: _answers(port) or server.poll() is not None, _START_LIMIT)
    if server.poll() is not None:
        what = "ended at its start"
        with suppress(subprocess.TimeoutExpired):
            log.wait(_STOP_LIMIT)
    elif _answers(port):
        return
    else:
        what = f"did not answer in {_START_LIMIT:g} s"
    file = folder_of(port) / "server.log"
    raise InvalidInputError(
        f"the server {what}: {cause_in_log(file.read_text(errors='replace'))}; see {file}"
    )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _gone(group: int, limit: float) -> bool:
    """Wait until no process of a group holds a file or a port any more."""

    def is_gone() -> bool:
        with suppress(ChildProcessError):  # it is ours to bury only where this process has started it
            os.waitpid(group, os.WNOHANG)
        return not any(_holds(process, group) for process in Path("/proc").glob("[0-9]*"))

    return _waiting.until(is_gone, limit)


def _holds(process: Path, group: int) -> bool:
    """Return whether a process is of the group and has a thread that runs; its first may be dead."""
    try:
        state, _, its_group = (process / "stat").read_text("utf-8").rpartition(")")[2].split()[:3]
        return its_group == str(group) and (state != "Z" or len(list((process / "task").iterdir())) > 1)
    except OSError:  # it has ended just now
        return False


def _started(pid: int) -> str:
    """Return when a process began, with the boot that this was in; empty if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else f"{boot} {fields[19]}"


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
    from sparkstream_kit._spark.session import runs_here, server_folder

    host, port = reach(url)
    from pyspark.errors import PySparkException, PySparkImportError
    from pyspark.sql import SparkSession

    settings: dict[str, Any] | None = None if profile is None else read_profile(profile)
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
    if server_folder(spark) is None or spark.conf.get(KIT_KEY, None) != str(_KIT):
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
    from sparkstream_kit._spark.settings import shown

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
    with suppress(ValueError):  # a port that is no number
        parts = urlsplit(url)
        if parts.scheme == "sc" and parts.hostname:
            return parts.hostname, parts.port or PORT
    raise InvalidInputError(
        f"SPARK_REMOTE={url.partition('/;')[0]} is no address of a Connect server; give one such as "
        "sc://localhost, or unset SPARK_REMOTE"
    )


def _running(url: str, host: str, port: int) -> Any:
    """Return this process's session; refuse one of another server."""
    from sparkstream_kit._spark.session import current, endpoint

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


def reach(url: str) -> tuple[str, int]:
    """Look whether a server answers, at once: Spark's own client would try for ten minutes.

    Returns:
        Its host and its port.

    Raises:
        InvalidInputError: no server answers, or the address cannot be read.
        MissingExtraError: what Spark Connect needs is not installed.

    Examples:
        >>> reach("sc://localhost:1")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no Spark Connect server answers at localhost port 1 ...
    """
    check(reach, locals())
    if any(importlib.util.find_spec(name) is None for name in ("pandas", "pyarrow", "grpc")):
        raise MissingExtraError("Spark Connect", "connect")
    host, port = _address(url)
    try:
        socket.create_connection((host, port), timeout=_ANSWER_LIMIT).close()
    except OSError as err:
        raise InvalidInputError(
            f"no Spark Connect server answers at {host} port {port} ({err.strerror or err}); start it "
            "(on this machine: sparkstream serve), or unset SPARK_REMOTE to use a session of this process"
        ) from err
    return host, port


def _own_url(url: str, host: str, port: int) -> str | None:
    """Return the address with the token of the server that `serve` has started there, if it has."""
    if host not in _LOOPBACK or "token=" in url:
        return None
    try:
        if status(port) is None:
            return None
        token = (folder_of(port) / "token").read_text("utf-8")
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
    log = "" if own is None else (folder_of(own) / "server.log").read_text(errors="replace")
    if unreadable := re.findall(r"\[INVALID_CONF_VALUE.*", log):
        raise InvalidInputError(
            f"the server's settings: {said_by_spark(ValueError(unreadable[-1]))}; correct its profile, and "
            "start it again"
        ) from error


def _register(spark: SparkSession, url: str, port: int) -> None:
    """Note who is attached, and end what killed clients have left: the server would run it for ever."""
    from pyspark.sql.connect.client import SparkConnectClient

    from sparkstream_kit._spark.session import identity

    session = identity(spark)
    clients = folder_of(port) / "clients"
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
    zipped = getattr(__spec__.loader, "archive", None)
    if zipped is None:
        return {str(path.relative_to(_KIT.parent)): path.read_bytes() for path in sorted(_KIT.rglob("*.py"))}
    with zipfile.ZipFile(zipped) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{_KIT.name}/")]
        return {name: archive.read(name) for name in names if name.endswith(".py")}
