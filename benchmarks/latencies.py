"""Tables about time: the start, a small batch, tests, what the kit adds, many files."""

from __future__ import annotations

import csv
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import data
from running import (
    HERE,
    ROOT,
    Limit,
    Measured,
    Program,
    ProgramError,
    Table,
    properties,
    tuned,
)

from sparkstream_kit import server
from sparkstream_kit._internal.java import release, version
from sparkstream_kit.profiles import read_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["batch", "listener", "monitoring", "overhead", "start", "suite", "waiting"]

TOTALS = ROOT / "jobs" / "sales_totals.py"
ROWS = 1_000_000
LOCAL, TEST = "hand-tuned, settings of local", "hand-tuned, settings of test"
BARE = "hand-tuned, without the file of `sparkstream conf`"
SAME = "kit, lines unchecked"
NEWER = (25, 0, 3)  # the first Java with a cache of linked classes


def start(scale: float) -> Iterator[Table]:
    """First result of `sales_totals` (one file of 500 rows) from process start, archive warm.

    The job checks each value of each line, which the programs written by hand do not
    do; `same.py` leaves that out, and so shows what the kit itself costs.
    """
    del scale
    subprocess.run(["sparkstream", "warm"], stdout=sys.stderr, check=True)
    folder, truth = data.small_sales(1, 500)

    def program(
        name: str,
        *command: str | Path,
        env: dict[str, str] | None = None,
        runs: int = 100,
    ) -> Program:
        return Program(
            name,
            command,
            env=env or {},
            figure=first_result,
            runs=runs,
            reads=totals_printed,
        )

    kit = (TOTALS, folder, "--available-now", "--format", "csv")
    plain = (HERE / "start" / "plain.py", folder)
    same = (HERE / "start" / "same.py", folder)
    submit, with_file = "spark-submit", "--properties-file"
    # The first one after the archive reads it from the disk
    with suppress(ProgramError):
        program("to warm", *kit).run()
    yield Table(
        "First result from process start, under python",
        [
            program("kit, local", *kit),
            program("kit, test", *kit, "--profile", "test"),
            program(f"{SAME}, local", *same, "local"),
            program(f"{SAME}, test", *same, "test"),
            program(LOCAL, *plain, env=tuned("local")),
            program(TEST, *plain, env=tuned("test")),
            program("naive", *plain),
        ],
        truth,
        runs=3,
        limits=(
            # Seconds on a machine on which naive takes 15
            Limit("kit, local", 4.5 / 15, "naive"),
            Limit(f"{SAME}, local", 1.1, LOCAL),
            Limit("kit, test", 3.5 / 15, "naive"),
            Limit(f"{SAME}, test", 1.1, TEST),
        ),
    )
    yield Table(
        "First result from process start, under spark-submit with the properties file",
        [
            program("kit, local", submit, with_file, properties("local"), *kit),
            program(
                "kit, test",
                submit,
                with_file,
                properties("test"),
                *kit,
                "--profile",
                "test",
            ),
            program(
                f"{SAME}, local", submit, with_file, properties("local"), *same, "local"
            ),
            program(LOCAL, submit, with_file, properties("local"), *plain),
            program("naive", submit, *plain),
        ],
        truth,
        runs=3,
        limits=(
            Limit("kit, local", 5 / 15, "naive"),
            Limit(f"{SAME}, local", 0.5, LOCAL, seconds=True),
            Limit("kit, test", 4 / 15, "naive"),
        ),
    )
    yield from by_java(program, same, plain, folder, truth)
    with warm_server() as remote:
        attached = program("kit, attached", *kit, env=remote)
        same_attached = program(f"{SAME}, attached", *same, "local", env=remote)
        one_test, plain_test = (
            under_pytest(
                f"one streaming test, {name}",
                HERE / "start" / file,
                tests=1,
                env=remote,
            )
            for name, file in (
                ("kit", "one_test.py"),
                ("plain PySpark", "plain_test.py"),
            )
        )
        for program_to_warm in (attached, same_attached, one_test, plain_test):
            with suppress(ProgramError):  # the table will say it
                program_to_warm.run()
        by_hand = "plain PySpark, attached"
        yield Table(
            "First result from process start, attached to a warm server",
            [attached, same_attached, program(by_hand, *plain, env=remote)],
            truth,
            runs=7,
            limits=(
                Limit(same_attached.name, 1.0, by_hand),
                Limit(same_attached.name, 1.2),
            ),
        )
        yield Table(
            "pytest, attached to a warm server",
            [one_test, plain_test],
            runs=7,
            limits=(Limit(one_test.name, 1.5, plain_test.name),),
        )


