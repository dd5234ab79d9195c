"""A DStream of a socket, killed and started again: at most once, and never back."""

import itertools
import json

from faults.drivers import JOBS

from sparkstream_kit import feeds


def test_a_killed_dstream_of_a_socket_counts_a_line_at_most_once_and_never_goes_back(launch, tmp_path):
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
            address = (server.host, server.port, "--batch-interval", 1, "--slide", 1, "--window", 2)
            driver = launch("python", JOBS / "dstream_wordcount.py", *address, "--checkpoint", kept.parent)
            driver.until(lambda: look() >= before + 60)  # noqa: B023 - waited for here
            driver.kill("group")
            look()
    assert totals == sorted(totals)
    assert set(counts().values()) == {1}
    assert set(counts()) <= {f"word{number}" for number in range(next(numbers))}
