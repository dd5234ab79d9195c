"""A job's command line: what is read and refused, how it ends, and where its words go."""

import argparse
import logging
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, environment, process, refusal

from sparkstream_kit import errors, jobflags, sources
from sparkstream_kit.errors import InvalidInputError, KitError
from sparkstream_kit.jobflags import types
from sparkstream_kit.profiles import submit_properties
from sparkstream_kit.progress import QuerySummary, RunSummary

SHARED = (*jobflags.INPUT, *jobflags.SERVER, *jobflags.OUTPUT, *jobflags.RUN)
GROUPS = (getattr(jobflags, name) for name in jobflags.__all__ if name.isupper())
FLAGS = {flag: how for group in GROUPS for flag, how in group.items()}


def test_a_job_leaves_out_flags_of_a_group():
    parser = jobflags.parser("A job.", *jobflags.RUN, without=["--idle", "--ui"])
    assert not hasattr(parser.parse_args([]), "idle")
    with pytest.raises(InvalidInputError, match="unknown argument --idle"):
        parser.parse_args(["--idle", "5"])
    with pytest.raises(InvalidInputError, match=r"--idel; did you mean --idle\?"):
        jobflags.parser("A job.", *jobflags.RUN, without=["--idel"])


# --- types


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (jobflags.seconds, "0.5", 0.5),
        (types.positive_int, "12", 12),
        (types.port, "65535", 65535),
        (jobflags.existing_folder, "hdfs://host/none", "hdfs://host/none"),
        (jobflags.existing_folder, "hdfs:/none", "hdfs:/none"),
        (jobflags.existing_folder, "file:///tmp", "file:///tmp"),
        (jobflags.existing_folder, "/none/2026-*", "/none/2026-*"),
        (types.host, "9999.example.org", "9999.example.org"),
        (jobflags.checkpoint_folder, "/none/yet", "/none/yet"),
        (types.interval, "1 minute 30 seconds", "1 minute 30 seconds"),
        (types.interval, "0 seconds", "0 seconds"),
        (types.delay, "1 hour 30 minutes", "1 hour 30 minutes"),
    ],
)
def test_a_value_is_read(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts", "message"),
    [
        (
            jobflags.seconds,
            ["0", "-1", "nan", "inf", "soon", ""],
            "is not a positive number of seconds",
        ),
        (
            types.positive_int,
            ["0", "-1", "1.5", "٣", "", "many"],
            "is not a whole number from 1",
        ),
        (
            types.port,
            ["0", "65536", "-1", "http", "٣"],
            "is not a whole number from 1 to 65535",
        ),
        (
            types.interval,
            ["5", "seconds", "5 s"],
            "; write it like '10 seconds', '1 hour 30 minutes'",
        ),
        (types.interval, ["-5 seconds"], "the interval must be zero or longer, not"),
        (
            types.interval,
            ["5 months"],
            "a month has no fixed length; write it in days",
        ),
        (types.delay, ["5"], "; write it like '10 seconds', '1 hour 30 minutes'"),
        (
            types.delay,
            ["0 seconds", "-5 seconds"],
            "with less than a millisecond Spark drops the rows that",
        ),
        (types.delay, ["1 month"], "a month has no fixed length; write it in days"),
        (
            types.host,
            ["9999"],
            "is a number, perhaps a port; give the host and then the port",
        ),
        (
            jobflags.existing_folder,
            ["/none/here", "file:/none/here"],
            "does not exist; create it or correct",
        ),
        (
            jobflags.existing_folder,
            [__file__, f"file:{__file__}"],
            "is a file; give the folder that it is",
        ),
        (jobflags.checkpoint_folder, [__file__], "is a file; give a folder"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_was_given(read, texts, message):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError) as error:
            read(text)
        assert text in str(error.value)
        assert message in str(error.value)


def test_a_folder_that_spark_may_find_elsewhere_is_left_to_spark(monkeypatch):
    elsewhere = (
        "SPARK_REMOTE",
        "HADOOP_CONF_DIR",
        "YARN_CONF_DIR",
        "PYSPARK_GATEWAY_PORT",
    )
    for name in elsewhere:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(argparse.ArgumentTypeError):
        jobflags.existing_folder("/data/sales")
    for name in elsewhere:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert jobflags.existing_folder("/data/sales") == "/data/sales"


# --- the parser


def parse(*words):
    parser = jobflags.parser("A job.", "INPUT_DIR", *jobflags.OUTPUT, *jobflags.RUN)
    parser.add_argument("--how", choices=["this", "that"])
    return parser.parse_args(list(words))


def test_the_shared_flags_are_read():
    times = ("--run-for", "1.5", "--idle", "2", "--trigger", "5 seconds")
    args = parse("/", "--profile=test", "--checkpoint", "c", *times)
    assert (args.input_dir, args.profile, args.checkpoint) == ("/", "test", "c")
    assert (args.run_for, args.idle, args.available_now, args.trigger) == (
        1.5,
        2.0,
        False,
        "5 seconds",
    )
    assert (args.format, args.stop_file, args.database) == ("table", None, None)
    assert "show" not in jobflags.for_run(args)
    assert jobflags.for_run(parse("/", "--show"))["show"] == "terminal"
    assert parse("--", "/").input_dir == "/"


def test_a_job_has_defaults_of_its_own():
    files = "--max-files-per-trigger"
    assert jobflags.parser("A job.", files).parse_args([]).max_files_per_trigger is None
    parser = jobflags.parser("A job.", files, max_files_per_trigger=1)
    assert parser.parse_args([]).max_files_per_trigger == 1
    assert parser.parse_args([files, "all"]).max_files_per_trigger is None
    assert "Default: 1." in " ".join(parser.format_help().split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--run-fro", "60", "/"],
            "unknown argument --run-fro; did you mean --run-for?",
        ),
        (["/", "--run=60"], "unknown argument --run; did you mean --run-for?"),
        (["/", "more"], "unknown argument more; see --help"),
        ([], "the following arguments are required: INPUT_DIR; see --help"),
        (["/", "--idle"], "argument --idle: expected one argument; see --help"),
        (
            ["/none"],
            (
                "argument INPUT_DIR: folder /none does not exist; create it or correct"
                " the path"
            ),
        ),
        (
            ["/", "--trigger", "1 minute", "--available-now"],
            "--available-now and --trigger exclude each",
        ),
        (
            ["/", "--snapshot", "/"],
            "--snapshot / is the input folder /, and would be read; put it elsewhere",
        ),
    ],
)
def test_arguments_that_cannot_be_are_one_line(words, message):
    assert refusal(parse, *words).startswith(message)


