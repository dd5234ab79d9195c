"""A driver as a process of its own that a test can signal, freeze, look at and kill."""

import os
import re
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from conftest import HANGS, environment

SCRIPTS = Path(__file__).parent / "scripts"
JOBS = Path(__file__).parent.parent.parent / "jobs"


class NobodyThereError(AssertionError):
    """The process to be signalled is not there."""


@dataclass(frozen=True)
class Process:
    """A living process, as /proc shows it."""

    pid: int
    state: str
    command: str

    @property
    def is_java(self):
        return "org.apache.spark.deploy.SparkSubmit" in self.command


class Driver:
    """A job under `python` or `spark-submit`, with its JVM and workers, in one session.

    The session and not the process group: Spark puts its Python workers in a group of
    their own.
    """

    def __init__(self, launcher, script, args, home, env):
        self._script = str(script)
        self._out, self._err = (
            home / f"{name}-{time.monotonic_ns()}" for name in ("out", "err")
        )
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [shutil.which(launcher) or launcher, self._script, *map(str, args)],
                cwd=home,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def running(self):
        """Whether the process that was launched has not ended; a quicker look than `living`."""
        return self._process.poll() is None

    @property
    def output(self):
        """What it has written to standard output."""
        return self._out.read_text()

    @property
    def errors(self):
        """What it has written to standard error, without the JVM's own word at its start."""
        lines = self._err.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if "incubator modules" not in line)

    def living(self):
        """Return what lives of the session."""
        self._process.poll()  # else the first of them would stay as a zombie
        return living(self.pid)

    def ended(self, limit=HANGS):
        """Wait until it ends by itself and leaves nothing running; return its exit code."""
        try:
            code = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self._script} has not ended:\n{self.errors}"
            ) from None
        self.gone()
        return code

    def until(self, condition):
        """Wait until a condition holds; it is to hold before the driver ends."""
        until(lambda: condition() or not self.running, lambda: self.errors)
        assert self.running, self.errors

    def gone(self):
        """Wait until nothing of the session lives."""
        until(lambda: not self.living(), lambda: f"left running: {self.living()}")

    def signal(self, number, whom):
        """Signal the `group`, as a terminal does, or the `python` or `jvm` of the driver alone."""
        if whom == "group":
            os.killpg(self.pid, number)
        else:
            os.kill(self._pid_of(whom), number)

    def hears(self):
        """Say whether the job in Python has got so far that it handles SIGTERM."""
        for process in self.living():
            if not process.is_java and process.command.split()[1:2] == [self._script]:
                status = Path(f"/proc/{process.pid}/status").read_text()
                return bool(
                    int(status.partition("SigCgt:")[2].split()[0], 16) >> (SIGTERM - 1)
                    & 1
                )
        return False

    def kill(self, whom):
        """Kill, let what was frozen go on, and wait until the rest has ended by itself."""
        self.signal(SIGKILL, whom)
        self.thaw()
        self._process.wait(HANGS)
        self.gone()

    def leave_jvm_alone(self):
        """Kill Python and its workers, and leave the JVM as it is; return its process id."""
        jvm = self._pid_of("jvm")
        _send(SIGKILL, [process for process in self.living() if process.pid != jvm])
        until(lambda: [process.pid for process in self.living()] == [jvm])
        return jvm

    def freeze(self):
        """Stop every process of the session where it is."""
        os.killpg(self.pid, SIGSTOP)  # Python and the JVM, at once
        until(self._frozen, lambda: f"not frozen: {self.living()}", every=0.001)

    def frozen_if(self, condition):
        """Freeze if a condition holds, and say whether it holds still; if not, go on."""
        if not condition():
            return False
        self.freeze()
        if not condition():
            self.thaw()
            return False
        return True

    def _frozen(self):
        # Again and again: what was stopped may have started another process just
        # before.
        moving = [process for process in self.living() if process.state not in "Tt"]
        _send(SIGSTOP, moving)
        return not moving

    def thaw(self):
        """Let them go on."""
        _send(SIGCONT, self.living())

    def remove(self):
        """Kill what is left of the session."""
        while left := self.living():
            _send(SIGKILL, left)
            time.sleep(0.01)

    def _pid_of(self, whom):
        for process in self.living():
            if process.is_java:
                if whom == "jvm":
                    return process.pid
            elif whom == "python" and self._script in process.command:
                return process.pid
        raise NobodyThereError(f"no {whom} in {self.living()}")


def _send(number, processes):
    for process in processes:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process.pid, number)


def living(session):
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                state, _, _, its_session = (
                    (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                )
                if int(its_session) == session and state not in "ZX":
                    command = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
                    found.append(Process(int(entry.name), state, command))
    return found


def until(condition, told=str, *, every=0.02):
    """Wait until a condition holds."""
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, f"not within {HANGS:g} s: {told()}"
        time.sleep(every)


def ended(driver):
    """Wait for the end of a driver that must do well, and return its output."""
    assert driver.ended() == 0, driver.errors
    return driver.output


def one_line(driver, code):
    """Wait for the end of a driver that must fail so; return its only line on standard error.

    Spark logs a line of its own if a newer driver has removed the directory into which
    it writes.
    """
    assert driver.ended() == code, driver.errors
    lines = [
        each
        for each in driver.errors.splitlines()
        if "ERROR FileOutputCommitter: Mkdirs" not in each
    ]
    assert len(lines) == 1, driver.errors
    return lines[0]


# A signal to a whole group can hit the process by which Java starts `chmod` for a file
# of the checkpoint. The batch fails then, and the kit says so in this one line; it has
# the name of an exception in it.
_HELPER = (
    r"(?m)^\S+\.py: query \S+ failed: java\.io\.IOException: error=0, Failed to exec"
    r" spawn helper: .*$"
)


def no_stack_trace(driver):
    """See that a driver has shown nobody a stack trace."""
    said = re.sub(_HELPER, "", driver.errors + driver.output)
    for word in ("Traceback", "\tat ", "Exception"):
        assert word not in said, driver.errors


def take(line):
    """Rewind a checkpoint by the command that a line says."""
    advice = re.search(r"(sparkstream checkpoint rewind \S+ --to \d+)", line)
    assert advice, line
    subprocess.run(
        [*shlex.split(advice[1]), "--apply"],
        env=environment(),
        check=True,
        capture_output=True,
    )
