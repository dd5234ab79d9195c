"""An extra: each system has one module or folder, with its source and its sink.

The core opens a module here when its source or sink is first asked for, such as `sinks.sql_table`.
"""

__all__: list[str] = []
