"""Posts over HTTP: a feeder that keeps them in a folder, the spool, and a source that reads the spool."""

__all__: list[str] = []
