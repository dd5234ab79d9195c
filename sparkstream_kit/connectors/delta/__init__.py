"""Delta: tables written exactly once, by Delta's writer for Spark or by delta-rs, and read as streams."""

__all__: list[str] = []
