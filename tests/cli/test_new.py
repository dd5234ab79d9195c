"""`sparkstream new`: a project of one's own from each job, whose test passes and whose job runs."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import JOBS, environment, process, refusal

from sparkstream_kit.cli import main, projects


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_job_of_structured_streaming_can_be_begun_with():
    assert sorted(projects.LIKE) == sorted([*JOBS, "hourly_sales"])


def test_a_project_is_a_job_its_test_sample_data_and_two_commands(here, capsys):
    assert main(["new", "my-first-job"]) == 0
    files = [
        ".gitignore",
        "AGENTS.md",
        "README.md",
        "data/sales-1.json",
        "data/sales-2.json",
    ]
    files += ["my_first_job.py", "pytest.ini", "test_my_first_job.py"]
    out, err = capsys.readouterr()
    assert out.split() == [f"my-first-job/{name}" for name in files]
    assert (
        sorted(
            str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()
        )
        == out.split()
    )
    commands = ["python my_first_job.py data out --available-now", "python -m pytest"]
    readme, notes = (
        (here / f"my-first-job/{page}").read_text()
        for page in ("README.md", "AGENTS.md")
    )
    assert re.findall(r"```bash\n(.*)\n```", readme) == commands
    assert [command for command in commands if f"`{command}`" not in notes] == []
    assert [line.split(":", 1)[1].strip() for line in err.splitlines()[1:]] == [
        "cd my-first-job",
        *commands,
    ]
    rows = [
        len((here / f"my-first-job/data/sales-{n}.json").read_text().splitlines())
        for n in (1, 2)
    ]
    assert rows == [100, 100]


def test_a_pipeline_is_functions_their_tests_sample_data_and_two_commands(here, capsys):
    assert main(["new", "my-shop", "--pipeline"]) == 0
    out, err = capsys.readouterr()
    files = [".gitignore", "AGENTS.md", "README.md"]
    files += ["data/sales-1.json", "data/sales-2.json", "pytest.ini"]
    files += ["spark-pipeline.yml", "test_my_shop.py", "transformations/my_shop.py"]
    assert out.split() == [f"my-shop/{name}" for name in files]
    run = "spark-pipelines run --conf spark.sql.catalogImplementation=hive"
    assert err.splitlines() == [
        "sparkstream: made my-shop; to run the pipeline, and its tests:",
        "sparkstream:     cd my-shop",
        f"sparkstream:     {run}",
        "sparkstream:     python -m pytest",
    ]
    made = {name: (here / "my-shop" / name).read_text() for name in files}
    assert f"\n{run}\n" in made["README.md"]
    assert f"`{run}`" in made["AGENTS.md"]
    assert f"storage: {here.as_uri()}/my-shop/storage\n" in made["spark-pipeline.yml"]
    assert '"transformations/my_shop.py"' in made["test_my_shop.py"]
    assert not [name for name, text in made.items() if "shop_tables" in text]


def test_a_project_is_a_job_or_a_pipeline(here, capsys):
    assert main(["new", "x", "--pipeline", "--like", "sales_totals"]) == 2
    assert capsys.readouterr().err == (
        "sparkstream: new: --like sales_totals copies a job, and --pipeline makes a"
        " pipeline; give one of the two\n"
    )
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("like", "what"),
    [
        (
            "score_posts",
            (
                "train_posts.py runs first: A model of spam, trained on labelled posts:"
                " a new version"
            ),
        ),
        (
            "action_windows",
            "action_rows.py runs first: Actions as typed rows; rows that come too late",
        ),
    ],
)
def test_a_second_file_is_said_to_be_for_something(like, what, here, capsys):
    assert main(["new", "my-job", "--like", like]) == 0
    err = capsys.readouterr().err
    assert f"sparkstream: made my-job ({what}" in err
    assert like not in err
    assert f"shows its flags ({what}" in (here / "my-job/README.md").read_text()


@pytest.mark.parametrize("like", sorted(projects.LIKE))
def test_a_copy_has_names_of_its_own_also_one_that_holds_that_of_its_job(like, here):
    def copied(name):
        made = projects.make(name, like)
        return [
            (made.folder / path).read_text()
            for path in made.files
            if path.endswith((".py", ".md"))
        ]

    # No job has a word of this name, so that it can be put back by hand.
    notes, *plain = copied("quick-zebra")
    for path in ("quick_zebra.py", "test_quick_zebra.py"):
        text = (here / "quick-zebra" / path).read_text()
        compile(text, path, "exec")
        assert not [name for name in (like, like.replace("_", "-")) if name in text]
    assert "{" not in f"{notes}{plain[0]}", "README.md"
    name, module = f"my-{like.replace('_', '-')}-2", f"my_{like}_2"
    expected = [
        each.replace("quick_zebra", module).replace("quick-zebra", name)
        for each in (notes, *plain)
    ]
    assert copied(name) == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["there"], "there exists already; give another name, or remove it"),
        (
            ["x", "--like", "sales_total"],
            "unknown job of --like sales_total; did you mean sales_totals?",
        ),
        (
            ["json"],
            "json: a Python module json would hide another one; give another name",
        ),
        (
            ["../x"],
            (
                "../x is no name for a job; use letters a to z, digits and -, such as"
                " my-job"
            ),
        ),
        (["x" * 101], "a name of 101 letters is too long; give one of at most 100"),
        (
            ["class"],
            (
                "class is a keyword of Python and no name for a job; give another name,"
                " such as class-j"
            ),
        ),
    ],
)
def test_what_cannot_be_made_is_one_line(words, line, here, capsys):
    (here / "there").mkdir()
    (here / "there" / ".hidden").touch()
    assert main(["new", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"sparkstream: {line}")
    assert sorted(path.name for path in here.iterdir()) == ["there"]


@pytest.mark.parametrize("name", ["mine", "my-job"])
def test_an_empty_folder_that_is_there_is_filled(name, here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(here)  # as `python -m sparkstream_kit new` has it
    (here / name).mkdir()
    assert main(["new", name]) == 0, capsys.readouterr().err
    assert (here / name / f"{name.replace('-', '_')}.py").is_file()
    assert [path.name for path in here.iterdir()] == [name]


def test_a_name_is_not_that_of_the_file_beside_the_job(here, monkeypatch):
    # The folder of jobs can be imported
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    said = refusal(projects.make, "train-posts", "score_posts")
    assert said.startswith(
        "train-posts: a Python module train_posts would hide another"
    )


def test_a_folder_is_made_whole_or_not_at_all(here, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)  # a full disk, at the first file
    assert refusal(projects.make, "x").startswith(
        "cannot make x (No space left on device); go to a folder"
    )
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_its_tests_are_found_below_a_project_with_other_settings(here):
    (here / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    process(
        [sys.executable, "-mpytest", "--co"],
        cwd=projects.make("a")[0],
        env=environment(),
        check=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("remote", [False, True], ids=["classic", "connect"])
def test_the_tests_of_all_projects_pass(remote, here, request):
    for like in projects.LIKE:
        projects.make(f"my-{like.replace('_', '-')}", like)
    projects.make_pipeline("my-shop")
    given = {"SPARK_REMOTE": request.getfixturevalue("connect")} if remote else {}
    done = process(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error::UserWarning",
        ],
        cwd=here,
        env=environment(**given),
    )
    assert done.returncode == 0, done.stdout
    texts = [path.read_text() for path in here.glob("*/test_*.py")]
    tests, crashes = (
        sum(text.count(word) for text in texts)
        for word in ("\ndef test_", "mark.skipif")
    )
    said = (
        f"{tests - crashes} passed, {crashes} skipped in"
        if remote
        else f"{tests} passed in"
    )
    assert f"\n{said} " in done.stdout
    assert tests >= len(JOBS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "like", [job for job in projects.LIKE if "socket" not in job and "kafka" not in job]
)
def test_the_command_of_each_readme_runs_the_job_on_its_data(
    like, here, spark, monkeypatch, capsys
):
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
        words = [
            str(made.folder / word) if word.split("/")[0] in places else word
            for word in words
        ]
        assert job.main(words) == 0, capsys.readouterr().err
    assert " rows in," in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_with_a_server_runs_the_job_on_its_data(here):
    made = projects.make("my-words", "socket_wordcount")
    done = process(["bash", "-c", made.commands[0]], cwd=made.folder, env=environment())
    assert done.returncode == 0, done.stderr
    assert "count" in done.stdout
