"""What an index and a code host are given: the wheel's own page, and the workflows."""

import email
import re
import shutil
import tomllib
import zipfile
from functools import cache

import pytest
from conftest import ROOT, built_wheel, process
from packaging.metadata import Metadata

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@cache
def versions():
    table = tomllib.loads((ROOT / "conf" / "versions.toml").read_text())
    return {each["tested"]: each for each in table.values()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, and the folder of its metadata."""
    with zipfile.ZipFile(built_wheel(tmp_path_factory.mktemp("wheel"))) as archive:
        [info] = {
            name.partition("/")[0]
            for name in archive.namelist()
            if ".dist-info/" in name
        }
        yield archive, info


def test_the_page_of_an_index_has_no_link_that_leads_nowhere(wheel):
    """An index shows the text of the wheel's metadata, beside which there is no docs/."""
    archive, info = wheel
    page = email.message_from_bytes(archive.read(f"{info}/METADATA")).get_payload()
    assert isinstance(page, str)
    assert page.startswith("# sparkstream-kit\n")
    assert "- **A clean stop**" in page
    assert re.findall(r"\]\((?!https?:)", page) == []
    # What a link said is still there.
    assert "**: faults and what happens." in page


def test_an_index_takes_the_metadata_and_each_licence_is_in_the_wheel(wheel):
    archive, info = wheel
    found = Metadata.from_email(archive.read(f"{info}/METADATA"), validate=True)
    assert found.license_expression == "Apache-2.0 AND MIT"
    assert found.license_files
    for file in found.license_files:
        assert archive.read(f"{info}/licenses/{file}") == (ROOT / file).read_bytes()
    of_others = [*(ROOT / "sparkstream_kit").rglob("uplot*")]
    assert len(of_others) == 3
    assert [
        file.name
        for file in of_others
        if file.name not in (ROOT / "NOTICE").read_text("utf-8")
    ] == []


def test_the_changes_begin_with_the_version_that_is_built():
    first = re.search(
        r"^## (\S+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert first
    assert first[1] == PROJECT["version"]
    assert re.fullmatch(r"not released yet|20\d\d-\d\d-\d\d", first[2])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_there_is_with_actions_pinned(path):
    text = path.read_text()
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert [
        each
        for each in uses
        if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)
    ] == []
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    assert [
        each for each in re.findall(r"bash (\S+)", text) if not (ROOT / each).exists()
    ] == []
    # And more only for the job that needs it
    assert "permissions: { contents: read }" in text


def test_ci_has_each_tested_version_of_spark_with_a_python_and_a_java_that_fit():
    rows = re.findall(
        r'\{ spark: (\S+), python: "(\S+)", java: "(\d+)" \}',
        (ROOT / ".github/workflows/ci.yml").read_text(),
    )
    assert {spark for spark, _, _ in rows} == set(versions())
    for spark, python, java in rows:
        assert python in versions()[spark]["python"]
        assert int(java) in versions()[spark]["java"]


@pytest.mark.skipif(
    shutil.which("actionlint") is None,
    reason="needs actionlint (CONTRIBUTING, a workflow)",
)
def test_the_workflows_are_what_the_host_understands():
    done = process(["actionlint", *WORKFLOWS])
    assert (done.returncode, done.stdout) == (0, "")


def test_python_versions_are_those_that_were_run():
    named = {
        each.rpartition(" ")[2]
        for each in PROJECT["classifiers"]
        if "Python :: 3." in each
    }
    said = re.search(
        r"Its tests were run on (.*)\.\n", (ROOT / "docs" / "versions.md").read_text()
    )
    assert said
    assert named == set(re.findall(r"3\.\d+", said[1]))
