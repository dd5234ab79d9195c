"""Set-up with a python, a java and an apt that are small scripts; nothing is installed.

No network is used.
"""

import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, process, program

PINS = sorted((ROOT / "requirements").glob("*.txt"))
TOOLS = (
    "bash cat chmod cp dirname env flock getent grep ls mkdir mktemp mv rm sed tail"
    " touch true"
)
TOOLS += " sha256sum sleep uname"

PYTHON = """#!/bin/bash
echo "$*" >>"$CALLS"; version=$FAKE_PYTHON
case "$*" in
    -V) echo "Python $FAKE_PYTHON" ;;
    "-c import sys"*) $REAL_PYTHON -c "import sys; sys.version_info = (${version//./, }); $2" ;;
    "-c import ensurepip") [ -z "$FAKE_NO_VENV" ] ;;
    "-m venv .venv")
        mkdir -p .venv/bin && cp "$0" .venv/bin/python
        printf '#!/bin/bash\necho "sparkstream $1 $JAVA_HOME" >>"$CALLS"; $FAKE_WARM' \\
            >.venv/bin/sparkstream
        chmod +x .venv/bin/sparkstream
        echo "VIRTUAL_ENV='$PWD/.venv'" >.venv/bin/activate ;;
    *dev.txt)
        [ -z "$FAKE_SLOW" ] || { echo "Collecting pandas==2.3.3"; touch "$FAKE_SLOW.1"; }
        [ -z "$FAKE_SLOW" ] || while [ ! -e "$FAKE_SLOW.2" ]; do true; done ;;
    *--editable*) if [ -n "$FAKE_PIP_ERROR" ]; then echo "$FAKE_PIP_ERROR"; exit 1; fi ;;
esac
"""
JAVA = """#!/bin/bash
home=$(dirname "$(dirname "$0")")
case "$*" in
    --list-modules)
        echo "java.base@17"
        [ -n "$FAKE_NO_VECTOR" ] || echo "jdk.incubator.vector@17" ;;
    *)
        printf '    java.home = %s\\n' "$home" >&2
        printf '    java.specification.version = %s\\n' "$FAKE_JAVA" >&2 ;;
esac
"""
APT_CACHE = """#!/bin/bash
[ "$2" != openjdk-17-jre-headless ] || echo "  Candidate: 17.0.1"
"""
APT_GET = """#!/bin/bash
echo "apt-get $*" >>"$CALLS"
[ "$1" = update ] || { mkdir -p "$JVMS/jdk" && cp -r "$HIDDEN_JDK/bin" "$JVMS/jdk"; }
"""
SUDO = """#!/bin/bash
[ "$1" = -n ] && shift && [ -z "$FAKE_NO_SUDO" ] && exec "$@"
"""


@dataclass
class Checkout:
    path: Path
    env: dict[str, str]

    def run(self, script="bash scripts/setup.sh", **env):
        return process(["/bin/sh", "-uc", script], cwd=self.path, env=self.env | env)

    def calls(self):
        """What Python was asked since the last look."""
        log = Path(self.env["CALLS"])
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return text


