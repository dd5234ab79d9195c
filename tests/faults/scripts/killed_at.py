"""Run a sink of tests/support/broken_sinks.py, killed before a call: FOLDER NAME WAY CALL."""

import os
import signal
import sys
from pathlib import Path

from faults.test_every_crash import proof_of

from sparkstream_kit import spark_session
from sparkstream_kit.testing.crashes import Watch


class Killed(Watch):
    """Dies of the signal that nothing can catch, with the JVM, in place of keeping what it would leave."""

    def call(self, what, *, can_fail=True):
        self.calls += 1
        if self.calls == int(sys.argv[4]):
            os.killpg(0, signal.SIGKILL)


with spark_session("killed", profile="test", conf={"spark.master": "local[2]"}) as spark:
    proof = proof_of(spark, Path(sys.argv[1]), sys.argv[2])
    schedule = proof.begun(sys.argv[3])
    proof.arrive(schedule)
    proof.run(schedule.source, Killed(proof.folder, set(), -1))
