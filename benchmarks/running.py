"""Runs programs in turn and keeps what they took; a wrong result counts as none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMIT = 300  # seconds for one run of one program
UP = "session is up"

# Other engines, each in an environment of its own.
ENGINES = {
    "bytewax": ["bytewax==0.21.1"],
    "duckdb": ["duckdb==2.0.0"],
    "flink": ["apache-flink==2.3.0"],
    "pathway": ["pathway==0.33.0"],
    "polars": ["polars==2.1.0"],
}


class ProgramError(Exception):
    """A program, or its environment, that cannot be had or gave a wrong result: one line."""


@dataclass(frozen=True)
class Measured:
    """One run of one program.

    Attributes:
        lines: what it printed: (seconds since its start, CPU seconds of all its
            processes, text).
        cpu: CPU seconds of all its processes, to their end.
        others: the part of the machine's time that went to other processes meanwhile.
    """

    lines: list[tuple[float, float, str]]
    cpu: float
    others: float

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object that is the last line."""
        last = self.lines[-1][2]
        try:
            found: dict[str, Any] = json.loads(last)
        except ValueError:
            raise ProgramError(f"its last line is no result: {last[:100]}") from None
        return found

    @property
    def seconds(self) -> float:
        """From the start of the process to the result."""
        return self.lines[-1][0]

    @property
    def query(self) -> tuple[float, float]:
        """Seconds and CPU seconds from the session's start to the result."""
        up = next(line for line in self.lines if line[2] == UP)
        return self.lines[-1][0] - up[0], self.lines[-1][1] - up[1]


def _rows(run: Measured) -> object:
    return run.result["rows"]