@pytest.fixture
def checkout(tmp_path):
    path = tmp_path / "a path with spaces"
    for part in (
        "scripts/setup.sh",
        "requirements/build.txt",
        "requirements/dev.txt",
        "pyproject.toml",
    ):
        (path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, path / part)
    script = path / "scripts/setup.sh"
    # Not this machine's
    script.write_text(script.read_text().replace("/usr/lib/jvm", str(tmp_path / "jvm")))
    bin_ = tmp_path / "bin"
    program(bin_ / "python3", PYTHON)
    program(bin_ / "id", "#!/bin/bash\necho 1000\n")
    program(tmp_path / "a jdk" / "bin" / "java", JAVA)
    for tool in TOOLS.split():
        (bin_ / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is needed"))
    env = {
        "PATH": str(bin_),
        "CALLS": str(tmp_path / "calls"),
        "FAKE_PYTHON": "3.12.1",
        # Which answers the question for the version of the fake
        "REAL_PYTHON": sys.executable,
        "FAKE_JAVA": "17",
        "FAKE_WARM": "true",
        "JAVA_HOME": str(tmp_path / "a jdk"),
        **dict.fromkeys(
            ["FAKE_NO_VENV", "FAKE_NO_VECTOR", "FAKE_PIP_ERROR", "FAKE_SLOW"], ""
        ),
    }
    return Checkout(path, env)


def test_pins_are_installed_with_their_hashes_and_the_project_and_again_when_they_have_changed(
    checkout,
):
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    installs = [call for call in checkout.calls().splitlines() if "pip install" in call]
    assert "--require-hashes -r requirements/build.txt" in installs[0]
    assert "--require-hashes -r requirements/dev.txt" in installs[1]
    assert "--no-deps --editable ." in installs[2]
    result = checkout.run()
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    assert "install" not in checkout.calls()
    (checkout.path / ".venv/kept").touch()
    (checkout.path / "requirements/dev.txt").write_text("other==1")
    assert checkout.run().returncode == 0
    assert "install" in checkout.calls()
    assert (checkout.path / ".venv/kept").exists()


def test_a_first_run_makes_spark_start_faster_and_lives_without_it(checkout):
    done = checkout.run(FAKE_WARM="eval echo the disk is full; false")
    assert f"sparkstream warm {checkout.env['JAVA_HOME']}\n" in checkout.calls()
    assert done.returncode == 0
    assert done.stderr.endswith(
        "setup: no faster start: the disk is full\nsetup: ready\n"
    )


@pytest.mark.parametrize(
    "harm",
    [
        "rm .venv/bin/python",
        "touch .venv/incomplete",
        "mv '../a path with spaces' ../moved; cd ../moved",
        "export PYTHON=../python3.14",
    ],
)
def test_an_environment_that_cannot_work_is_made_anew(checkout, harm):
    checkout.run()
    (checkout.path / ".venv/stale").touch()
    program(
        checkout.path.parent / "python3.14", PYTHON.replace("$FAKE_PYTHON", "3.14.2")
    )
    result = checkout.run(f"{harm}; bash scripts/setup.sh && ls -a .venv")
    assert result.returncode == 0, result.stderr
    assert "stale" not in result.stdout


def test_java_is_installed_with_apt_where_that_needs_no_password(checkout):
    bin_ = Path(checkout.env["PATH"])
    for name, text in {
        "apt-cache": APT_CACHE,
        "apt-get": APT_GET,
        "sudo": SUDO,
    }.items():
        program(bin_ / name, text)
    checkout.env["HIDDEN_JDK"] = checkout.env.pop("JAVA_HOME")
    checkout.env["JVMS"] = str(bin_.parent / "jvm")
    result = checkout.run(FAKE_NO_SUDO="1")
    assert result.returncode == 2
    assert result.stderr.endswith(
        "was not found: sudo apt-get install openjdk-17-jre-headless\n"
    )
    assert result.stderr.count("\n") == 1
    result = checkout.run(FAKE_NO_SUDO="")
    assert result.returncode == 0, result.stderr
    assert (
        "install -y --no-install-recommends openjdk-17-jre-headless" in checkout.calls()
    )
    assert (
        checkout.run('. .venv/bin/activate; echo "$JAVA_HOME"').stdout
        == checkout.env["JVMS"] + "/jdk\n"
    )


def test_activate_gives_spark_its_java_and_drops_another_spark(checkout):
    checkout.run()
    show = '. .venv/bin/activate; echo "$JAVA_HOME|${SPARK_HOME:-none}|${LC_ALL:-none}"'
    result = checkout.run(show, JAVA_HOME="/other", SPARK_HOME="/opt/spark-3", LANG="C")
    assert result.stdout == f"{checkout.env['JAVA_HOME']}|none|C.UTF-8\n"


NO_NETWORK = (
    "urllib3.exceptions.NewConnectionError: Failed to establish a new connection"
)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"FAKE_PYTHON": "3.10.9"},
            r"Python 3\.11 to 3\.14 is needed, and Python 3\.10\.9 was found",
        ),
        (
            {"FAKE_PYTHON": "3.15.0"},
            r"Python 3\.11 to 3\.14 is needed, and Python 3\.15\.0 was found",
        ),
        ({"PYTHON": "python9"}, r"Python 3\.11 to 3\.14 is needed, and none was found"),
        ({"FAKE_NO_VENV": "1"}, r"apt-get install python3-venv"),
        (
            {"FAKE_JAVA": "11"},
            r"Java 17 or newer, .* is needed and was not found: install it",
        ),
        ({"FAKE_NO_VECTOR": "1"}, r"with its module jdk\.incubator\.vector, is needed"),
        (
            {"FAKE_PIP_ERROR": NO_NETWORK},
            r"no network: pip cannot reach its package index",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(checkout, env, message):
    result = checkout.run(**env)
    *before, line = result.stderr.splitlines()
    assert result.returncode == 2
    assert re.search(f"^setup: .*{message}", line)
    assert all(text.startswith("setup: making .venv") for text in before)


def test_the_pins_hold_every_package_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["build"],
    ]
    named += [
        name for name in project["dependency-groups"]["dev"] if isinstance(name, str)
    ]
    extras = project["project"]["optional-dependencies"]
    named += [name for extra in extras.keys() - {"java"} for name in extras[extra]]
    names = {re.split(r"[^\w.-]", name)[0] for name in named} - {"sparkstream-kit"}
    pinned = set(
        re.findall(
            r"^([\w.-]+)==", "".join(pins.read_text() for pins in PINS), re.MULTILINE
        )
    )
    assert names - pinned == set(), "run: make pins"


