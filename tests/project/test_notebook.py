"""The notebooks in a real kernel: cells run twice or are cut off, and nothing stays active."""

import ast
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import HANGS, ROOT
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("notebook")]

EXAMPLES = ROOT / "examples"

# The only line on standard error: Java's own launcher writes it before anything of
# Spark runs.
LAUNCHER = "WARNING: Using incubator modules: jdk.incubator.vector"

# What the notebook's events say without Spark, by hour and action.
TRUTH = "Counter((e['time'][11:13], e['action']) for events in hours for e in events)"

NOTHING: tuple[list[str], bool] = ([], False)  # as `Kernel.active` tells it


class Kernel(NotebookClient):
    """Runs cells in one kernel, and interrupts it when an expected text is printed or shown."""

    interrupt_at: str | None = None

    def process_message(self, msg, cell, cell_index):
        said = msg["content"].get("text", "") + msg["content"].get("data", {}).get(
            "text/plain", ""
        )
        if self.interrupt_at and self.interrupt_at in said:
            self.interrupt_at = None
            kernel: Any = self.km
            self.interrupt = asyncio.ensure_future(kernel.interrupt_kernel())
        return super().process_message(msg, cell, cell_index)

    def source(self, cell_id):
        return next(str(cell.source) for cell in self.nb.cells if cell.id == cell_id)

    def execute_code(self, source, *, interrupt_at=None):
        """Run code in a new cell, interrupted when it prints a text; an error is a failure.

        The cell stays in the notebook: nbclient looks for a picture where its cell was.
        """
        self.interrupt_at = interrupt_at
        self.nb.cells.append(nbformat.v4.new_code_cell(source))
        cell = self.execute_cell(self.nb.cells[-1], len(self.nb.cells) - 1)
        assert self.interrupt_at is None, f"{interrupt_at} was never printed"
        return cell

    def ask(self, expression):
        return ast.literal_eval(text(self.execute_code(f"print(repr({expression}))")))

    def active(self):
        """Return the names of the active queries, and whether a StreamingContext is active."""
        self.execute_code("from pyspark.streaming import StreamingContext")
        return self.ask(
            "([query.name for query in spark.streams.active],"
            " StreamingContext.getActive() is not None)"
        )


def text(cell, stream="stdout"):
    return "".join(
        output.text for output in cell.outputs if output.get("name") == stream
    )


def shown(cell):
    """Return the texts that a cell shows."""
    return [each.get("text") or each["data"]["text/plain"] for each in cell.outputs]


def data(cell):
    """Return the result that a cell shows, by MIME type."""
    return next(
        output.data for output in cell.outputs if output.output_type == "execute_result"
    )


def picture(cell):
    """Return what stands beneath a cell with a live picture, which is its only output."""
    [output] = cell.outputs
    assert output.output_type == "display_data"
    assert "<svg" in output.data["text/html"]
    assert "<script" not in output.data["text/html"]
    return str(output.data["text/plain"])


def read_notebook(name="first_stream"):
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel of the test's own Python, without the user's settings, in an empty folder."""
    home = tmp_path_factory.mktemp("jupyter")
    # Of sys.executable, whatever is installed elsewhere
    write_kernel_spec(home / "kernels" / "python3")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "JUPYTER_PATH",
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_RUNTIME_DIR",
            "IPYTHONDIR",
            "TMPDIR",
        ):
            patch.setenv(name, str(home))
        patch.setenv(
            "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        # Under this name ipykernel would not show what the JVM writes.
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        client = Kernel(
            read_notebook(),
            timeout=int(HANGS),
            resources={"metadata": {"path": str(home)}},
        )
        with client.setup_kernel():
            yield client


@pytest.fixture
def ready(kernel):
    """A kernel with the notebook's session, events and functions, in whatever order tests run."""
    for cell_id in ("session", "events", "count"):
        kernel.execute_code(kernel.source(cell_id))
    return kernel


def test_all_cells_run_twice_in_one_kernel_and_leave_nothing_active(kernel):
    own = kernel.nb.cells[: len(read_notebook().cells)]
    cells = [
        (index, cell) for index, cell in enumerate(own) if cell.cell_type == "code"
    ]
    for _ in range(2):
        ran = {cell.id: kernel.execute_cell(cell, index) for index, cell in cells}
        assert kernel.active() == NOTHING
        assert (
            text(ran["end"]) == "queries running: []\nStreamingContext running: None\n"
        )
        assert {
            line for cell in ran.values() for line in text(cell, "stderr").split("\n")
        } <= {LAUNCHER, ""}
        assert_results(kernel, ran)
        # `make notebook-outputs`, when a cell has changed
        for cell in read_notebook().cells:
            if cell.id in {"events", "count", "sql", "same", "dstream-same", "end"}:
                assert shown(cell) == shown(ran[cell.id])
    assert kernel.ask("__import__('sys').executable") == sys.executable


