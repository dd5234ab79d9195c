"""Feeder and driver killed while a server fails: no post comes twice, or is lost unsaid.

The server cuts, stalls, repeats and limits.
"""

import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from conftest import ROOT, environment, process, running
from faults.drivers import Driver, ended, until
from support import posts_server
from support.batch_folders import rows_in
from support.posts_server import TOKEN, PostsServer, Site
from support.sql import sql
from systems.conftest import ROUNDS, SCRIPTS

SCRIPT = SCRIPTS / "posts_ids.py"
RATE = 200


@pytest.fixture
def site():
    """A site that misbehaves, with ids as Mastodon makes them unless a test says how."""
    return Site(rate=RATE, ids=posts_server.federated, hostile=True)


@pytest.fixture
def server(site):
    server = PostsServer(site)
    yield server
    server.close()


def numbers(spool):
    """Return the posts of a spool by their numbers, in the order in which they came."""
    lines = [
        line
        for file in sorted(spool.glob("posts-*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return [int(re.findall(r"post (\d+) ", line)[0]) for line in lines]


def read_in(site, folder):
    """Return the posts that a query has read by their numbers."""
    number = {str(site.ids(each)): each for each in range(site.published())}
    return [number[row["id"]] for row in rows_in(folder / "ids")]


def facts(spool):
    """Return what the feeders have counted."""
    with closing(
        sqlite3.connect(f"file:{spool}/_feed.db?mode=ro", uri=True)
    ) as database:
        return dict(
            json.loads(database.execute("SELECT facts FROM facts").fetchone()[0])
        )


def wait_for_posts(feed, spool, number, *, caught_up=False):
    """Wait until a spool has so many posts, and perhaps until nothing is to be fetched any more."""

    def there():
        assert feed.poll() is None, feed.communicate()
        return len(numbers(spool)) >= number and not (
            caught_up and facts(spool)["behind"]
        )

    until(there, lambda: f"{number} posts in {spool}")


def wait_for_batch(driver, folder, number, *, caught_up=False):
    """Wait until a driver has committed a batch and, if asked, nothing is left to fetch."""

    def there():
        committed = (folder / "ckpt" / "commits" / str(number)).exists()
        return committed and not (caught_up and facts(folder / "spool")["behind"])

    driver.until(there)


PIPES: dict[str, Any] = {
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
    "env": environment(POSTS_TOKEN=TOKEN),
}


@pytest.mark.parametrize("network", ["x", "mastodon"])
def test_a_feeder_that_is_killed_at_random_times(site, server, tmp_path, network):
    site.ids = posts_server.scattered if network == "x" else site.ids
    spool, pick = tmp_path / "spool", random.Random(14)  # noqa: S311 - times, not secrets
    words = [
        sys.executable,
        "-m",
        "sparkstream_kit",
        "feed",
        "posts",
        getattr(server, network),
        spool,
    ]
    said = ""
    for round_ in range(ROUNDS + 1):
        site.hostile, enough = round_ < ROUNDS, len(numbers(spool)) + 50
        with running(*words, "--every", 0.1, "--stall", 1, **PIPES) as feed:
            wait_for_posts(feed, spool, enough)
            if round_ < ROUNDS:
                # The moment of the kill, which no condition picks
                time.sleep(pick.uniform(0, 3))
                feed.kill()
            else:
                wait_for_posts(feed, spool, enough, caught_up=True)
                wait_for_posts(feed, spool, len(numbers(spool)) + RATE)
                feed.send_signal(signal.SIGTERM)
            said += "".join(feed.communicate())
            assert feed.returncode == (-signal.SIGKILL if round_ < ROUNDS else 0), said

    got, counted = numbers(spool), facts(spool)
    assert len(got) == len(set(got)) == counted["posts"]
    missing = set(range(got[0], max(got) + 1)) - set(got)
    assert counted["cuts"] >= ROUNDS
    if network == "mastodon":
        assert missing == set()
    else:
        assert (
            "what came meanwhile is missed, unless the server sends it again by itself"
            in said
        )
    assert TOKEN not in said
    assert not any(TOKEN.encode() in path.read_bytes() for path in spool.iterdir())


@pytest.mark.slow
def test_a_driver_that_is_killed_with_its_feeder(site, server, begin, tmp_path):
    launch = partial(begin, "python", SCRIPT, POSTS_TOKEN=TOKEN)
    pick, url = random.Random(15), server.mastodon  # noqa: S311 - times, not secrets
    (tmp_path / "spool").mkdir()
    for round_ in range(ROUNDS):
        site.hostile = round_ < ROUNDS - 1
        done = len(list((tmp_path / "ckpt" / "commits").glob("[0-9]*")))
        driver = launch(url, tmp_path)
        wait_for_batch(driver, tmp_path, done + 1, caught_up=not site.hostile)
        # The moment of the kill, which no condition picks
        time.sleep(pick.uniform(0, 2))
        driver.kill(pick.choice(["group", "python"]))
        assert TOKEN not in driver.output + driver.errors
    ended(launch(url, tmp_path, "--over-what-is-there"))

    read, spooled = read_in(site, tmp_path), numbers(tmp_path / "spool")
    assert sorted(read) == sorted(spooled)
    assert len(read) == len(set(read))
    late = 100  # numbers: what came last can rank before what a timeline brought sooner
    assert set(range(spooled[0], max(spooled) - late)) - set(spooled) == set()
    for file in (tmp_path / "ckpt").rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()


@pytest.mark.slow
def test_on_spark_connect_the_feeder_is_in_the_client(site, server, tmp_path, connect):
    site.hostile = False
    (tmp_path / "spool").mkdir()
    env = environment(SPARK_REMOTE=connect, POSTS_TOKEN=TOKEN, HOME=str(tmp_path))
    driver = Driver("python", SCRIPT, (server.mastodon, tmp_path), tmp_path, env)
    try:
        wait_for_batch(driver, tmp_path, 1)
        driver.signal(signal.SIGTERM, "python")
        ended(driver)
    finally:
        driver.remove()
    ended(
        Driver("python", SCRIPT, ("", tmp_path, "--over-what-is-there"), tmp_path, env)
    )
    read = read_in(site, tmp_path)
    assert sorted(read) == sorted(numbers(tmp_path / "spool"))
    assert len(read) > 100


@pytest.mark.slow
def test_the_trends_of_a_stream_are_those_of_its_posts(site, server, job, tmp_path):
    site.hostile = False
    spool, table = tmp_path / "spool", f"sqlite:///{tmp_path}/trends.db"
    window = (
        "--window",
        "2 seconds",
        "--slide",
        "2 seconds",
        "--watermark",
        "1 second",
    )
    given = (
        "--profile",
        "test",
        "--checkpoint",
        tmp_path / "ckpt",
        "--database",
        table,
        *window,
    )
    url = server.mastodon
    fed = ("--url", url, "--spool", spool, "--run-for", 8)
    done = job("python", "hashtag_trends", *fed, *given, POSTS_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert f"posts of {url}: " in done.stderr  # what the feeder has done
    assert TOKEN not in done.stdout + done.stderr
    done = job("python", "hashtag_trends", spool, *given, "--available-now", "--drain")
    assert done.returncode == 0, done.stderr
    [[counted]] = sql(table, "SELECT sum(posts) FROM hashtag_trends")
    # Each post has one tag, and is in one window
    assert counted == len(numbers(spool)) > 200


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(site, server, tmp_path, until):
    site.hostile = False
    page = (
        (ROOT / "docs" / "posts.md")
        .read_text("utf-8")
        .replace("https://mastodon.example", server.url)
    )
    program = tmp_path / "page.py"
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program.write_text("\n".join(blocks).replace("run_for=10", "run_for=4"))
    env = environment(POSTS_TOKEN=TOKEN)
    [command] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    with running(
        *command.split(), cwd=tmp_path, env=env, stderr=subprocess.PIPE
    ) as feed:
        until(
            lambda: (
                list((tmp_path / "spool").glob("posts-*")) or feed.poll() is not None
            )
        )
        feed.send_signal(signal.SIGTERM)
        assert feed.communicate()[1].startswith(
            f"sparkstream: feeding spool with the posts of {server.mastodon}"
        )
    before = len(numbers(tmp_path / "spool"))
    done = process([sys.executable, program], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    counted = int(done.stdout.splitlines()[-1])
    # The feeder went on meanwhile
    assert before < counted <= len(numbers(tmp_path / "spool"))
    assert len(rows_in(tmp_path / "tags")) > before
