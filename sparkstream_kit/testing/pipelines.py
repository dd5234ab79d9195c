"""Functions of Spark's own pipelines (`pyspark.pipelines`), called in a test.

`flow` reads the file of a pipeline and calls one of its functions. A table of the
pipeline that the function reads is a temporary view of a test's stream.
"""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import InvalidInputError, hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pyspark.sql import DataFrame


def flow(
    path: Path,
    name: str,
    given: Mapping[str, DataFrame],
    tables: dict[str, DataFrame],
) -> DataFrame:
    """Call a function of a pipeline; see `Streams.flow`.

    Args:
        path: the file of the pipeline.
        name: the name of a table or a flow.
        given: what the function finds, by name.
        tables: the tables that the test has so far; gets those of `given`.
    """
    flows: dict[str, Callable[[], DataFrame]] = {}
    module = _module(path, flows)
    if name not in flows:
        near = hint(name, flows)
        raise InvalidInputError(
            f"pipeline {path} has no table or flow {name}{near}; give one of:"
            f" {', '.join(flows)}"
        )
    _give(module, given, tables)
    return flows[name]()


def forget(tables: Mapping[str, DataFrame]) -> None:
    """Remove the tables of a test."""
    for name, frame in tables.items():
        frame.sparkSession.catalog.dropTempView(name)


def _module(path: Path, flows: dict[str, Callable[[], DataFrame]]) -> Any:
    """Run the file of a pipeline as a module of its own, and collect its functions.

    Args:
        path: the file.
        flows: gets the function of each flow by the name of the flow, which is that of
            its table unless the flow has one of its own.

    Raises:
        InvalidInputError: there is no such file.
    """
    from pyspark.pipelines.graph_element_registry import (
        GraphElementRegistry,
        graph_element_registration_context,
    )

    class Flows(GraphElementRegistry):
        """Keeps the functions of flows, and ignores what else a pipeline has."""

        def register_output(self, output: Any) -> None:
            pass

        def register_flow(self, flow: Any) -> None:
            flows[flow.name] = flow.func

        def register_auto_cdc_flow(self, flow: Any) -> None:
            pass

        def register_sql(self, sql_text: str, file_path: Path) -> None:
            pass

    if not path.is_file():
        raise InvalidInputError(
            f"pipeline {path} is no file; give the file with its functions, such as"
            " transformations/sales.py"
        )
    module = ModuleType(f"pipeline_{path.stem}")
    module.__file__ = str(path)
    loader = SourceFileLoader(module.__name__, str(path))
    with graph_element_registration_context(Flows()):
        loader.exec_module(module)
    return module


def _give(
    module: Any, given: Mapping[str, DataFrame], tables: dict[str, DataFrame]
) -> None:
    """Let the functions of a module find what a test gives, each by its name.

    A function that is not one of a table is replaced in this module by one that returns
    what is given. Any other name is that of a table, for which a temporary view stands.
    On Spark Connect a query looks the view up at each start, so it stays until the end
    of the test.

    Raises:
        InvalidInputError: the test has given another stream for a table before.
    """
    for name, frame in given.items():
        # In place of the function of a table, its decorator leaves None
        if callable(getattr(module, name, None)):
            setattr(module, name, _returning(frame))
        elif tables.setdefault(name, frame) is frame:
            frame.createOrReplaceTempView(name)
        else:
            raise InvalidInputError(
                f"flow(): table {name} is another stream than before in this test; give"
                " the same one, or write a test for each"
            )


def _returning(frame: DataFrame) -> Callable[..., DataFrame]:
    return lambda *_, **__: frame