def assert_results(kernel, ran):
    kernel.execute_code("from collections import Counter")
    truth = kernel.ask(f"dict({TRUTH})")
    assert sum(truth.values()) == 600
    rows = (
        "((f'{row.start:%H}', row.action), row['count']) for row in"
        " spark.table('counts').collect()"
    )
    assert kernel.ask(f"dict({rows})") == truth
    actions = kernel.ask(
        "dict(Counter(event['action'] for events in hours for event in events))"
    )
    assert kernel.ask("latest") == actions

    drawn = picture(ran["stream"])
    assert "\ncounts: batch 5 in " in drawn
    assert [line.split()[4:] for line in drawn.splitlines()[2:20]] == [
        [action, str(truth[hour, action])] for hour, action in sorted(truth)
    ]
    assert dict(line.split() for line in picture(ran["sql"]).splitlines()[2:]) == {
        action: str(count) for action, count in actions.items()
    }
    assert (
        data(ran["same"])["text/plain"]
        == data(ran["dstream-same"])["text/plain"]
        == "True"
    )
    assert ran["chart"].outputs[0].data["image/png"]
    assert text(ran["dstream"]).endswith("ended by: run_for is over\n")


def test_an_interrupted_query_ends_and_its_cell_runs_again(ready):
    endless = ready.source("stream").replace(", idle=3", "")
    assert "idle" not in endless
    # At the begin, `run` may not have taken over the signals yet: then Python's own
    # interrupt ends the cell.
    ready.allow_errors = True
    ready.execute_code(endless, interrupt_at="starting Spark's first batch")
    ready.allow_errors = False
    assert ready.active() == NOTHING
    assert "counts: batch " in picture(
        ready.execute_code(endless, interrupt_at="counts: batch ")
    )
    assert ready.active() == NOTHING
    again = ready.execute_code(endless, interrupt_at="batch 5 in")
    assert "counts: batch 5 in " in picture(again)
    assert "ended" in again.outputs[0].data["text/html"], (
        "the last picture is of the end"
    )
    assert ready.active() == NOTHING


def test_an_interrupted_dstream_ends_and_its_cell_runs_again(ready):
    endless = ready.source("dstream").replace("ssc, run_for=5, graceful=True", "ssc")
    assert "run_for" not in endless
    for _ in range(2):
        cut = ready.execute_code(endless, interrupt_at="'open': ")
        assert text(cut).endswith("ended by: SIGINT\n")
        assert ready.active() == NOTHING


def test_event_time_is_seen_and_its_pictures_stay_in_their_cells(kernel):
    ran = {
        cell.id: kernel.execute_code(cell.source)
        for cell in read_notebook("event_time").cells
        if cell.cell_type == "code"
    }
    assert kernel.active() == NOTHING
    assert data(ran["same"])["text/plain"] == "True"
    assert text(ran["same"]) == "too late: 5\n"
    final, every = picture(ran["append"]), picture(ran["complete"])
    for html in (
        ran["append"].outputs[0].data["text/html"],
        ran["complete"].outputs[0].data["text/html"],
    ):
        assert "watermark (UTC)" in html
    assert ", late: 1, " in final
    assert ", late: 0, " in every
    assert [line.split()[-1] for line in final.splitlines()[2:7]] == [
        "95",
        "100",
        "100",
        "100",
        "100",
    ]
    assert [line.split()[-1] for line in every.splitlines()[2:8]] == ["100"] * 6
    # `make notebook-outputs`, when a cell has changed
    for cell in read_notebook("event_time").cells:
        if cell.id in {"events", "explain", "same", "difference", "end"}:
            assert shown(cell) == shown(ran[cell.id])


@pytest.mark.parametrize("name", ["first_stream", "event_time"])
def test_the_outputs_are_kept_for_those_who_only_read(name):
    notebook = read_notebook(name)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(
        range(1, len(cells) + 1)
    )  # `make notebook-outputs`
    assert [text(cell, "stderr") for cell in cells if text(cell, "stderr")] == []
