"""Checkpoints you can see into: `show`, `check`, `clone` and `rewind`.

They work on local paths, without Spark.

The command `sparkstream checkpoint` calls these four. They import no pyspark: `fingerprint` and
`guard`, which `start` calls, are modules to import by themselves.
"""

from sparkstream_kit.checkpoints.check import Problem, State, check
from sparkstream_kit.checkpoints.clone import clone
from sparkstream_kit.checkpoints.rewind import Rewind, rewind
from sparkstream_kit.checkpoints.show import Checkpoint, Source, show

__all__ = ["Checkpoint", "Problem", "Rewind", "Source", "State", "check", "clone", "rewind", "show"]
