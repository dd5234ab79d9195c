"""A real Flume agent, set up as in the example: Spark reads each line once.

A kill loses none.
"""

import re
import subprocess
from collections import Counter

import pytest
from conftest import ROOT
from support.sink_streams import finish
from systems.conftest import jars
from systems.flume import Agent

from sparkstream_kit import sinks, sources, start

CONF = ROOT / "examples" / "flume" / "flume.conf"
PAGE = (ROOT / "docs" / "flume.md").read_text("utf-8")


@pytest.fixture
def agent(folder, tmp_path):
    made = Agent(tmp_path / "agent", jars("flume"), CONF, folder.as_uri())
    made.start()
    yield made
    made.daemon.kill()


def test_what_a_kill_leaves_is_brought_back_as_the_page_says(
    spark, agent, folder, tmp_path, until
):
    sent = [f"by TCP {number}" for number in range(2000)]
    agent.send(sent[:300])
    until(lambda: any(path.stat().st_size for path in folder.glob("_*.tmp")))
    agent.send(sent[300:])
    agent.daemon.kill()
    [left] = folder.glob("_*.tmp")
    # As a kill within a write leaves it: a line that the channel has still, cut off.
    with left.open("a") as file:
        file.write("by TC")
    [recipe] = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    subprocess.run(
        ["bash", "-euc", recipe.replace("/srv/incoming", str(folder))], check=True
    )
    assert not left.exists()

    agent.start()
    more = [f"{number} {'x' * 60}" for number in range(3000)]
    (agent.logs / "shop.log").write_text("".join(f"{line}\n" for line in more))
    sent += more

    def landed():
        return {
            line
            for path in folder.glob("[!_.]*.txt")
            for line in path.read_text().splitlines()
        }

    until(lambda: len(landed()) >= len(sent))
    found: Counter[str] = Counter()
    count = sinks.foreach_batch(
        lambda batch, _: found.update(row.value for row in batch.collect())
    )
    finish(
        sources.text(spark, folder).dropDuplicates(["value"]), count, tmp_path / "ckpt"
    )
    assert found == Counter(sent)


def seen_by(found):
    """Return a sink that counts the lines."""

    def count(batch, _):
        found.update(row.value for row in batch.collect())

    return sinks.foreach_batch(count)


def test_spark_reads_each_line_once_while_the_agent_writes(
    spark, agent, folder, tmp_path, until
):
    found: Counter[str] = Counter()
    query = start(
        sources.text(spark, folder),
        seen_by(found),
        name="lines",
        checkpoint=tmp_path / "ckpt",
    )
    with (agent.logs / "shop.log").open("a") as log:
        for number in range(20_000):
            log.write(f"{number} {'x' * 60}\n")
            if number % 10_000 == 9999:
                log.flush()
                until(
                    lambda sent=number + 1: len(found) >= sent or query.exception(), 60
                )
    query.stop()
    assert found == Counter(f"{number} {'x' * 60}" for number in range(20_000))
