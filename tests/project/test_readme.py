"""Each command and example of the README and its pages works; each link leads somewhere."""

import inspect
import os
import re
import signal
import subprocess
import tomllib
from contextlib import suppress
from typing import Any

import pytest
from conftest import ROOT
from support.pages import unfolded

from sparkstream_kit import connectors, sinks

README = (ROOT / "README.md").read_text("utf-8")
PAGES = {
    path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))
}
LINKING = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "jobs/**/*.md",
        "benchmarks/**/*.md",
        ".github/**/*.md",
    )
    for path in ROOT.glob(pattern)
)
EXECUTED = "\n".join(
    [
        README,
        *(PAGES[f"{name}.md"] for name in ("jobs", "json", "checkpoints", "server")),
    ]
)
BLOCKS = re.findall(r"```bash\n(.*?)```", EXECUTED, re.DOTALL)
PRINTED = [
    unfolded(text)
    for kind, text in re.findall(r"```(\w*)\n(.*?)```", EXECUTED, re.DOTALL)
    if not kind
]


def test_each_extra_stands_in_the_table_of_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    rows = re.findall(
        r"^\| (`[^|]*) \|",
        PAGES["install.md"].partition("| extra | gives |")[2],
        re.MULTILINE,
    )
    of_systems = {system.extra for system in connectors.systems().values()} - {""}
    assert {*re.findall(r"`([a-z]+)`", " ".join(rows))} | of_systems == {*extras}


def test_a_page_that_somebody_lands_on_is_short():
    landed = PAGES | {"README.md": README}
    # Nobody reads the entries for all messages: one searches them.
    landed["wrong.md"] = landed["wrong.md"].partition("## By the words of")[0]
    for name in ("README", "testing", "wrong", "words", "beside"):
        assert len(re.sub(r"\||---", " ", landed[f"{name}.md"]).split()) <= 900, name