@pytest.mark.parametrize(
    ("flag", "path"),
    [
        *(
            (flag, "/new")
            for flag in ("--checkpoint", "--snapshot", "--stop-file", "--record")
        ),
        ("--summary-json", "/new"),
        ("--database", "sqlite:////new"),
    ],
)
def test_an_output_in_the_input_folder_is_refused(flag, path):
    said = (
        f"{flag} {path} lies in the input folder /, and would be read; put it elsewhere"
    )
    assert refusal(parse, "/", flag, path) == said


def test_an_unknown_choice_names_those_there_are():
    with pytest.raises(
        InvalidInputError,
        match=r"^argument --how: invalid choice: 'xml' \(.*this.*that",
    ):
        parse("/", "--how", "xml")


def test_a_job_with_all_inputs_takes_one():
    parser = jobflags.parser("A job.", *jobflags.LINES, *jobflags.POSTS)
    with pytest.raises(
        InvalidInputError,
        match="--kafka and --url exclude each other; give one of them",
    ):
        parser.parse_args(["--url", "https://x.com/", "--kafka", "a:1", "--topic", "t"])
    assert "required: INPUT_DIR or --kafka or --url; see --help" in refusal(
        parser.parse_args, []
    )


def test_help_shows_the_docstring_and_ends_with_0(capsys):
    with pytest.raises(SystemExit) as end:
        jobflags.parser("A job.", *SHARED, table="totals").parse_args(["--help"])
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "A job." in out
    assert all(flag in out for flag in SHARED)
    assert "Keep the result in the table totals of this database" in out