def by_java(
    program: Callable[..., Program],
    same: Sequence[str | Path],
    plain: Sequence[str | Path],
    folder: Path,
    truth: object,
) -> Iterator[Table]:
    """Compare the first result, one test and the phases of a start, by Java.

    The Javas are this one and, if there is one in /usr/lib/jvm, a newer one.
    """
    newer = [
        home
        for home in Path("/usr/lib/jvm").glob("*")
        if version(release(home / "bin/java")) >= NEWER
    ]
    homes = {
        "": os.environ["JAVA_HOME"],
        **{f", Java {NEWER[0]}": str(home) for home in newer[:1]},
    }
    rows: list[Program] = []
    tests: list[Program] = []
    for name, home in homes.items():
        env = {"JAVA_HOME": home}
        subprocess.run(
            ["sparkstream", "warm"], env=os.environ | env, stdout=sys.stderr, check=True
        )
        rows += [
            program(f"{SAME}{name}", *same, "local", env=env),
            program(f"{LOCAL}{name}", *plain, env=env | tuned("local", home)),
        ]
        by_hand = env | tuned("test", home)
        tests += [
            under_pytest(
                f"one test, kit{name}", HERE / "start" / "one_test.py", tests=1, env=env
            ),
            under_pytest(
                f"one test, {TEST}{name}",
                HERE / "start" / "plain_test.py",
                tests=1,
                env=by_hand,
            ),
        ]
    rows.append(program(BARE, *plain, env=settings_by_hand()))
    goals = [Limit(rows[0].name, 1.0, LOCAL)]
    if newer:
        goals += [
            Limit(rows[2].name, 0.75, LOCAL),
            Limit(rows[2].name, 0.8, rows[3].name),
        ]
    yield Table(
        "First result from process start, by Java", rows, truth, runs=7, limits=goals
    )
    goals = [
        Limit(each.name, 0.75, other.name)
        for each, other in zip(tests[::2], tests[1::2], strict=True)
    ]
    yield Table(
        "One test from the start of pytest, by Java", tests, runs=7, limits=goals
    )
    yield by_phase(homes, folder)


def settings_by_hand() -> dict[str, str]:
    """Return an environment that gives plain PySpark the settings of `local`.

    Options of Java are left out.
    """
    settings = {
        key: value
        for key, value in read_profile("local").items()
        if "JavaOptions" not in key
    }
    flags = " ".join(
        f"--conf {shlex.quote(f'{key}={value}')}" for key, value in settings.items()
    )
    return {"PYSPARK_SUBMIT_ARGS": f"{flags} pyspark-shell"}


def by_phase(homes: Mapping[str, str], folder: Path) -> Table:
    """Return a table of where the seconds of a start go, phase by phase.

    Each phase has its seconds, and the CPU seconds of all processes.
    """
    command = HERE / "start" / "phases.py"
    programs = []
    for name, home in homes.items():
        programs += [
            Program(f"{SAME}{name}", (command, "kit", folder), env={"JAVA_HOME": home}),
            Program(
                f"{LOCAL}{name}",
                (command, "hand", folder),
                env={"JAVA_HOME": home} | tuned("local", home),
            ),
        ]
    phases = ["imports", "session", "query", "batch", "result"]
    more: dict[str, Callable[[Measured], float]] = {}
    for before, phase in zip(["", *phases], phases, strict=False):
        more[f"{phase}, s"] = partial(spent, before=before, phase=phase, which=0)
        more[f"{phase}, CPU s"] = partial(spent, before=before, phase=phase, which=1)
    return Table("A start by its phases", programs, runs=7, more=more)


def spent(run: Measured, *, before: str, phase: str, which: int) -> float:
    """Return the seconds (0) or the CPU seconds (1) that one phase of a start took.

    The phase begins at the end of `before`, or at the start if that is empty.
    """
    ends = {"": (0.0, 0.0)} | {text: (at, cpu) for at, cpu, text in run.lines}
    return ends[phase][which] - ends[before][which]


def first_result(run: Measured) -> float:
    """Return the seconds to the first row of totals."""
    return next(at for at, _, text in run.lines if _total(text))


def totals_printed(run: Measured) -> list[list[str]]:
    """Return [product, total] of the CSV lines that were printed."""
    return sorted(row for _, _, text in run.lines if (row := _total(text)))


def _total(text: str) -> list[str] | None:
    fields = next(csv.reader([text]), [])
    known = len(fields) == 3 and re.fullmatch(r"[\d.E]+", fields[2])  # noqa: PLR2004 - product, orders, total
    return [fields[0], f"{float(fields[2]):.2f}"] if known else None


