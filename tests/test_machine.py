"""What a machine or a user can lack: a start that fails and the doctor name the fix."""

import os
import resource
import subprocess
import sys

import pytest
from conftest import ROOT

from sparkstream_kit._internal import java
from sparkstream_kit.cli import doctor


def no_user(patch):
    patch.setattr(os, "getuid", lambda: 54321)


def few_files(patch):
    patch.setattr(resource, "getrlimit", lambda _: (128, 128))


def ascii_names(patch):
    patch.setattr(sys, "getfilesystemencoding", lambda: "ascii")


LACKS = {
    no_user: (
        "this user (54321) has no name, without which Java and Hadoop do not start;"
        " give it one, as root or in the image: echo spark:x:54321:0::/tmp:/bin/sh >>"
        " /etc/passwd"
    ),
    few_files: (
        "only 128 files may be open at once (ulimit -Hn); raise that limit at the"
        " start: LimitNOFILE=4096 of a systemd unit, docker run --ulimit nofile=4096,"
        " or as root ulimit -n 4096"
    ),
    ascii_names: "names of files are ascii in this locale; set LC_ALL=C.UTF-8",
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_is_lacking_is_named_with_its_fix_and_the_doctor_sees_it(
    lack, monkeypatch
):
    # Java raises its own limit
    monkeypatch.setattr(resource, "getrlimit", lambda _: (128, 4096))
    assert java.lacks() == []
    assert [each.level for each in doctor.user()] == ["ok"]
    lack(monkeypatch)
    assert java.lacks() == [LACKS[lack]]
    [finding] = doctor.user()
    assert finding.level == "bad"
    assert f"{finding.found}; {finding.fix}" == LACKS[lack]


@pytest.mark.parametrize(
    ("given", "locale"),
    [
        ({}, "C.UTF-8"),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, "C.UTF-8"),
        ({"LC_ALL": "POSIX"}, "C.UTF-8"),
        ({"LANG": "C"}, "C.UTF-8"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, None),
        ({"LANG": "C.UTF-8"}, None),
        # A locale that is not installed, as ssh brings it
        ({"LANG": "xx_YY.UTF-8"}, "C.UTF-8"),
        ({"LC_ALL": "xx_YY.UTF-8", "LC_CTYPE": "C.UTF-8"}, "C.UTF-8"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the locale of Linux")
def test_java_gets_a_locale_that_has_all_names_of_files(given, locale):
    assert java.with_names(given).get("LC_ALL") == (locale or given.get("LC_ALL"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the locale of Linux")
def test_a_start_that_fails_names_how_many_files_may_be_open(tmp_path):
    script = (
        "from sparkstream_kit import get_session\nget_session('few', profile='test')"
    )
    command = f"ulimit -n 128; exec '{sys.executable}' -c \"$0\""
    done = subprocess.run(
        ["bash", "-c", command, script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        "only 128 files may be open at once (ulimit -Hn); raise that limit at the start"
        in done.stderr
    )
