"""The command `sparkstream`: what it prints, how it ends, and that mistakes cost one line."""

import csv
import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from unittest.mock import Mock

import conftest
import pyspark
import pytest
import typer
from conftest import HANGS, ROOT, process
from pyspark.sql.types import StructType
from support.checkpoint_files import commit, metadata, plan

from sparkstream_kit import feeds
from sparkstream_kit.cli import doctor, main
from sparkstream_kit.cli.app import app
from sparkstream_kit.connectors._packages import connectors
from sparkstream_kit.profiles import parse_properties, read_profile

COMMAND = [
    sys.executable,
    "-c",
    "from sparkstream_kit.cli import main; import sys; sys.exit(main())",
]


def run(*args, prelude="", cwd=ROOT, **env):
    """Run the command here, or in a process of its own if its environment must be another."""
    if not prelude and not env:
        out, err = io.StringIO(), io.StringIO()
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            code = main([str(each) for each in args])
        return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())
    return process(
        [*COMMAND[:2], prelude + COMMAND[2], *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


def running(*args):
    return conftest.running(*COMMAND, *args, cwd=ROOT, stderr=subprocess.PIPE)


def next_line(process):
    assert process.stderr
    return process.stderr.readline()


def ended(process, *, by=None):
    """Return the exit code and what is left of standard error."""
    if by:
        process.send_signal(by)
    _, rest = process.communicate(timeout=HANGS)
    return process.returncode, rest


def port_of(process):
    line = next_line(process)
    assert line.startswith("sparkstream: listening on 127.0.0.1 port ")
    assert line.endswith("; stop with Ctrl-C\n")
    return int(line.split()[5].rstrip(";"))


def received(port):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=HANGS) as client,
        client.makefile() as lines,
    ):
        return [line.removesuffix("\n") for line in islice(lines, 100)]


# --- feed lines


FULL = (
    "sparkstream: standard output, or a file of the command: No space left on device;"
    " make room\n"
)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [(">&-", 0, ""), ("2>&- >&-", 0, ""), (">/dev/full", 2, FULL)],
)
@pytest.mark.parametrize("command", ["conf local", "checkpoint check ."])
def test_a_closed_or_full_standard_output_is_no_traceback_and_no_false_cause(
    command, how, code, said, tmp_path
):
    (tmp_path / "metadata").write_text('{"id": "00000000-0000-0000-0000-000000000000"}')
    line = f"'{sys.executable}' -m sparkstream_kit {command} {how}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, said)


def test_feed_lines_serves_each_client_and_ends_after_the_last():
    with running(
        "feed", "lines", "--port", "0", "--count", "2", "--seed", "1", "--clients", "2"
    ) as feed:
        port = port_of(feed)
        assert (
            received(port)
            == received(port)
            == ["tusha mitu lo dri", "kano mibem ka ka tulo sha"]
        )
        assert ended(feed) == (0, "")


def test_feed_lines_sends_a_file_from_its_start_at_a_rate(tmp_path):
    (tmp_path / "poem.txt").write_text("to be\nor not\nto be\n")
    poem: list[str | Path] = [
        "--file",
        tmp_path / "poem.txt",
        "--count",
        "2",
        "--rate",
        "100",
    ]
    with running("feed", "lines", "--port", "0", *poem, "--clients", "1") as feed:
        assert received(port_of(feed)) == ["to be", "or not"]
        assert ended(feed) == (0, "")


def test_a_signal_ends_feed_lines_while_it_sends():
    with (
        running("feed", "lines", "--port", "0") as feed,
        socket.create_connection(("127.0.0.1", port_of(feed)), timeout=HANGS) as client,
    ):
        assert client.recv(1)
        assert ended(feed, by=signal.SIGTERM) == (0, "")


def test_a_file_that_turns_out_unreadable_is_one_line(tmp_path):
    (tmp_path / "latin1.txt").write_bytes("né".encode("latin-1"))
    with running(
        "feed", "lines", "--port", "0", "--file", tmp_path / "latin1.txt"
    ) as feed:
        with pytest.raises(ConnectionResetError):
            received(port_of(feed))
        code, line = ended(feed)
    assert code == 2
    assert line.startswith(f"sparkstream: cannot read {tmp_path}/latin1.txt (")
    assert line.count("\n") == 1