@contextmanager
def warm_server() -> Iterator[dict[str, str]]:
    """Give the environment that attaches to a server of the kit."""
    # One that runs already is somebody's
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve, at = ["sparkstream", "serve"], ["--port", str(port)]
    said = subprocess.run(
        [*serve, "start", *at], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    try:
        found = re.search(r"SPARK_REMOTE=[\"']?([^\s\"']+)", said)
        if found is None:
            raise RuntimeError(f"sparkstream serve said no SPARK_REMOTE: {said}")
        # The kit finds it by itself
        token = (server.folder_of(port) / "token").read_text("utf-8")
        yield {"SPARK_REMOTE": found[1], "SPARK_CONNECT_AUTHENTICATE_TOKEN": token}
    finally:
        subprocess.run([*serve, "stop", *at], stdout=sys.stderr, check=True)


def batch(scale: float) -> Iterator[Table]:
    """A micro-batch of twelve rows from a CSV file: the median of the later batches.

    The first third of the batches does not count, because the JVM warms up.
    """
    batches = 60 if scale >= 1 else 30
    bounds = {"sum": (115, 80), "stateless": (75, 45)}
    for kind, title in (
        ("sum", "Micro-batch, sum by key"),
        ("stateless", "Micro-batch, stateless"),
    ):

        def kit(profile: str) -> Program:
            return small_batches(f"kit, {profile}", kind, batches, profile)  # noqa: B023 - used at once

        def plain(name: str, many: int = batches, **more: Any) -> Program:
            return small_batches(name, kind, many, **more)  # noqa: B023 - used at once

        few = 4 if kind == "sum" else batches
        yield Table(
            title,
            [
                kit("local"),
                kit("test"),
                plain(LOCAL, env=tuned("local")),
                plain(TEST, env=tuned("test")),
                plain("naive", few, runs=1 if kind == "sum" else 100),
            ],
            truth=12,
            unit="ms",
            runs=2,
            limits=[
                Limit(f"kit, {profile}", bound)
                for profile, bound in zip(("local", "test"), bounds[kind], strict=True)
            ],
        )


def small_batches(
    name: str, kind: str, batches: int, profile: str = "", **more: Any
) -> Program:
    """Return a program of so many batches: the kit's with a profile, else plain PySpark's."""
    folder, _ = data.small_sales(batches, 12)
    folder_and_more = (profile, folder, str(batches)) if profile else (folder,)
    file = HERE / "batch" / ("kit.py" if profile else "plain.py")
    return Program(
        name,
        (file, kind, *folder_and_more),
        **{"figure": usual_batch, "reads": rows_a_batch, **more},
    )


def usual_batch(run: Measured) -> float:
    """Return the median batch after the first third."""
    took = run.result["milliseconds"]
    return float(median(took[len(took) // 3 :]))


def rows_a_batch(run: Measured) -> float:
    """Return how many rows a batch had."""
    return float(run.result["rows"] / len(run.result["milliseconds"]))


def overhead(scale: float) -> Iterator[Table]:
    """The kit against hand-tuned plain PySpark: CPU seconds of the driver and the JVM.

    Both have the same settings.
    """
    rows = int(ROWS * scale)
    folder, truth = data.sales(rows)
    args = ("csv", folder / "csv", "5")

    def cpu(run: Measured) -> float:
        return run.cpu

    yield Table(
        f"{rows:,} CSV rows in 20 batches, sum by key",
        [
            Program(
                "hand-tuned",
                (HERE / "throughput" / "tuned.py", *args),
                env=tuned("local"),
                figure=cpu,
            ),
            Program("kit", (HERE / "throughput" / "kit.py", *args), figure=cpu),
        ],
        truth,
        unit="CPU s",
        runs=10,
        limits=(Limit("kit", 1.05, "hand-tuned"),),
    )
    yield Table(
        "60 batches of twelve rows, sum by key",
        [
            small_batches("hand-tuned", "sum", 60, env=tuned("local"), figure=cpu),
            small_batches("kit", "sum", 60, "local", figure=cpu),
        ],
        truth=12,
        unit="CPU s",
        runs=10,
        limits=(Limit("kit", 1.05, "hand-tuned"),),
    )


def listener(scale: float) -> Iterator[Table]:
    """What the kit's listener takes a batch, timed in the callback, beside one that does nothing.

    PySpark brings each value of a progress from the JVM by a call of its own; the kit
    brings it as one text.
    """
    del scale
    folder, _ = data.small_sales(60, 12)
    args = (folder, "60")
    yield Table(
        "Listener, a batch",
        [
            Program("kit", (HERE / "listener" / "kit.py", *args), figure=usual_batch),
            Program(
                "plain PySpark, one that does nothing",
                (HERE / "listener" / "plain.py", *args),
                env=tuned("local"),
                figure=usual_batch,
            ),
        ],
        truth=60,
        unit="ms",
        runs=2,
        limits=(Limit("kit", 5),),
    )


def monitoring(scale: float) -> Iterator[Table]:
    """What it costs to watch a run: the time of a batch in the run's own thread, and CPU.

    The CPU time is that at 100 batches a second.
    """
    count = 1000 if scale >= 1 else 300
    recorded = ROOT / "tests" / "recorded" / "progress.jsonl"

    def program(name: str, face: str) -> Program:
        return Program(
            name,
            (HERE / "monitoring" / "face.py", face, str(count), recorded),
            figure=lambda run: float(run.result["microseconds"]),
        )

    more = {"CPU, µs a batch": lambda run: float(run.result["cpu"])}
    yield Table(
        "A batch in the run's thread",
        [
            program("board alone", "board"),
            program("--show, as lines", "lines"),
            program("--record", "record"),
            program("--ui, nobody watches", "page"),
            program("--ui, one browser", "browser"),
        ],
        truth=count,
        unit="µs",
        limits=(Limit("board alone", 100), Limit("--ui, nobody watches", 100)),
        more=more,
    )
    yield Table(
        "A scrape of /metrics", [program("--metrics", "scrape")], truth=count, unit="µs"
    )


def suite(scale: float) -> Iterator[Table]:
    """Thirty streaming tests of three batches, from the start of pytest to its end."""
    del scale
    plain = HERE / "suite" / "plain.py"
    yield Table(
        "30 streaming tests of 3 batches",
        [
            under_pytest("kit's harness", HERE / "suite" / "kit.py", tests=30),
            under_pytest(TEST, plain, tests=30, env=tuned("test")),
            under_pytest(
                "naive (3 run, 27 more of the last one's time)",
                plain,
                tests=3,
                of=30,
                runs=1,
            ),
        ],
        runs=2,
        limits=(
            Limit("kit's harness", 18),
            Limit("kit's harness", 0.5, TEST, seconds=True),
        ),
    )


def under_pytest(
    name: str,
    file: Path,
    *,
    tests: int,
    of: int | None = None,
    env: dict[str, str] | None = None,
    runs: int = 100,
) -> Program:
    """Return a run of pytest; of more tests than it runs, the rest take what the last one took."""

    def seconds(run: Measured) -> float:
        passed = [at for at, _, text in run.lines if " PASSED " in text]
        more = (of or tests) - tests
        return run.seconds + (more * (passed[-1] - passed[-2]) if more else 0)

    # Hypothesis is there for the project's own tests: half a second of import that no
    # user of the kit has.
    without = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    command = (sys.executable, "-m", "pytest", file, "-v", *without, "--rootdir", ROOT)
    return Program(
        name,
        command,
        env={"PYTHONUNBUFFERED": "1", "TESTS": str(tests), **(env or {})},
        figure=seconds,
        runs=runs,
        reads=lambda run: sum(" PASSED " in text for _, _, text in run.lines) == tests,
    )


def waiting(scale: float) -> Iterator[Table]:
    """Many files in the folder, one a batch: the batch that lists them."""
    for power in (1, 3, 5) if scale >= 1 else (1, 3):
        folder, _ = data.small_sales(10**power, 1)
        args = (folder, "8")
        longest = lambda run: float(max(run.result["milliseconds"]))  # noqa: E731
        yield Table(
            f"{10**power:,} files waiting, the longest listing of 8 batches",
            [
                Program("kit", (HERE / "waiting" / "kit.py", *args), figure=longest),
                Program(
                    "hand-tuned",
                    (HERE / "waiting" / "plain.py", *args),
                    env=tuned("local"),
                    figure=longest,
                ),
            ],
            truth=8,
            unit="ms",
            runs=1,
        )


def history(scale: float) -> Iterator[Table]:
    """What the past costs: CPU seconds from a start through 40 batches of one file.

    The CPU seconds are those of Python and the JVM. The log of the file source lists
    the files of the past. The first start of the kit takes them out of the log; the
    second start finds it short.
    """
    cpu = lambda run: float(run.result["cpu"])  # noqa: E731
    for files in (0, 100_000, 1_000_000) if scale >= 1 else (0, 100_000):
        kit, plain = (
            HERE / "history" / "past_kit.py",
            HERE / "history" / "past_plain.py",
        )
        yield Table(
            f"{files:,} files read before, CPU of a start and 40 batches",
            [
                Program("kit, first start", (kit, str(files), "1"), figure=cpu),
                Program("kit, next start", (kit, str(files), "2"), figure=cpu),
                Program("plain PySpark", (plain, str(files)), figure=cpu),
            ],
            truth=40,
            unit="s",
            runs=1,
        )
