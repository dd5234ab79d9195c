"""`start` one streaming query; `run` any number of them to a clean end."""

from sparkstream_kit.queries.running import run
from sparkstream_kit.queries.starting import start
from sparkstream_kit.queries.summary import QuerySummary, RunSummary

__all__ = ["QuerySummary", "RunSummary", "run", "start"]