SLEEP = """#!/bin/bash
[ ! -e "$FAKE_SLOW.2" ] || exit 1  # the slow pip is through: nothing is said of the next one
while [ ! -e "$FAKE_SLOW.1" ]; do kill -0 $PPID || exit; done  # until the slow pip has begun
own="$FAKE_SLOW.slept.$PPID"  # the loop of an earlier pip, which has ended, may still sleep
[ -e "$own" ] || { touch "$own"; exit 0; }
touch "$FAKE_SLOW.2"  # its words have been shown
exit 1
"""


def test_a_first_run_says_how_far_it_is(checkout, tmp_path):
    (tmp_path / "bin/sleep").unlink()
    program(tmp_path / "bin/sleep", SLEEP)
    build, dev = (
        checkout.path / "requirements/build.txt",
        checkout.path / "requirements/dev.txt",
    )
    build.write_text("")
    dev.write_text("pandas==2.3.3 \\\n    --hash=sha256:1\nnumpy==2\n")
    done = checkout.run(FAKE_SLOW=str(tmp_path / "slow"))
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if " packages found" in line]
    assert [re.sub(r"\d+ s", "N s", line) for line in said] == [
        "setup: N s: 1 of at most 2 packages found; Collecting pandas==2.3.3"
    ]


def test_make_help_names_every_target():
    text = process(["make", "-s", "-C", ROOT], check=True).stdout
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    assert set(re.findall(r"^  make ([\w-]+)", text, re.MULTILINE)) == targets


@pytest.mark.parametrize("pins", PINS, ids=lambda path: path.name)
def test_the_pins_have_hashes_and_name_no_index(pins):
    text = pins.read_text()
    for pin in re.split(r"\n(?! )", text.strip()):
        assert re.match(
            r"[\w.-]+==\S+( ; .+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n)?)+$", pin
        ), pin
    assert "://" not in text
