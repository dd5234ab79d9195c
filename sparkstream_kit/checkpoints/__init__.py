"""Start and run: see what a checkpoint holds, check it, copy it, or set it back.

They work on local paths, without Spark. `show` reports what a checkpoint holds, `find`
says which batch has read a file or a record, `check` finds damaged and missing files,
`clone` copies a checkpoint, `rewind` makes an earlier batch the last committed one, and
`untrim` brings back what `start` has taken out of the logs of files. The command
`sparkstream checkpoint` calls these functions. They do not import pyspark.

Two more run a query on a copy, and need a session: `batch` returns the rows of one
batch, and `shadow` compares a changed query with what the earlier version has written.

The modules that `start` calls, such as `fingerprint` and `guard`, do import pyspark, so
import them by their full names.
"""

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import attributes

if TYPE_CHECKING:  # the names of this package
    from sparkstream_kit.checkpoints.operate.check import Problem as Problem
    from sparkstream_kit.checkpoints.operate.check import State as State
    from sparkstream_kit.checkpoints.operate.check import check as check
    from sparkstream_kit.checkpoints.operate.clone import clone as clone
    from sparkstream_kit.checkpoints.operate.comparison import Compared as Compared
    from sparkstream_kit.checkpoints.operate.find import Found as Found
    from sparkstream_kit.checkpoints.operate.find import find as find
    from sparkstream_kit.checkpoints.operate.replay import batch as batch
    from sparkstream_kit.checkpoints.operate.rewind import Rewind as Rewind
    from sparkstream_kit.checkpoints.operate.rewind import rewind as rewind
    from sparkstream_kit.checkpoints.operate.rewind import untrim as untrim
    from sparkstream_kit.checkpoints.operate.shadow import Shadow as Shadow
    from sparkstream_kit.checkpoints.operate.shadow import shadow as shadow
    from sparkstream_kit.checkpoints.operate.show import Checkpoint as Checkpoint
    from sparkstream_kit.checkpoints.operate.show import Source as Source
    from sparkstream_kit.checkpoints.operate.show import show as show

__getattr__ = attributes(__name__)
