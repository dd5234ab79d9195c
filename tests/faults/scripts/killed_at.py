"""Run a sink of tests/support/broken_sinks.py, killed at a crash's call or line.

Run: python killed_at.py FOLDER NAME WAY LABEL
"""

import os
import signal
import sys
from pathlib import Path

from faults.test_every_crash import proof_of

from sparkstream_kit import spark_session
from sparkstream_kit.testing import exactly_once
from sparkstream_kit.testing.exactly_once import Watch

exactly_once._OTHERS += (__file__,)  # noqa: SLF001 - the lines below are none of the sink's


class Killed(Watch):
    """Dies of the signal that nothing can catch, with the JVM; nothing more is kept."""

    def _keep(self, label, words):
        if label == sys.argv[4]:
            os.killpg(0, signal.SIGKILL)


def main():
    with spark_session(
        "killed", profile="test", conf={"spark.master": "local[2]"}
    ) as spark:
        proof = proof_of(spark, Path(sys.argv[1]), sys.argv[2])
        schedule = proof.start_schedule(sys.argv[3])
        proof.arrive(schedule)
        proof.run(schedule.source, Killed(proof.folder, set()))


if __name__ == "__main__":
    main()
