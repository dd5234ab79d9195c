"""Start and run: checkpoints you can see into: `show`, `check`, `clone` and `rewind`.

They work on local paths, without Spark. `show` reports what a checkpoint holds, `check` finds damaged and
missing files, `clone` copies a checkpoint, and `rewind` makes an earlier batch the last committed one.

The command `sparkstream checkpoint` calls these four functions. They do not import pyspark. The modules
that `start` calls, such as `fingerprint` and `guard`, do import pyspark, so import them by their full names.
"""

from typing import TYPE_CHECKING

from sparkstream_kit._arguments import attributes

if TYPE_CHECKING:
    from sparkstream_kit.operate.check import Problem, State, check
    from sparkstream_kit.operate.clone import clone
    from sparkstream_kit.operate.rewind import Rewind, rewind
    from sparkstream_kit.operate.show import Checkpoint, Source, show

__all__ = ["Checkpoint", "Problem", "Rewind", "Source", "State", "check", "clone", "rewind", "show"]

__getattr__ = attributes(
    __name__,
    {
        "sparkstream_kit.operate.check": ["Problem", "State", "check"],
        "sparkstream_kit.operate.clone": ["clone"],
        "sparkstream_kit.operate.rewind": ["Rewind", "rewind"],
        "sparkstream_kit.operate.show": ["Checkpoint", "Source", "show"],
    },
)
