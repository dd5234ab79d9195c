"""Extra: a warm server, Spark's own Connect server on this machine's loopback.

Jobs attach to it by SPARK_REMOTE. Each server has a folder of its own in the user's cache folder, which only
the user can enter: its access token, its log, its warehouse, who it is and who is attached. Linux only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit import _archive, _files, _packages, _waiting, profiles
from sparkstream_kit._arguments import check
from sparkstream_kit._spark import FOLDER_KEY, KIT_KEY
from sparkstream_kit.errors import InvalidInputError, cause_in_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PORT", "Server", "folder_of", "serve", "status", "stop"]

PORT = 15002  # Spark's own default

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
        KIT_KEY: str(Path(__file__).parent.parent),
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
    path = [str(Path(__file__).parent.parent.parent), str(Path.cwd()), env.get("PYTHONPATH", "")]
    log4j2 = f"-Dlog4j2.configurationFile={profiles.log4j2_file().as_uri()}"
    temporary = f'"-Djava.io.tmpdir={folder / "tmp"}"'
    options = [env.get("SPARK_SUBMIT_OPTS", ""), _archive.java_options(), log4j2, temporary]
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