# --- feed sales


def test_the_truth_is_what_the_files_hold(tmp_path):
    folder, truth = tmp_path / "in", tmp_path / "truth.json"
    args = [
        "feed",
        "sales",
        folder,
        "--files",
        "3",
        "--rows",
        "200",
        "--seed",
        "7",
        "--every",
        "0",
    ]
    done = run(*args, "--truth", truth)
    assert (done.returncode, done.stdout) == (0, "")
    names = [f"sales-7-000{n}.csv" for n in (1, 2, 3)]
    assert done.stderr.splitlines() == [
        f"sparkstream: landed {folder / name}" for name in names
    ]
    rows = [
        row
        for name in names
        for row in csv.reader((folder / name).read_text("utf-8").splitlines())
    ]
    told = json.loads(truth.read_text("utf-8"))
    assert (
        len(rows)
        == told["counted"]
        == sum(orders for _, orders, _ in told["truth"])
        == 600
    )
    amounts = {
        key: sum(Decimal(row[5]) for row in rows if row[9] == key)
        for key, *_ in told["truth"]
    }
    assert [(key, Decimal(total)) for key, _, total in told["truth"]] == list(
        amounts.items()
    )
    # The names are in the folder already
    assert run(*args, "--truth", truth).returncode == 2
    assert json.loads(truth.read_text("utf-8")) == told


TRUTHS = {
    "sales": lambda rows: feeds.sales_totals(feeds.sales_rows(rows, seed=0)),
    "actions": lambda rows: feeds.actions_truth([*feeds.actions_rows(rows, seed=0)]),
}


@pytest.mark.parametrize(
    ("name", "number", "every", "more"),
    [
        ("sales", signal.SIGINT, "0.01", []),
        ("actions", signal.SIGTERM, "3600", ["--bad", "0.1"]),
    ],
)
def test_a_signal_ends_a_feed_with_the_truth_of_what_landed(
    tmp_path, name, number, every, more
):
    folder, truth = tmp_path / "in", tmp_path / "truth.json"
    flags = [
        "--files",
        "1000",
        "--rows",
        "20",
        "--every",
        every,
        "--truth",
        truth,
        *more,
    ]
    with running("feed", name, folder, *flags) as feed:
        assert next_line(feed).startswith(
            f"sparkstream: landed {folder}/{name}-0-0001."
        )
        code, rest = ended(feed, by=number)
    assert code == 0
    assert all(line.startswith("sparkstream: landed ") for line in rest.splitlines())
    lines = [
        line
        for path in folder.iterdir()
        for line in path.read_text("utf-8").splitlines()
    ]
    rows = sum(not line.startswith("not a row") for line in lines)
    assert 0 < rows < 20_000
    told = json.loads(truth.read_text("utf-8"))
    assert (told["truth"], told["counted"]) == (
        json.loads(json.dumps(TRUTHS[name](rows), default=str)),
        rows,
    )


@pytest.mark.parametrize("name", TRUTHS)
def test_a_truth_that_would_be_read_as_input_or_cannot_be_written_is_refused(
    tmp_path, name, capsys
):
    folder = tmp_path / "in"
    (tmp_path / "link").symlink_to(folder)
    for truth, problem in {
        "in/deep/truth.json": (
            "--truth {} would be read as input in {}; put it elsewhere"
        ),
        "link/truth.json": "--truth {} would be read as input in {}; put it elsewhere",
        "missing/truth.json": (
            "cannot write --truth {} (No such file or directory); give another file"
        ),
    }.items():
        path = tmp_path / truth
        assert (
            main(["feed", name, str(folder), "--files", "1", "--truth", str(path)]) == 2
        )
        assert (
            capsys.readouterr().err == f"sparkstream: {problem.format(path, folder)}\n"
        )
    assert not folder.exists()


# --- conf