def test_help_has_flags_in_groups_and_a_usage_that_shows_what_is_required():
    def usage(*flags, **own):
        parser = jobflags.parser("A job.", *flags)
        for name, how in own.items():
            parser.add_argument(name, **how)
        usage, _, rest = parser.format_help().partition("\n")
        return usage.partition(" ")[2].partition(" ")[2], re.findall(
            r"^(\w[\w ]*):$", rest, re.MULTILINE
        )

    groups = ["options", "input", "output", "run", "look"]
    kafka = "--kafka SERVERS --topic TOPIC"
    both = usage(*jobflags.INPUT, *jobflags.POSTS, *jobflags.FOLDER, *jobflags.RUN)
    assert both == (f"(INPUT_DIR | {kafka} | --url URL) OUT_DIR [FLAGS]", groups)
    assert usage("INPUT_DIR", model={"metavar": "MODEL"}) == (
        "INPUT_DIR MODEL [FLAGS]",
        ["positional arguments", *groups[:2]],
    )
    assert usage("--kafka", "--topic", *jobflags.OUTPUT) == (
        f"{kafka} [FLAGS]",
        groups[:3],
    )
    assert usage(*jobflags.SERVER, *jobflags.SHOW)[0] == "[FLAGS]"


def test_help_speaks_only_of_flags_that_the_job_has():
    kafka = jobflags.parser("A job.", "--kafka", "--topic").format_help()
    assert "INPUT_DIR" not in kafka

    def says(*flags):
        return " ".join(jobflags.parser("A job.", *flags).format_help().split())

    assert "in place of INPUT_DIR" in says(*SHARED)
    assert "resume from it. Default: a temporary folder." in says("--checkpoint")
    assert "resume from it. Default: OUT_DIR/_checkpoint." in says(
        "--checkpoint", "OUT_DIR"
    )
    assert "are read. Default: a temporary folder." in says(
        "--url", "--spool", "OUT_DIR"
    )


def test_the_help_of_each_flag_says_its_unit():
    units = {
        "SECONDS": "seconds",
        "PERCENT": "%%",
        "INTERVAL": "seconds",
        "DELAY": "minutes",
        "N": "files|records",
    }
    said = {
        flag: units[how["metavar"]]
        for flag, how in FLAGS.items()
        if how.get("metavar") in units
    }
    assert {
        flag for flag, unit in said.items() if not re.search(unit, FLAGS[flag]["help"])
    } == set()
    assert len(said) >= 8


def test_a_flag_of_the_jobs_own_is_not_checked_as_a_shared_one():
    parser = jobflags.parser("A job.")
    parser.add_argument("--snapshot", default="x.gif")
    assert parser.parse_args([]).snapshot == "x.gif"


def test_the_url_of_alerts_is_taken_from_the_environment_where_it_is_a_secret(
    monkeypatch,
):
    monkeypatch.setenv("ALERTS", "https://host/services/hush?sig=hush")
    args = jobflags.parser("A job.", "--alert-url").parse_args(
        ["--alert-url", "env:ALERTS"]
    )
    assert jobflags.for_run(args) == {
        "on_verdict": "https://host/services/hush?sig=hush"
    }
    parser = jobflags.parser("A job.", "--alert-url")
    said = refusal(parser.parse_args, ["--alert-url", "https://host?sig=hush"])
    assert (
        "others can see a password on the command line; put the URL into an environment"
        " variable" in said
    )
    assert "hush" not in said


def test_a_registry_with_a_password_is_taken_from_the_environment(monkeypatch):
    address = "https://ann:hush@host/apis/ccompat/v7"
    monkeypatch.setenv("REGISTRY", address)
    assert jobflags.registry("env:REGISTRY") == address
    assert jobflags.registry("http://localhost:8081") == "http://localhost:8081"
    parser = jobflags.parser("A job.")
    parser.add_argument("--registry", type=jobflags.registry)
    for given, why in [
        (address, "others can see a password on the command line"),
        ("localhost", "registry 'localhost' is no address, such as http://localhost"),
        ("env:NOBODY", "the environment variable NOBODY is not set"),
    ]:
        said = refusal(parser.parse_args, ["--registry", given])
        assert why in said
        assert "hush" not in said


