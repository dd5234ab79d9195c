"""Checkpoints you can see into: `show`, `check`, `clone` and `rewind`.

They work on local paths, without Spark.

The command `sparkstream checkpoint` is a face on these four. They import no pyspark: `locks`, `fingerprints`
and `guards`, which `start` calls, are modules to import by themselves.
"""

from sparkstream_kit.checkpoints.contents import Checkpoint, Source, State, show
from sparkstream_kit.checkpoints.copies import clone
from sparkstream_kit.checkpoints.problems import Problem, check
from sparkstream_kit.checkpoints.rewinds import Rewind, rewind

__all__ = ["Checkpoint", "Problem", "Rewind", "Source", "State", "check", "clone", "rewind", "show"]