def test_conf_prints_the_path_of_a_file_that_spark_submit_reads(tmp_path):
    done = run("conf", "local", XDG_CACHE_HOME=str(tmp_path))
    path = Path(done.stdout.removesuffix("\n"))
    assert (done.returncode, done.stderr, path.parent) == (
        0,
        "",
        tmp_path / "sparkstream-kit",
    )
    settings = parse_properties(path.read_text("utf-8"), "conf")
    known = read_profile("local")
    assert settings.keys() == known.keys()
    assert (
        known["spark.driver.extraJavaOptions"]
        in settings["spark.driver.extraJavaOptions"]
    )
    assert (path.parent / "log4j2.properties").as_uri() in settings[
        "spark.driver.extraJavaOptions"
    ]


def test_conf_goes_to_the_home_folder_by_default(tmp_path):
    done = run(
        "conf", "cluster", HOME=str(tmp_path), XDG_CACHE_HOME="relative/is/ignored"
    )
    assert Path(done.stdout.strip()).parent == tmp_path / ".cache" / "sparkstream-kit"


def test_a_cache_folder_that_cannot_be_written_is_one_line(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["conf", "local"]) == 2
    out, err = capsys.readouterr()
    reason = (
        f"[Errno 20] Not a directory: '{tmp_path}/file/sparkstream-kit'; set"
        " XDG_CACHE_HOME to a folder"
    )
    assert (out, err) == ("", f"sparkstream: cannot write the profile: {reason}\n")


# --- schema


@pytest.mark.slow
def test_schema_prints_code_that_makes_the_schema(spark, tmp_path):
    (tmp_path / "a.csv").write_text("key,n\nx,1\n")
    done = run("schema", tmp_path / "a.csv")
    assert (done.returncode, done.stdout) == (
        0,
        'SCHEMA = (\n    "key STRING, "\n    "n INT"\n)\n',
    )
    done = run("schema", tmp_path / "a.csv", "--no-header")
    assert (done.returncode, done.stdout) == (
        0,
        'SCHEMA = (\n    "_c0 STRING, "\n    "_c1 STRING"\n)\n',
    )
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.json").write_text('{"n": 1}\n')
    done = run("schema", tmp_path / "events")
    assert (done.returncode, done.stdout) == (0, 'SCHEMA = (\n    "n BIGINT"\n)\n')
    done = run("schema", tmp_path / "events", "--json")
    column = {"name": "n", "type": "long", "nullable": True, "metadata": {}}
    assert json.loads(done.stdout) == {
        "version": 1,
        "schema": {"type": "struct", "fields": [column]},
    }
    (tmp_path / "a.csv").write_text("key,n\nx,1\ny,NA\n")
    done = run("schema", "a.csv", cwd=tmp_path, PYTHONWARNINGS="")
    assert (
        done.stderr == "a.csv has names in line 1; read it with header=True\n"
        "a.csv has NA for NULL in n; read it with nulls='NA'\n"
    )


# --- checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    """What a query of another source than files leaves that was killed in batch 3."""
    path = tmp_path / "ckpt"
    metadata(path, "0b1e")
    for batch in range(4):
        plan(path, batch, str(10 * batch), time=int(time.time() * 1000))
    for batch in range(3):
        commit(path, batch)
    return path


