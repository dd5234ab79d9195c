"""DStreams, killed and started again: counts of a folder are exact.

A line of a socket counts at most once, and its counts never go back.
"""

import itertools
import json
from collections import Counter

import pytest
from faults.drivers import JOBS, SCRIPTS, until

from sparkstream_kit import feeds


@pytest.mark.slow
def test_a_killed_dstream_of_a_socket_counts_a_line_at_most_once_and_never_goes_back(
    launch, tmp_path
):
    kept, numbers = tmp_path / "ckpt" / "counts.json", itertools.count()
    words = map("word{}".format, numbers)  # each once, to whichever client is there
    totals = [0]

    def counts():
        return json.loads(kept.read_text()) if kept.exists() else {}

    def look():
        totals.append(len(counts()))
        return totals[-1]

    with feeds.LineServer(lambda: words, rate=50) as server:
        for _ in range(2):
            before = look()
            address = (
                server.host,
                server.port,
                "--batch-interval",
                1,
                "--slide",
                1,
                "--window",
                2,
            )
            driver = launch(
                "python",
                JOBS / "dstream_wordcount.py",
                *address,
                "--checkpoint",
                kept.parent,
            )
            driver.until(lambda: look() >= before + 60)  # noqa: B023 - waited for here
            driver.kill("group")
            look()
    assert totals == sorted(totals)
    assert set(counts().values()) == {1}
    assert set(counts()) <= {f"word{number}" for number in range(next(numbers))}


@pytest.mark.slow
def test_a_killed_dstream_of_a_folder_is_exact_again(launch, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    truth: Counter[str] = Counter()

    def land(number):
        lines = list(feeds.random_lines(number, count=40))
        truth.update(word for line in lines for word in line.split())
        feeds.drip([(f"{number}.txt", "\n".join(lines) + "\n")], folder)

    def shown(driver):
        lines = [line for line in driver.output.splitlines() if line.endswith("}")]
        found: dict[str, int] = json.loads(lines[-1]) if lines else {}
        return found

    for number in range(0, 6, 3):
        driver = launch(
            "python", SCRIPTS / "folder_counts.py", folder, tmp_path / "ckpt"
        )
        driver.until(lambda driver=driver: driver.output)
        land(number)
        until(
            lambda driver=driver: shown(driver) == truth,
            lambda driver=driver: str(shown(driver)),
        )
        land(number + 1)  # on its way
        driver.kill("group")
        land(number + 2)  # while nobody watches
    driver = launch("python", SCRIPTS / "folder_counts.py", folder, tmp_path / "ckpt")
    until(
        lambda: shown(driver) == truth,
        lambda: f"{shown(driver)} is not {truth}: {driver.errors}",
    )