@pytest.mark.parametrize(
    ("counts", "refused"),
    [
        ([(2, 102), (2, 102)], "2 of 102 (1.96%)"),
        ([(None, None), (3, 10)], "3 of 10 (30%)"),
        ([(1, 100)], None),
        ([], None),
    ],
)
def test_queries_that_parsed_the_same_lines_do_not_add_up(counts, refused):
    queries = (
        QuerySummary("q", "id", bad_rows=bad, parsed_rows=parsed)
        for bad, parsed in counts
    )
    summary = RunSummary("end of input", 1.0, tuple(queries))
    line = f"^bad lines: {re.escape(refused or '')}; --max-bad is 1%$"
    with pytest.raises(KitError, match=line) if refused else nullcontext():
        jobflags.check_bad_rows(summary, Decimal(1))


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        ({"late_rows": 2}, "2 late rows dropped, of 100 rows"),
        ({"rows_set_aside": 2}, "2 set aside as late, of 100 rows"),
        (
            {"late_rows": 1, "rows_set_aside": 1},
            "1 late row dropped and 1 set aside as late, of 100 rows",
        ),
        (
            {"late_rows": 2, "late_rows_exact": False},
            "at least 2 late rows dropped, of 100 rows",
        ),
        ({"late_rows": 1}, None),
        ({}, None),
    ],
)
def test_late_rows_are_told_by_what_became_of_them(counted, said):
    summary = RunSummary(
        "end of input", 1.0, (QuerySummary("q", "id", input_rows=100, **counted),)
    )
    if said is None:
        jobflags.check_late_rows(Decimal(1), summary)
        return
    with pytest.raises(KitError, match=f"^query q: {said}; --max-late is 1%$"):
        jobflags.check_late_rows(Decimal(1), summary)


# Each command line is of a job that has these flags alone, beside what they come to.
DOES: dict[str, dict[str, Any]] = {
    "in": {"text": "in", "max_files_per_trigger": None},
    "in --max-files-per-trigger 3": {"text": "in", "max_files_per_trigger": 3},
    "--kafka host:9092 --topic t": {"kafka": "host:9092 t", "connectors": ["kafka"]},
    "--kafka host:9092 --topic t --max-offsets-per-trigger 3": {
        "max_offsets_per_trigger": 3
    },
    "--url http://host/posts": {"posts": "http://host/posts"},
    "--url http://host/posts --spool spool": {
        "posts": "http://host/posts",
        "spool": "spool",
    },
    "--profile test": {"profile": "test"},
    "--checkpoint ckpt": {"checkpoint": "ckpt"},
    "--trigger '1 minute'": {"processingTime": "1 minute", "checkpoint": None},
    "--available-now": {"availableNow": True},
    "--available-now --drain": {"availableNow": True, "drain": True},
    "--run-for 1": {"run_for": 1.0},
    "--idle 2": {"idle": 2.0},
    "--stop-file end": {"stop_file": "end"},
    "--dry-run": {"dry_run": True},
    "--checkpoint ckpt --shadow": {"checkpoint": "ckpt", "dry_run": "compare"},
    "--checkpoint new --continues old": {"checkpoint": "new", "continues": "old"},
    "--show": {"show": "terminal"},
    "--ui": {"ui": 0},
    "--ui 8080": {"ui": 8080},
    "--metrics 127.0.0.1:9108": {"metrics": "127.0.0.1:9108"},
    "--record runs.jsonl": {"record": "runs.jsonl"},
    "--alert-url https://host/alerts": {"on_verdict": "https://host/alerts"},
    "--summary-json runs.jsonl": {"summary_json": "runs.jsonl"},
    "--snapshot t.csv": {"sinks": ["snapshot"]},
    "--database sqlite:///t.db": {"sinks": ["sql_table"]},
}
OF_JOBS = {"HOST", "PORT", "OUT_DIR", "--watermark", "--header", "--format"}
OF_FINISH = {"--max-bad", "--max-late"}  # tests of their own, above


