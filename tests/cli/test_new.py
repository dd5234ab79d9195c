"""`sparkstream new`: a project of one's own from each job, whose test passes and whose job runs."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANGS, ROOT, environment, process, running

from sparkstream_kit.cli import main, projects
from sparkstream_kit.errors import InvalidInputError

JOBS = sorted(
    path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith(("dstream", "train"))
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_job_of_structured_streaming_can_be_begun_with():
    assert sorted(projects.LIKE) == sorted([*JOBS, "hourly_sales"])


def test_a_project_is_a_job_its_test_sample_data_and_two_commands(here, capsys):
    assert main(["new", "my-first-job"]) == 0
    files = ["AGENTS.md", "README.md", "data/sales-1.json", "data/sales-2.json"]
    files += ["my_first_job.py", "test_my_first_job.py"]
    out, err = capsys.readouterr()
    assert out.split() == [f"my-first-job/{name}" for name in files]
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()) == out.split()
    commands = ["python my_first_job.py data out --available-now", "python -m pytest"]
    readme, notes = ((here / f"my-first-job/{page}").read_text() for page in ("README.md", "AGENTS.md"))
    assert re.findall(r"```bash\n(.*)\n```", readme) == commands
    assert [command for command in commands if f"`{command}`" not in notes] == []
    assert [line.split(":", 1)[1].strip() for line in err.splitlines()[1:]] == ["cd my-first-job", *commands]
    rows = [
        line for n in (1, 2) for line in (here / f"my-first-job/data/sales-{n}.json").read_text().splitlines()
    ]
    assert len(rows) == 200
    assert rows[0] == '{"time": "2024-03-01T09:00:01Z", "product": "chess set", "amount": 1}'


@pytest.mark.parametrize(
    ("like", "what"),
    [
        (
            "score_posts",
            "train_posts.py runs first: A model of spam, trained on labelled posts: a new version",
        ),
        ("action_windows", "action_rows.py runs first: Actions as typed rows; rows that come too late"),
    ],
)
def test_a_second_file_is_said_to_be_for_something(like, what, here, capsys):
    assert main(["new", "my-job", "--like", like]) == 0
    err = capsys.readouterr().err
    assert f"sparkstream: made my-job ({what}" in err
    assert like not in err
    assert f"shows its flags ({what}" in (here / "my-job/README.md").read_text()


@pytest.mark.parametrize("like", sorted(projects.LIKE))
def test_a_copy_has_names_of_its_own(like, here):
    made = projects.make("my-job", like)
    for path in ("my_job.py", "test_my_job.py"):
        text = (made.folder / path).read_text()
        compile(text, path, "exec")
        assert like not in text
        assert like.replace("_", "-") not in text
    assert "{" not in "".join((made.folder / page).read_text() for page in ("README.md", "AGENTS.md"))
    assert sum(path.name.split("-")[0] in str(path) for path in (made.folder / "data").iterdir()) == 2


@pytest.mark.parametrize("like", JOBS)
def test_a_name_may_hold_that_of_any_job(like, here):
    def copied(name):
        made = projects.make(name, like)
        return [(made.folder / path).read_text() for path in made.files if path.endswith((".py", ".md"))]

    # No job has a word of this name, so that it can be put back by hand.
    plain = copied("quick-zebra")
    assert "quick_zebra.py" in "".join(plain[1:])
    for job in JOBS:
        dashed = job.replace("_", "-")
        for name in (f"my-{dashed}", f"{dashed}-2", f"{dashed}-{dashed}"):
            module = name.replace("-", "_")
            expected = [text.replace("quick_zebra", module).replace("quick-zebra", name) for text in plain]
            assert copied(name) == expected, name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["there"], "there exists already; give another name, or remove it"),
        (["file"], "file exists already; give another name, or remove it"),
        (["x", "--like", "sales_total"], "unknown job of --like sales_total; did you mean sales_totals?"),
        (
            ["x", "--like", "dstream_wordcount"],
            "unknown job of --like dstream_wordcount; did you mean socket_w",
        ),
        (["json"], "json: a Python module json would hide another one; give another name"),
        (["pyspark"], "pyspark: a Python module pyspark would hide another one; give another name"),
        (["../x"], "../x is no name for a job; use letters a to z, digits and -, such as my-job"),
        (["2-fast"], "2-fast is no name for a job; use letters a to z, digits and -, such as my-job"),
        (["x" * 300], "a name of 300 letters is too long; give one of at most 100"),
        (["class"], "class is no name for a job; use letters a to z, digits and -, such as my-job"),
    ],
)
def test_what_cannot_be_made_is_one_line(words, line, here, capsys):
    (here / "there").mkdir()
    (here / "there" / ".hidden").touch()
    (here / "file").touch()
    assert main(["new", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"sparkstream: {line}")
    assert sorted(path.name for path in here.iterdir()) == ["file", "there"]


def test_a_name_is_not_that_of_the_file_beside_the_job(here, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda _: None
    )  # here the folder of jobs can be imported
    with pytest.raises(
        InvalidInputError, match="train-posts: a Python module train_posts would hide another"
    ):
        projects.make("train-posts", "score_posts")


@pytest.mark.parametrize("name", ["mine", "my-job"])
def test_an_empty_folder_that_is_there_is_filled(name, here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(here)  # as `python -m sparkstream_kit new` has it
    (here / name).mkdir()
    assert main(["new", name]) == 0, capsys.readouterr().err
    assert (here / name / f"{name.replace('-', '_')}.py").is_file()
    assert [path.name for path in here.iterdir()] == [name]


def test_a_folder_is_made_whole_or_not_at_all(here, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)  # a full disk, at the first file
    with pytest.raises(InvalidInputError, match=r"cannot make x \(No space left on device\); go to a folder"):
        projects.make("x")
    assert list(here.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("remote", [False, True], ids=["classic", "connect"])
def test_the_tests_of_all_projects_pass(remote, here, request):
    for like in projects.LIKE:
        projects.make(f"my-{like.replace('_', '-')}", like)
    given = {"SPARK_REMOTE": request.getfixturevalue("connect")} if remote else {}
    done = process(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error::UserWarning"],
        cwd=here,
        env=environment(**given),
    )
    assert done.returncode == 0, done.stdout
    texts = [path.read_text() for path in here.glob("*/test_*.py")]
    tests, crashes = (sum(text.count(word) for text in texts) for word in ("\ndef test_", "mark.skipif"))
    said = f"{tests - crashes} passed, {crashes} skipped in" if remote else f"{tests} passed in"
    assert f"\n{said} " in done.stdout
    assert tests >= len(JOBS)


@pytest.mark.slow
@pytest.mark.parametrize("like", [job for job in projects.LIKE if "socket" not in job and "kafka" not in job])
def test_the_command_of_each_readme_runs_the_job_on_its_data(like, here, spark, monkeypatch, capsys):
    made, places = projects.make("my-job", like), ("data", "out", "model", "ckpt", "in")
    made = made._replace(folder=made.folder.resolve())
    monkeypatch.chdir(made.folder)
    for command in made.commands[0].split(" && "):
        python, script, *words = shlex.split(command)
        assert (python, script in made.files) == ("python", True)
        spec = importlib.util.spec_from_file_location("my_job", script)
        assert spec is not None
        assert spec.loader is not None
        job = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "my_job", job)
        spec.loader.exec_module(job)
        # The JVM of these tests has a working folder of its own.
        words = [str(made.folder / word) if word.split("/")[0] in places else word for word in words]
        assert job.main(words) == 0, capsys.readouterr().err
    assert " rows in," in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_with_a_server_runs_the_job_on_its_data(here):
    made = projects.make("my-words", "socket_wordcount")
    with running(
        "bash",
        "-c",
        made.commands[0],
        cwd=made.folder,
        env=environment() | {"PATH": path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as job:
        out, err = job.communicate(timeout=HANGS)
    assert job.returncode == 0, err
    assert "count" in out


def path():
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