def anchors(text):
    """Return the names by which a page's headings are linked, where GitHub and site agree."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    names = [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    ]
    return {
        name
        for name in names
        if names.count(name) == 1 and name.isascii() and "--" not in name
    }


@pytest.mark.parametrize("page", LINKING, ids=str)
def test_each_link_leads_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    ):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), target


def test_each_page_that_the_code_names_is_there():
    """Docstrings, messages and notes name pages of docs/ for a reader to open."""
    files = [
        path
        for name in ("sparkstream_kit", "jobs", "examples", "conf")
        for path in (ROOT / name).rglob("*.*")
    ]
    texts = [
        path.read_text("utf-8")
        for path in files
        if path.suffix in {".py", ".md", ".conf", ".toml", ".ipynb"}
    ]
    named = {
        name
        for text in texts
        for name in re.findall(r"(?<![\w./])docs/[\w/-]+\.md", text)
    }
    assert "docs/watermarks.md" in named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", [name for name in sinks.__all__ if name.islower()])
def test_each_sink_stands_in_the_table_of_promises_once(name):
    table = PAGES["promises.md"].partition("\n## ")[0]
    assert table.count(f"`sinks.{name}`") == 1, (
        "enter it in docs/promises.md, in the row of its promise"
    )


@pytest.mark.slow
def test_the_shell_commands_run_one_after_the_other(tmp_path):
    for name in ("jobs", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    # Not the port that somebody may be using.
    script = "".join(BLOCKS[1:])
    script = re.sub(r"\b9999\b", "19999", script).replace(
        "feed lines", "feed lines --port 19999"
    )
    script = re.sub("sparkstream serve (start|stop)", r"\g<0> --port 19002", script)
    on_a_terminal = (
        "python -c 'import pty, sys; pty.spawn(sys.argv[1:])' sparkstream watch"
    )
    script = script.replace("sparkstream watch", on_a_terminal)
    with (tmp_path / "out").open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "TERM": "xterm",
                "COLUMNS": "100",
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        runs = len(re.findall(r"^(?:spark-submit|python) ", script, re.MULTILINE))
        assert shell.wait(40 * runs) == 0, (tmp_path / "out").read_text()
    finally:
        with suppress(ProcessLookupError):  # all has ended, as it should
            os.killpg(shell.pid, signal.SIGTERM)
    shown = [
        block for block in PRINTED[1:] if not block.startswith("spark-submit ")
    ]  # commands for elsewhere
    assert len(shown) >= 7
    assert [
        block
        for block in shown
        if timeless(block) not in timeless((tmp_path / "out").read_text())
    ] == []


def timeless(text):
    """Return what a page shows without times, speeds and what they cut off.

    These differ from run to run.
    """
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", text)  # of a terminal
    text = re.sub(
        r"[\d.,]+(?= rows/s| s by)|(?<=^Batch: )\d+|(?<=^Time: ).*",
        "N",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(
        r"(?m)(^\('since the beginning', '\w+', )\d+|(^sales_totals +)\d+ .*",
        r"\1\2N",
        text,
    )
    return re.sub(" +", " ", text)


@pytest.mark.slow
def test_the_python_examples_run_one_after_the_other(spark, stream, tmp_path, capsys):
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    subprocess.run(["bash", "-euc", BLOCKS[1]], cwd=tmp_path, check=True)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", EXECUTED, re.DOTALL):
        there = block.replace('"events/"', repr(str(tmp_path / "events")))
        exec(compile(there, "README.md", "exec"), names)  # noqa: S102 - our own README
    assert timeless(PRINTED[0]) in timeless(capsys.readouterr().out)
    actions = [
        path.read_text() for path in (tmp_path / "events").glob("actions-*.json")
    ]
    counts = [row["count"] for row in spark.table("hourly").collect()]
    assert sum(counts) == sum(text.count("\n") for text in actions)
    assert len(actions) == 6
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 2
    for name in tests:
        fixtures = {"spark": spark, "stream": stream}
        names[name](
            *(fixtures[asked] for asked in inspect.signature(names[name]).parameters)
        )


# These two are what CI runs; a test that ran them would run itself.
CI = {"make demo", "make test"}


def test_ci_runs_the_commands_that_set_up_everything():
    assert set(BLOCKS[0].split("\n")) - {""} == CI
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert all(re.search(rf"^stage {line}\b", ci, re.MULTILINE) for line in CI)


GUIDES = [
    f"guides/{path.name}" for path in sorted((ROOT / "docs" / "guides").glob("*.md"))
]


def test_each_page_is_linked():
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} | {
        path.name for path in ROOT.glob("*.md") if path.name != "README.md"
    }
    of_systems = {
        f"docs/{page}"
        for page in re.findall(r"\]\((\w+\.md)\) \|", PAGES["promises.md"])
    }
    assert {*re.findall(r"\]\(((?:docs/)?\w+\.md)", README)} | of_systems == pages
    assert set(re.findall(r"\]\((guides/[\w-]+\.md)", PAGES["start.md"])) == set(GUIDES)


WIDE = 88  # characters, which a box of the site holds at 1280 pixels


@pytest.mark.parametrize("page", LINKING, ids=str)
def test_code_fits_its_box(page):
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line for line in lines if len(line) > WIDE] == []


def test_the_readme_is_short():
    assert len(README.split()) <= 900


def test_the_start_page_has_three_steps_for_each_of_three_people():
    page = PAGES["index.md"]
    assert len(page.split()) <= 300
    assert [
        re.findall(r"^\*\*(\d)\.\*\*", part, re.MULTILINE)
        for part in page.split("\n## ")[1:]
    ] == [["1", "2", "3"]] * 3


def test_the_words_are_in_order():
    words = re.findall(r"^- \*\*(.+?)\*\*", PAGES["words.md"], re.MULTILINE)
    assert words == sorted(words, key=str.lower)
    assert len(words) > 30