@pytest.mark.parametrize("line", DOES)
def test_a_job_may_name_each_flag_alone_and_it_does_something(
    line, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(folder.parent)
    done: dict[str, Any] = {}
    for name in ("text", "kafka", "posts"):

        def read(_, *given, of=name, **options):
            done.update({of: " ".join(given), **options})
            return SimpleNamespace(select=list, selectExpr=lambda *columns: columns)

        monkeypatch.setattr(sources, name, read)
    words = shlex.split(line)
    flags = [word for word in words if word.startswith("--")]
    args = jobflags.parser(
        "A job.", *(["INPUT_DIR"] if words[0] == "in" else []), *flags
    ).parse_args(words)
    if {*flags, words[0]} & {"in", "--kafka", "--url"}:
        jobflags.lines(None, args)  # type: ignore[arg-type]
    done["sinks"] = [sink.kind for sink in jobflags.outputs(args)]
    done |= (
        jobflags.for_session(args) | jobflags.for_start(args) | jobflags.for_run(args)
    )
    assert {key: done.get(key) for key in DOES[line]} == DOES[line]


def test_no_shared_flag_does_nothing():
    wired = {
        word for line in DOES for word in line.split() if word.startswith("--")
    } | {"INPUT_DIR"}
    assert wired | OF_JOBS | OF_FINISH == {*FLAGS}
    jobs = "".join(path.read_text("utf-8") for path in (ROOT / "jobs").glob("*.py"))
    assert {
        flag
        for flag in OF_JOBS
        if f"args.{flag.removeprefix('--').lower()}" not in jobs
    } == set()


@pytest.mark.parametrize(
    ("given", "state", "said"),
    [
        ([], 3, True),
        (["--checkpoint", "c"], 3, False),
        ([], 0, False),
        ([], None, False),
    ],
)
def test_a_job_with_state_and_without_a_checkpoint_says_what_is_gone(
    given, state, said, capsys
):
    summary = RunSummary(
        "end of input", 1.0, (QuerySummary("q", "id", state_rows=state),)
    )
    line = (
        "without --checkpoint the state of this run is gone: the next run begins anew\n"
    )
    assert jobflags.finish(parse("/", *given), summary) == 0
    assert capsys.readouterr().err == f"{summary}\n{line * said}"
    # A socket cannot be read again: its job has no such flag.
    assert (
        jobflags.finish(
            jobflags.parser("A job.", *jobflags.SERVER).parse_args([]), summary
        )
        == 0
    )
    assert capsys.readouterr().err == f"{summary}\n"


@pytest.mark.parametrize(
    ("words", "use"),
    [
        (["--window", "0.3", "--every", "0.1"], None),
        (
            ["--window", "25"],
            "--window 25 is not a multiple of the default --every 10; use 20 or 30",
        ),
        (
            ["--every", "8"],
            "the default --window 20 is not a multiple of --every 8; use 16 or 24",
        ),
        (
            ["--every", "0.0001"],
            "--every 0.0001 is less than a millisecond; use 0.001 or more",
        ),
    ],
)
def test_a_time_is_a_multiple_of_the_interval(words, use):
    parser = jobflags.parser("A job.")
    for flag, default in (("--window", 20.0), ("--every", 10.0)):
        parser.add_argument(flag, type=jobflags.seconds, default=default)
    args = parser.parse_args(words)
    if use is None:
        jobflags.check_multiple(parser, args, "--window", "--every")
    else:
        assert (
            refusal(jobflags.check_multiple, parser, args, "--window", "--every") == use
        )


# --- exit codes


def ends(error):
    @jobflags.exit_codes
    def main(_argv):
        if error is not None:
            raise error
        return 0

    return main([])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 0, ""),
        (
            errors.QueryFailed("totals", "no such shop"),
            1,
            "job.py: totals failed: no such shop\n",
        ),
        (InvalidInputError("no such folder"), 2, "job.py: no such folder\n"),
        (
            errors.InputUnavailable("words", "refused"),
            75,
            "job.py: words failed: refused\n",
        ),
        (
            errors.MissingExtraError("Avro", "avro"),
            2,
            (
                "job.py: Avro needs an optional library; run: pip install"
                " 'sparkstream-kit[avro]'\n"
            ),
        ),
        (KeyboardInterrupt(), 0, "job.py: stopped by SIGINT before it began to run\n"),
    ],
)
def test_an_end_has_its_code_and_one_line(error, code, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jobs/job.py"])
    assert ends(error) == code
    assert capsys.readouterr() == ("", line)


def test_what_a_server_says_while_it_ends_is_its_end(monkeypatch, capsys):
    from pyspark.errors.exceptions.connect import UnknownException

    monkeypatch.setattr(sys, "argv", ["job.py"])
    text = (
        "(java.lang.IllegalStateException) Cannot call methods on a stopped"
        " SparkContext."
    )
    assert ends(UnknownException(text)) == 1
    line = (
        "job.py: the Spark Connect server ended before the job did, or can no longer be"
        " reached\n"
    )
    assert capsys.readouterr().err == line


def test_what_a_job_logs_itself_is_shown_whatever_it_is(caplog):
    @jobflags.exit_codes
    def main(_argv):
        logging.getLogger().error(ValueError("no text, and no reason to fail"))
        return 0

    assert main([]) == 0
    assert caplog.messages == ["no text, and no reason to fail"]


def test_an_error_of_spark_is_its_innermost_cause_on_one_line(
    spark, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["job.py"])

    @jobflags.exit_codes
    def main(argv):
        if argv == ["plan"]:
            spark.sql("SELECT nothing")
        if argv == ["rdd"]:
            spark.sparkContext.parallelize([0], 1).map(lambda x: 1 // x).collect()
        return len(spark.sql("SELECT 1 / 0").collect())

    for argv, line in {
        "plan": (
            r"job\.py: ExtendedAnalysisException: \[UNRESOLVED_COLUMN.*\] .*`nothing`.*"
        ),
        "run": r"job\.py: SparkArithmeticException: \[DIVIDE_BY_ZERO\] .*",
        "rdd": r"job\.py: ZeroDivisionError: .*",
    }.items():
        assert main([argv]) == 1
        assert re.fullmatch(line + "\n", capsys.readouterr().err), line


@pytest.mark.parametrize(
    "error",
    [KeyError("a bug"), ConnectionRefusedError("of the job's own"), BrokenPipeError()],
)
def test_a_bug_keeps_its_trace(error):
    with pytest.raises(type(error)) as raised:
        ends(error)
    assert raised.value is error
    assert any(entry.name == "main" for entry in raised.traceback)


# --- streams


def script(folder, body):
    path = folder / "job.py"
    path.write_text(
        "import sys\nfrom sparkstream_kit import jobflags\n\n@jobflags.exit_codes\ndef"
        " main(argv):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\nsys.exit(main())\n"
    )
    return path


def test_a_reader_that_goes_as_head_does_is_no_error(tmp_path):
    job = script(tmp_path, "for n in range(100_000):\n    print(n)\nreturn 0")
    done = process(
        [
            "bash",
            "-c",
            f"'{sys.executable}' '{job}' | head -n 1; exit ${{PIPESTATUS[0]}}",
        ],
        env=environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


FULL = (
    "job.py: standard output, or a file of the job, cannot be written: No space left on"
    " device; make room\n"
)
CLOSED = {
    ">&-": (0, ""),
    "2>&-": (0, ""),
    "<&-": (0, ""),
    ">&- 2>&- <&-": (0, ""),
    ">/dev/full": (1, FULL),
    ">/dev/full 2>&-": (1, ""),
}


@pytest.mark.fast(
    "<&--print('a row')",
    ">/dev/full 2>&--print('a row')",
    "<&--sys.stdout and sys.stdout.write('a row')",
)
@pytest.mark.parametrize(
    "prints", ["print('a row')", "sys.stdout and sys.stdout.write('a row')", "pass"]
)
@pytest.mark.parametrize("how", CLOSED)
def test_streams_that_are_closed_or_full(how, prints, tmp_path):
    job = script(tmp_path, f"{prints}\nreturn 0")
    done = process(
        ["bash", "-c", f"exec '{sys.executable}' '{job}' {how}"], env=environment()
    )
    code, said = CLOSED[how]
    if prints == "pass":  # nothing is written, so that nothing can fail
        code, said = 0, ""
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("how", ["2>&-", ">&- 2>&-", "2>/dev/full"])
def test_a_job_whose_words_nobody_reads_ends_as_it_would(how, tmp_path):
    body = """
        from sparkstream_kit.progress import RunSummary

        sys.stdout.write("")
        return jobflags.finish(None, RunSummary("end of input", 1.0, ()))
        """
    job = script(tmp_path, body)
    done = process(
        ["bash", "-c", f"exec '{sys.executable}' '{job}' {how}"], env=environment()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_error_is_said_on_standard_error_or_nowhere(tmp_path):
    job = script(
        tmp_path,
        "from sparkstream_kit.errors import KitError\nraise KitError('no such shop')",
    )
    done = process(
        ["bash", "-c", f"exec '{sys.executable}' '{job}' 2>&-"], env=environment()
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_a_full_disk_of_a_file_of_the_job_is_one_line_too(tmp_path):
    job = script(
        tmp_path,
        "with open('/dev/full', 'w') as file:\n    file.write('a row')\nreturn 0",
    )
    done = process([sys.executable, job], env=environment())
    assert (done.returncode, done.stderr) == (1, FULL)


# The flags of a job, and the words that continue checkpoints OLD on NEW/_checkpoint
CONTINUING = {
    "two words": (jobflags.RUN, "--checkpoint NEW/_checkpoint --continues OLD"),
    "one word": (jobflags.RUN, "--continues=OLD --checkpoint=NEW/_checkpoint"),
    "a slash": (jobflags.RUN, "--checkpoint NEW/_checkpoint/ --continues OLD/"),
    "given twice": (
        jobflags.RUN,
        (
            "--checkpoint OLD --continues none --checkpoint NEW/_checkpoint"
            " --continues OLD"
        ),
    ),
    "a folder of the job": ((*jobflags.FOLDER, *jobflags.RUN), "NEW --continues OLD"),
    "behind two dashes": ((*jobflags.FOLDER, *jobflags.RUN), "--continues OLD -- NEW"),
    "no dry run": (
        ("--checkpoint", "--continues"),
        "--checkpoint NEW/_checkpoint --continues OLD",
    ),
}


@pytest.mark.parametrize("how", CONTINUING)
def test_all_queries_of_a_job_are_checked_before_the_first_is_continued(
    how, tmp_path, caplog
):
    """A job whose second query is refused starts neither; with checkpoints it starts at once."""
    old, new = tmp_path / "old", tmp_path / "new" / "_checkpoint"
    for part in ("bad", "totals"):
        (old / part).mkdir(parents=True)
        (old / part / "metadata").touch()
    calls: list[bool] = []
    refused: list[bool] = []

    @jobflags.exit_codes
    def main(argv):
        args = jobflags.parser("A job.", *shared).parse_args(argv)
        is_dry = jobflags.for_start(args).get("dry_run", False)
        calls.append(is_dry)
        logging.getLogger().warning("said once")
        if refused:
            raise InvalidInputError("give it a new target")
        if is_dry:
            raise errors.DryRun("all checks have passed")
        return 0

    shared, words = CONTINUING[how]
    flags = [
        word.replace("OLD", str(old)).replace("NEW", str(new.parent))
        for word in words.split()
    ]
    assert main(flags) == 0
    assert calls == [True, False]
    assert caplog.messages == ["said once"]
    for more in ("--dry-run", "--shadow") if "--dry-run" in shared else ():
        calls.clear()
        main([more, *flags])
        assert len(calls) == 1
    refused.append(True)
    calls.clear()
    assert main(flags) == 2
    assert calls == [True]
    refused.clear()
    calls.clear()
    for part in ("bad", "totals"):
        (new / part).mkdir(parents=True)
        (new / part / "metadata").touch()
        assert main(flags) == 0
    assert calls == [True, False, False]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("has_run", "given"), [(False, ()), (True, ()), (False, ("--shadow",))]
)
def test_a_signal_outside_of_a_run(name, has_run, given, tmp_path):
    # After the run a result may be cut short; before it there is nothing to lose, but
    # --shadow has no result.
    body = f"""
        import os, signal, time, warnings
        from sparkstream_kit._internal.stopping import shutdown
        shutdown._job.has_run = {has_run}
        try:
            os.kill(os.getpid(), signal.{name})
            time.sleep(60)
        finally:
            warnings.warn("Unable to cleanly shutdown", RuntimeWarning)  # as PySpark does
    """
    done = process([sys.executable, script(tmp_path, body), *given], env=environment())
    before = (
        "the comparison was done; nothing was changed" if given else "it began to run"
    )
    said = "" if has_run else f"job.py: stopped by {name} before {before}\n"
    assert done.returncode == (128 + signal.Signals[name] if has_run or given else 0)
    assert (done.stdout, done.stderr) == ("", said)


TELL = 'print("result")\nprint("note", file=sys.stderr)\nreturn 3'
FORBIDDEN = """
import ctypes
from types import SimpleNamespace
ctypes.CDLL = lambda *_, **__: SimpleNamespace(syscall=lambda *_: -1)
"""


@pytest.mark.parametrize(
    ("parent", "before", "taken"),
    [("java", "", True), ("java", FORBIDDEN, True), ("other", "", False)],
    ids=["java", "java, where a system forbids pidfd_getfd", "another parent"],
)
def test_the_streams_of_a_java_parent_are_taken_and_of_no_other(
    tmp_path, parent, before, taken
):
    # A shell by the name of java stands for spark-submit's JVM: its child's streams are
    # one pipe.
    shell = tmp_path / parent
    shutil.copy(shutil.which("bash") or "", shell)
    job = script(tmp_path, TELL)
    job.write_text(before + job.read_text())
    command = (
        f"'{sys.executable}' '{job}' 2>&1 | sed 's/^/merged /'; echo parent; echo"
        " parent >&2"
    )
    for name in ("out", "err"):
        (tmp_path / name).write_text("before\n")
    with (tmp_path / "out").open("ab") as out, (tmp_path / "err").open("ab") as err:
        env = environment(PYSPARK_GATEWAY_PORT="1")
        subprocess.run(
            [shell, "-c", command], env=env, stdout=out, stderr=err, check=True
        )
    texts = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
    if taken:
        assert texts == ("before\nresult\nparent\n", "before\nnote\nparent\n")
    else:
        assert sorted(texts[0].splitlines()) == [
            "before",
            "merged note",
            "merged result",
            "parent",
        ]
        assert texts[1] == "before\nparent\n"


SUBMITTED = """
from pyspark import SparkContext
SparkContext._ensure_initialized()
system = SparkContext._jvm.java.lang.System
for n in range(100):
    print(f"python {n}", file=sys.stderr)
    getattr(system, "err").println(f"jvm {n}")
    print(f"row {n}")
print(system.getProperty("log4j2.configurationFile"))
return 7
"""


@pytest.mark.slow
def test_under_spark_submit_results_and_the_rest_are_two_files_and_no_line_is_lost(
    tmp_path,
):
    profile = submit_properties("local", tmp_path / "with a space")
    job = script(tmp_path, SUBMITTED)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        launch = ["spark-submit", "--properties-file", profile, job]
        done = subprocess.run(
            launch, env=environment(), stdout=out, stderr=err, check=False
        )
    *rows, log4j2 = (tmp_path / "out").read_text().splitlines()
    assert rows == [f"row {n}" for n in range(100)]
    assert log4j2 == (tmp_path / "with a space" / "log4j2.properties").as_uri()
    lines = (tmp_path / "err").read_text().splitlines()
    both = [line for n in range(100) for line in (f"python {n}", f"jvm {n}")]
    assert [line for line in lines if "jdk.incubator.vector" not in line] == both
    assert done.returncode == 7