def test_checkpoint_show_says_what_a_restart_runs_again(checkpoint, capsys):
    assert main(["checkpoint", "show", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"checkpoint  {checkpoint}\nquery       0b1e\ncommitted   batch 2, "
    )
    assert out.endswith("\nA restart runs batch 3 again.\n")


def test_checkpoint_check_ends_with_1_and_a_line_a_problem(checkpoint, capsys):
    assert main(["checkpoint", "check", str(checkpoint)]) == 0
    assert capsys.readouterr().out == f"{checkpoint}: no problem found\n"
    (checkpoint / "commits/2").write_text("")
    (checkpoint / "offsets/0").write_text("")  # a restart does not need it
    assert main(["checkpoint", "check", str(checkpoint)]) == 1
    out, err = capsys.readouterr()
    back = f"sparkstream checkpoint rewind {checkpoint} --to 1"
    line = (
        f"{checkpoint}/commits/2 is empty; restore it from a backup, or go back:"
        f" {back}\n"
    )
    assert (out, err) == (line, "")


def test_programs_get_json(checkpoint, capsys):
    def said(*command, code):
        assert main([*command, "--json"]) == code
        out, err = capsys.readouterr()
        assert (out.count("\n"), err) == (1, "")
        return out

    def answered(*command, code=0):
        """Return the one field of an answer beside its version."""
        answer = json.loads(said(*command, code=code))
        assert answer.pop("version") == 1
        [(name, found)] = answer.items()
        return name, found

    name, shown = answered("checkpoint", "show", str(checkpoint))
    assert name == "checkpoint"
    assert (shown["query_id"], shown["committed"], shown["planned"]) == ("0b1e", 2, 3)
    assert datetime.fromisoformat(shown["committed_at"]).tzinfo is not None
    assert [(source["name"], source["planned"]) for source in shown["sources"]] == [
        ("0", "30")
    ]
    assert answered("checkpoint", "check", str(checkpoint)) == ("problems", [])
    (checkpoint / "commits/2").write_text("")
    _, [problem] = answered("checkpoint", "check", str(checkpoint), code=1)
    assert problem["file"] == f"{checkpoint}/commits/2"
    assert set(problem) == {"file", "what", "fix"}
    avro = {"avro": f"org.apache.spark:spark-avro_2.13:{pyspark.__version__}"}
    assert answered("connectors", "avro") == ("connectors", avro)
    assert set(answered("connectors")[1]) == {*connectors()}
    name, findings = answered(
        "doctor", code=int("bad" in {each.level for each in doctor.examine()})
    )
    assert name == "findings"
    for found in findings:
        assert set(found) == {"level", "what", "found", "fix"}
    name, found = answered(
        "checkpoint", "find", str(checkpoint), "2020-01-01T00:00:00Z"
    )
    assert (name, found["batch"], found["committed"]) == ("found", 0, True)


def test_names_of_connectors_have_commas_or_spaces_between_them(capsys):
    assert main(["connectors", "kafka,", "avro"]) == 0
    assert re.fullmatch(r"--packages \S*kafka\S*,\S*avro\S*\n", capsys.readouterr().out)


def test_what_this_user_may_not_touch_is_one_line(checkpoint, capsys, monkeypatch):
    def closed(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/ckpt/lock")

    monkeypatch.setattr("fcntl.fcntl", closed)
    (checkpoint / "sparkstream-kit").mkdir(exist_ok=True)
    (checkpoint / "sparkstream-kit" / "lock").touch()
    assert main(["checkpoint", "show", str(checkpoint)]) == 2
    said = (
        "sparkstream: /ckpt/lock: Permission denied; run it as the user of that folder,"
        " or make room\n"
    )
    assert capsys.readouterr().err == said


def test_checkpoint_clone_says_what_the_copy_is_to_sinks(checkpoint, capsys):
    copy = checkpoint.with_name("copy")
    assert main(["checkpoint", "clone", str(checkpoint), str(copy)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"copied to {copy}, query 0b1e\nSinks take it for the same query, and know "
    )
    assert (copy / "metadata").read_text() == '{"id":"0b1e"}'
    assert main(["checkpoint", "clone", str(checkpoint), f"{copy}-2", "--new-id"]) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[1]
        .startswith("Sinks take it for another query: ")
    )
    assert Path(f"{copy}-2", "metadata").read_text() != '{"id":"0b1e"}'


def test_checkpoint_rewind_asks_for_apply(checkpoint, capsys):
    rewind = ["checkpoint", "rewind", str(checkpoint), "--to", "0"]
    assert main(rewind) == 0
    out = capsys.readouterr().out
    assert "\nNothing is changed yet. The rewind moves 4 files to\n" in out
    assert out.endswith("\nRun the command with --apply to do it.\n")
    assert (checkpoint / "commits/2").exists()
    assert main([*rewind, "--apply"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{checkpoint}: batches 1 to 3 run again.\n")
    assert "\nMoved 4 files. To undo it, before the next start:\n  cp -a " in out
    assert [path.name for path in (checkpoint / "commits").iterdir()] == ["0"]


def test_a_whole_checkpoint_fits_a_terminal(checkpoint, capsys):
    for args in (["show"], ["rewind", "--to", "0"], ["rewind", "--to", "1"]):
        assert main(["checkpoint", *args, str(checkpoint)]) == 0
    text = capsys.readouterr().out.replace(str(checkpoint), "ckpt")
    assert max(map(len, text.splitlines())) <= 80


# --- help


@pytest.mark.parametrize("command", ["", "checkpoint"])
def test_a_command_that_is_missing_gets_the_help(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        f"Usage: {' '.join(['sparkstream', *command.split()])} [OPTIONS] COMMAND "
    )
    assert main(command.split()) == 2
    assert capsys.readouterr() == ("", text)


def commands(group=None, *path):
    """Yield the words of each command and group, and the command."""
    group = group or typer.main.get_command(app)
    yield list(path), group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)


def test_the_commands_stand_in_the_order_of_their_use(capsys):
    assert main(["--help"]) == 0
    listed = re.findall(
        r"^  (\w+) ", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE
    )
    assert listed[:4] == ["doctor", "new", "feed", "schema"]
    assert sorted(listed) == sorted(
        words[0] for words, _ in commands() if len(words) == 1
    )


@pytest.mark.slow
def test_every_command_has_help(capsys):
    for words, _ in commands():
        assert main([*words, "-h"]) == 0
        assert capsys.readouterr().out.startswith("Usage: sparkstream ")


UNITS = {
    "SECONDS": r"[Ss]econds",
    "DURATION": r'"\d+ (minutes|hours?|days)"|default: \d+ (seconds|minutes|hours?)',
    "LINES": "Lines a second",
    "SHARE": "such as 0.05|0<=x<=1",
    "TIME": "UTC",
}


@pytest.mark.slow
def test_each_help_says_the_unit_of_its_numbers(capsys):
    seen = set()
    for words, command in commands():
        main([*words, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        for parameter in command.params:
            unit = UNITS.get(str(parameter.metavar))
            if unit is not None:
                said = text.partition(f" {parameter.opts[0]} ")[2].partition(" --")[0]
                assert re.search(unit, said) or re.search(
                    unit, text.partition("Options:")[0]
                ), (words, said)
                seen.add(parameter.metavar)
    assert seen == {*UNITS}


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("sparkstream serve st", ["start", "stop", "status"]),
        ("sparkstream serve start --p", ["--profile", "--port"]),
    ],
)
def test_bash_completes_commands_and_flags(words, completions):
    shell = f"""
        eval "$(_SPARKSTREAM_COMPLETE=source_bash sparkstream)"
        COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _sparkstream_completion sparkstream; echo "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = process(
        ["bash", "-c", shell], env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    )
    assert (done.stdout.split(), done.stderr) == (completions, "")


def test_zsh_gets_each_completion_with_its_help():
    asked = {
        "_SPARKSTREAM_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "sparkstream checkpoint sh",
    }
    done = run(**asked)
    assert (
        done.stdout.strip()
        == """_arguments '*: :(("show":"Show what a checkpoint holds, and what a..."))'"""
    )
    assert (
        "compdef _sparkstream_completion sparkstream"
        in run(_SPARKSTREAM_COMPLETE="source_zsh").stdout
    )


def test_the_package_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "sparkstream_kit", "fed"]
    done = process(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sparkstream: No such")


# --- mistakes, and what must work without Spark


@pytest.mark.parametrize("start", ["file:", "file://"])
@pytest.mark.parametrize(
    "args",
    [
        "schema FOLDER/a.conf",
        "schema hdfs:/a.conf",  # which is Spark's to find
        "feed sales in --files 1 --truth=FOLDER/truth.json",
    ],
)
def test_a_local_path_may_be_written_as_spark_writes_it(
    args, start, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sparkstream_kit.spark_session", lambda *_, **__: nullcontext())
    monkeypatch.setattr("sparkstream_kit.schemas.infer", lambda *_, **__: StructType())
    (tmp_path / "a.conf").write_text("spark.sql.shuffle.partitions 3\n")
    assert main(args.replace("FOLDER", f"{start}{tmp_path}").split()) == 0
    assert not (tmp_path / "file:").exists()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("fed", "No such command 'fed'. Did you mean 'feed'?"),
        (
            "feed lines --clientss 1",
            "No such option: --clientss (Possible options: --clients); see --help",
        ),
        ("feed lines --port", "Option '--port' requires an argument; see --help"),
        ("feed lines --file a --seed 1", "--file and --seed exclude each other; give one of them"),
        ("feed sales", "Missing argument 'FOLDER'; see --help"),
        ("conf /nope", "unknown profile /nope; known: cluster, local, test, or the path of a file"),
        (
            "checkpoint show /nope",
            "no checkpoint /nope; give the folder that the query was started with",
        ),
        ("checkpoint rewind x", "Missing option '--to'; see --help"),
        ("schema /nope", "/nope does not exist; give the path of a file, a folder or a glob"),
        ("schema . --format cvs", "unknown --format cvs; did you mean csv?"),
        ("schema", "schema: nothing to look into; give PATH, --registry URL SUBJECT, or --topic"),
        ("schema --topic a", "schema: --topic does nothing without --bootstrap; give both"),
        ("schema a --key b", "schema: --key does nothing without --registry; give both"),
        (
            "schema --topic a --bootstrap b --format csv",
            "schema: --format and --topic exclude each other; give one of them",
        ),
        (
            "schema --registry http://ann:hush@host a",
            "--registry: others can see a password on the command line; put the value into an",
        ),
        (
            "schema --registry env:NOBODY a",
            "--registry: the environment variable NOBODY is not set; put the value there",
        ),
        ("schema --registry host a", "registry 'host' is no address, such as http://local"),
        (
            "schema --topic a --bootstrap b --option c",
            "--option c has no value; give NAME=VALUE, such as kafka.security.protocol=",
        ),
        ("feed sales x --files 0", "Invalid value for '--files': "),
        ("feed lines --count 0", "Invalid value for '--count': "),
        ("feed lines --clients 0", "Invalid value for '--clients': "),
        ("feed lines --port abc", "Invalid value for '--port': "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(args, line, tmp_path):
    done = run(*args.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"sparkstream: {line}")
    assert not list(tmp_path.iterdir())


def test_a_bug_keeps_its_trace(monkeypatch):
    monkeypatch.setattr("sparkstream_kit.cli.app.submit_properties", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["conf", "local"])


def test_ctrl_c_elsewhere_is_exit_code_130(monkeypatch):
    monkeypatch.setattr(
        "sparkstream_kit.cli.app.submit_properties", Mock(side_effect=KeyboardInterrupt)
    )
    assert main(["conf", "local"]) == 130


def test_help_says_units_and_defaults_in_plain_text(capsys):
    assert main(["feed", "sales", "--help"]) == 0
    text = capsys.readouterr().out
    assert (
        "--every SECONDS  Seconds from one file to the next.  [default: 1.0]\n" in text
    )
    assert not re.search("\x1b|─", text)

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sparkstream ")


@pytest.mark.parametrize(
    "args",
    ["conf test", "feed sales in --files 1", "checkpoint show /nope", "schema /nope"],
)
def test_spark_is_not_imported(args, tmp_path):
    blocked = "import sys; sys.modules['pyspark'] = None; "
    done = run(
        *args.split(), prelude=blocked, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.returncode == (2 if "/nope" in args else 0)
    assert "Traceback" not in done.stderr


def test_without_typer_one_line_says_what_to_install():
    done = run("--help", prelude="import sys; sys.modules['typer'] = None; ")
    fix = "run: pip install 'sparkstream-kit[cli]'"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sparkstream: sparkstream needs an optional library; {fix}\n"
