"""Extra: what an operator does with a checkpoint: show, copy, set back, carry over to a changed query.

Users call `show`, `clone` and `rewind` as `sparkstream_kit.checkpoints.show` and so on, or by the command
`sparkstream checkpoint`; `start(…, continues=)` calls `evolve`. A running stream needs none of this.
"""

__all__: list[str] = []