@dataclass(frozen=True)
class Program:
    """One way to do a job.

    Attributes:
        name: as the table shows it.
        command: its arguments; `{work}` becomes an empty folder of this run.
        engine: whose environment its Python is from; the kit's own when empty.
        env: added to the environment.
        figure: what the table is about; the seconds to the result unless another is
            given.
        runs: at most so many; what takes a minute is not repeated like what takes a
            second.
        reads: the result, to compare with the truth.
        limit: seconds for one run.
    """

    name: str
    command: Sequence[str | Path]
    engine: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    figure: Callable[[Measured], float] = lambda run: run.seconds
    runs: int = 100
    reads: Callable[[Measured], object] = _rows
    limit: int = LIMIT

    def run(self) -> Measured:
        """Run it once.

        Raises:
            ProgramError: it failed, took too long, or its environment cannot be made.
        """
        python = (
            [python_of(self.engine)] if str(self.command[0]).endswith(".py") else []
        )
        with tempfile.TemporaryDirectory(prefix="bench-") as work:
            command = [
                *python,
                *(str(part).replace("{work}", work) for part in self.command),
            ]
            errors = Path(work, "stderr")
            done = subprocess.run(
                [
                    sys.executable,
                    str(HERE / "measure.py"),
                    str(self.limit),
                    str(errors),
                    *command,
                ],
                env={**os.environ, **self.env},
                cwd=work,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            if found["code"] or not found["lines"]:
                said = [
                    line
                    for line in errors.read_text("utf-8", "replace").splitlines()
                    if line.strip()
                ]
                said = said or [text for _, _, text in found["lines"][-3:]]
                raise ProgramError(
                    f"exit code {found['code']}: {said[-1] if said else 'no word'}"[
                        :300
                    ]
                )
        return Measured(
            [(at, cpu, text) for at, cpu, text in found["lines"]],
            found["cpu"],
            found["others"],
        )


@dataclass(frozen=True)
class Limit:
    """What was asked of one program of a table.

    Attributes:
        row: the program.
        bound: at most this, or at least this where a higher figure is the better one.
        beside: the program that it is held against, round by round; without one, the
            bound is of the figure.
        seconds: the bound is of the difference to `beside`, and not of the ratio.
        rate: it is of the million rows that a core takes in a second, of which more is
            better.
    """

    row: str
    bound: float
    beside: str = ""
    seconds: bool = False
    rate: bool = False


@dataclass(frozen=True)
class Table:
    """Programs that do the same job, to be run in turn.

    Attributes:
        title: what was done.
        programs: the first one is the one that the others are held against.
        truth: the expected result; None: that of the first program.
        unit: of the figures.
        runs: how often each program runs.
        rows: input rows, for the rate a core: over the seconds from the session's start
            to the result.
        inputs: a folder that is read once before each run, so that nobody pays for a
            cold disk.
        limits: what was asked of the programs.
        higher: a higher figure is the better one.
        more: further columns, each a number of a run.
    """

    title: str
    programs: Sequence[Program]
    truth: object = None
    unit: str = "s"
    runs: int = 3
    rows: int = 0
    inputs: Path | None = None
    limits: Sequence[Limit] = ()
    higher: bool = False
    more: Mapping[str, Callable[[Measured], float]] = field(default_factory=dict)


def measure(
    table: Table, runs: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run a table's programs in turn, and return its figures as JSON has them.

    Every second round goes backwards. A program that fails once is not run again, and
    has a note instead of figures.
    """
    truth = table.truth
    rows: dict[str, dict[str, Any]] = {
        program.name: {
            "name": program.name,
            "figures": [],
            "cpu": [],
            "rates": [],
            "note": "",
        }
        for program in table.programs
    }
    others = 0.0
    for number in range(runs or table.runs):
        order = table.programs if number % 2 == 0 else table.programs[::-1]
        for program in order:
            row = rows[program.name]
            if row["note"] or number >= program.runs:
                continue
            for path in table.inputs.iterdir() if table.inputs else ():
                _ = path.read_bytes()
            try:
                run = program.run()
                truth = _same(program.reads(run), truth)
            except ProgramError as err:
                row.update(note=str(err), figures=[], cpu=[], rates=[])
                say(f"  {program.name}: {err}")
                continue
            row["figures"].append(program.figure(run))
            row["cpu"].append(run.cpu)
            for name, number_of in table.more.items():
                row.setdefault("more", {}).setdefault(name, []).append(number_of(run))
            others = max(others, run.others)
            if table.rows and any(text == UP for _, _, text in run.lines):
                row["rates"].append(table.rows / run.query[0] / (os.cpu_count() or 1))
            figure = f"{row['figures'][-1]:.3g} {table.unit}"
            say(
                f"  {program.name}: {figure}, CPU {run.cpu:.1f} s, others"
                f" {run.others:.0%}"
            )
    kept = {key: getattr(table, key) for key in ("title", "unit", "higher")}
    kept["limits"] = [asdict(limit) for limit in table.limits]
    return {**kept, "others": others, "rows": list(rows.values())}


def _same(found: object, truth: object) -> object:
    """Return the truth, which is what was found where there is none yet."""
    if truth is not None and found != truth:
        raise ProgramError("its result differs")
    return found


@cache
def python_of(engine: str) -> str:
    """Return the Python of an engine's environment, made now if it is missing.

    Raises:
        ProgramError: it cannot be installed here.
    """
    if not engine:
        return sys.executable
    folder = data.HOME / "venvs" / engine
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text().split() != ENGINES[engine]:
        shutil.rmtree(folder, ignore_errors=True)
        python = str(folder / "bin" / "python")
        install = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [*install, *ENGINES[engine]],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no word"])[-1]
                raise ProgramError(f"cannot be installed here: {last}"[:300])
        stamp.write_text("\n".join(ENGINES[engine]))
    return str(folder / "bin" / "python")


def properties(profile: str, java: str | None = None) -> str:
    """Return the file that gives plain PySpark the settings of a profile.

    They are for the Java whose home is given, or for the one that is found.
    """
    env = os.environ | ({"JAVA_HOME": java} if java else {})
    made = subprocess.run(
        ["sparkstream", "conf", profile],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def tuned(profile: str, java: str | None = None) -> dict[str, str]:
    """Return the environment that gives plain PySpark under `python` the settings of a profile."""
    return {
        "PYSPARK_SUBMIT_ARGS": (
            f"--properties-file {properties(profile, java)} pyspark-shell"
        )
    }
