"""The guides to a container and to Airflow, as far as they run without both."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import ROOT, environment, process

GUIDES = ROOT / "docs" / "guides"
# The arguments that Airflow's documentation names, of those that a reader may need.
OF_DAG = {"schedule", "start_date", "end_date", "catchup", "max_active_runs", "tags"}
OF_TASK = {"task_id", "retries", "retry_delay", "execution_timeout", "pool"}
OF_BASH = {"bash_command", "env", "append_env", "cwd", "skip_on_exit_code"}


def block(page, title):
    """Return the block of a page that becomes a file."""
    text = (GUIDES / page).read_text("utf-8")
    [found] = re.findall(rf'```\w+ title="{title}"\n(.*?)```', text, re.DOTALL)
    return str(found)


@pytest.fixture
def shop(tmp_path):
    """The project of both guides."""
    made = process(
        [sys.executable, "-m", "sparkstream_kit", "new", "shop"], cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    return tmp_path / "shop"


@pytest.fixture
def wheel(tmp_path):
    """Return the wheel of this checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = process([*build, "-d", tmp_path / "dist"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    [made] = (tmp_path / "dist").glob("*.whl")
    return made


def totals(shop):
    """Return the rows that the job has written."""
    files = (shop / "out" / "totals").glob("*/*.json")
    return [
        json.loads(line) for path in files for line in path.read_text().splitlines()
    ]


def test_the_image_has_a_python_that_the_kit_supports():
    [version] = re.findall(
        r"^FROM python:(3\.\d+)-slim$",
        block("container.md", "Dockerfile"),
        re.MULTILINE,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


@pytest.mark.slow
def test_the_image_is_built_and_run(shop, wheel):
    docker = shutil.which("docker")
    if docker is None or process([docker, "info"]).returncode != 0:
        pytest.skip("needs a Docker engine")
    (shop / "Dockerfile").write_text(block("container.md", "Dockerfile"))
    (shop / "wheels").mkdir()
    shutil.copy(wheel, shop / "wheels")
    name = f"sparkstream-test-{os.getpid()}"
    built = process([docker, "build", "-t", name, "."], cwd=shop)
    assert built.returncode == 0, built.stderr
    try:
        once = ["python", "shop.py", "data", "out", "--available-now"]
        mount = f"{shop / 'data'}:/srv/shop/data:ro"
        done = process([docker, "run", "--rm", "--init", "-v", mount, name, *once])
        assert done.returncode == 0, done.stderr
        assert "by: end of input" in done.stdout
    finally:
        process([docker, "rmi", "--force", name])


@pytest.mark.slow
def test_the_commands_of_the_dockerfile_make_a_folder_in_which_the_job_runs(
    shop, wheel, tmp_path, until
):
    root = tmp_path / "image"
    (root / "tmp").mkdir(parents=True)
    (shop / "wheels").mkdir()
    shutil.copy(wheel, shop / "wheels")
    venv = _environment_beside_this_one(root / "venv")
    env = environment(
        PATH=f"{venv / 'bin'}:{os.environ['PATH']}",
        PYTHONPATH="",
        PIP_NO_INDEX="1",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    where, users, command = root, [], []
    for line in block("container.md", "Dockerfile").splitlines():
        word, _, rest = line.partition(" ")
        if word == "WORKDIR":
            where = root / rest.lstrip("/")
            where.mkdir(parents=True)
        elif word == "COPY":
            source, target = rest.split()
            place = where if target == "." else root / target.lstrip("/")
            if (shop / source).is_dir():
                shutil.copytree(shop / source, place)
            else:
                shutil.copy(shop / source, place)
        elif word == "RUN" and rest.startswith("useradd "):
            users.append(rest.split()[-1])
        elif word == "RUN":
            _run_in_image(rest, where, root, users, env)
        elif word == "USER":
            assert rest in users
        elif word == "CMD":
            command = json.loads(rest)
        else:
            assert word == "FROM", line
    assert where == root / "srv" / "shop"
    installed = process(
        ["python", "-c", "import sparkstream_kit as k; print(k.__file__)"],
        env=env,
        cwd=where,
    )
    assert str(venv) in installed.stdout  # the wheel, and not this checkout
    shutil.copytree(shop / "data", where / "data", dirs_exist_ok=True)
    with (root / "log").open("w") as log:
        job = subprocess.Popen(command, cwd=where, env=env, stdout=log, stderr=log)
    try:
        until(lambda: totals(where) or job.poll() is not None, 180)
        job.terminate()  # as `docker stop`
        assert job.wait(90) == 0, (root / "log").read_text()
    finally:
        job.kill()
    assert totals(where)
    assert "by: SIGTERM" in (root / "log").read_text()


def _environment_beside_this_one(folder):
    """Make an environment that has the packages of this one, and nothing of an index."""
    made = process([sys.executable, "-m", "venv", folder])
    assert made.returncode == 0, made.stderr
    [packages] = folder.glob("lib/python*/site-packages")
    [others] = Path(sys.prefix).glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{others}\n")
    return folder


def _run_in_image(command, where, root, users, env):
    """Run a command of the Dockerfile, with the folder of the image as its root."""
    inside = re.sub(r"(?<![\w/])/(tmp|srv)\b", rf"{root}/\1", command)
    # An index alone has the Java of the extra; and only root may give files away.
    inside = inside.replace(",java]", "]")
    for user in users:
        inside = re.sub(rf"&& chown {user} [\w ]+", "", inside)
    done = process(["sh", "-ec", inside], cwd=where, env=env)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


class Task:
    """What Airflow's BashOperator is given."""

    made: list["Task"] = []  # noqa: RUF012 - emptied before each DAG

    def __init__(self, *, bash_command, cwd, **others):
        assert {*others} <= OF_TASK | OF_BASH
        self.command, self.cwd, self.others = bash_command, cwd, others
        Task.made.append(self)


class Dag:
    """What Airflow's DAG is given."""

    last: ClassVar[dict[str, Any]] = {}

    def __init__(self, dag_id, **others):
        assert re.fullmatch(r"[\w.-]+", dag_id)
        assert {*others} <= OF_DAG
        Dag.last = others

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


@pytest.fixture
def task(monkeypatch, shop):
    """The one task of the guide's DAG, for the project in this folder."""
    modules: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers.standard.operators.bash": {"BashOperator": Task},
    }
    for name, what in modules.items():
        module = types.ModuleType(name)
        vars(module).update(what)
        monkeypatch.setitem(sys.modules, name, module)
    Task.made.clear()
    source = block("airflow.md", "shop_totals.py")
    exec(compile(source, "shop_totals.py", "exec"), {})  # noqa: S102 - our own page
    [task] = Task.made
    assert task.cwd == "/srv/shop"
    task.cwd = shop
    (shop / ".venv").symlink_to(sys.prefix)
    return task


def begin(task, command=None):
    """Start a task as Airflow does, and return its process."""
    return subprocess.Popen(
        ["bash", "-c", command or task.command],
        cwd=task.cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_one_run_at_a_time_and_none_for_the_past(task):
    assert Dag.last["max_active_runs"] == 1
    assert Dag.last["catchup"] is False
    assert task.others["retries"] > 0


@pytest.mark.slow
def test_a_run_reads_what_is_new_and_a_second_one_nothing(task):
    first = begin(task)
    said, _ = first.communicate(timeout=180)
    assert first.returncode == 0, said
    rows = totals(task.cwd)
    assert rows
    again = begin(task)
    said, _ = again.communicate(timeout=180)
    assert (again.returncode, totals(task.cwd)) == (0, rows), said


@pytest.mark.slow
def test_a_task_that_is_cut_off_commits_its_batch(task, until):
    endless = task.command.replace(" --available-now", "")
    assert endless != task.command
    running = begin(task, endless)
    try:
        until(lambda: totals(task.cwd) or running.poll() is not None, 180)
        second = begin(task)
        said, _ = second.communicate(timeout=180)
        assert second.returncode == 75, said  # as two runs at once
        os.killpg(running.pid, signal.SIGTERM)
        said, _ = running.communicate(timeout=90)
        assert running.returncode == 0, said
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
