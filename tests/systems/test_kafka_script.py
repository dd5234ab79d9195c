"""`make kafka`: a broker for a user, and what it prints to type next does what it says."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, environment, process, running


@pytest.mark.slow
def test_what_it_prints_to_type_next_reads_the_sales(tmp_path):
    env = environment(
        TMPDIR=str(tmp_path), SPARKSTREAM_JARS=os.environ["SPARKSTREAM_JARS"]
    )
    words = [sys.executable, ROOT / "scripts" / "server.py", "kafka"]
    with running(*words, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as broker:
        assert broker.stdout is not None
        printed = ""
        while "Ctrl-C here ends" not in printed:
            line = broker.stdout.readline()
            assert line, "it has ended"
            printed += line
        typed = "\n".join(re.findall(r"^  >>> (.*)$", printed, re.MULTILINE))
        short = typed.replace("run_for=30", "max_batches=2")
        assert short != typed
        done = process([sys.executable, "-c", short], cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert re.search(r"\|\d+,\d+/\d+/\d+,", done.stdout)
        printed = printed.replace("\\\n   ", "")
        jobs = re.findall(r"^  python (jobs/(\w+)\.py .*)$", printed, re.MULTILINE)
        said = {
            "sales_totals": r" rows in, 0 bad rows, ",
            "kafka_word_count": r" rows in, (?!.*bad row)",
            "kafka_orders": r" rows in, .*, 0 bad rows, ",
        }
        assert {name for _, name in jobs} == set(said)
        out = str(tmp_path / "checked-out")
        for job, name in jobs:
            command = [
                sys.executable,
                *job.replace("--run-for 30", "--available-now").split(),
            ]
            command = [word.replace("checked-out", out) for word in command]
            done = process(command, cwd=ROOT, env=env)
            assert done.returncode == 0, done.stderr
            assert re.search(f"{name}: .*{said[name]}", done.stderr), done.stderr
            assert ("Build" in done.stdout) != (name == "kafka_orders")
        [asked] = re.findall(r"^  sparkstream (schema .*)$", printed, re.MULTILINE)
        done = process(
            [sys.executable, "-m", "sparkstream_kit", *asked.split()], env=env
        )
        assert "#   Avro (schema ids 1): " in done.stdout, done.stderr
        broker.send_signal(signal.SIGINT)
        assert broker.wait(60) == 0
    host, _, port = re.findall(r"Kafka runs at (\S+)\.", printed)[0].partition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))), "the broker still runs"
    assert not [
        path for path in tmp_path.iterdir() if path.name.startswith("sparkstream-kafka")
    ]
