"""The fast tests that take more than 1.5 s on an idle core, each with its reason: `make budget`."""

from __future__ import annotations

OVER: dict[str, str] = {}
