"""Extra: sources and sinks of other systems: each system has one module or folder.

The core opens a module here when its source or sink is first asked for, such as `sinks.sql_table`.
"""

__all__: list[str] = []
