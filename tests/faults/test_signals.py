"""SIGTERM and SIGINT in mid-batch: a clean stop, whoever gets the signal, however it was launched."""

from __future__ import annotations

from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest
from faults.drivers import SCRIPTS, no_stack_trace, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.drivers import Driver
    from faults.sales import Sales


@pytest.mark.parametrize(
    ("launcher", "number", "whom"),
    [
        ("python", "SIGTERM", "python"),
        ("python", "SIGTERM", "jvm"),
        ("python", "SIGTERM", "group"),
        ("python", "SIGINT", "python"),
        ("python", "SIGINT", "group"),
        ("spark-submit", "SIGTERM", "python"),
        ("spark-submit", "SIGTERM", "jvm"),
        ("spark-submit", "SIGTERM", "group"),
        ("spark-submit", "SIGINT", "python"),
        ("spark-submit", "SIGINT", "jvm"),
        ("spark-submit", "SIGINT", "group"),
    ],
)
def test_a_signal_in_mid_batch_lets_the_batch_commit(
    launcher: str,
    number: str,
    whom: str,
    launch: Callable[..., Driver],
    sales: Sales,
    tmp_path: Path,
    temporary: dict[str, str],
) -> None:
    out, commits = tmp_path / "out", tmp_path / "ckpt" / "commits"
    out.mkdir()
    sales.land(2)
    driver = launch(launcher, SCRIPTS / "slow_batches.py", sales.folder, tmp_path / "ckpt", out)
    until((out / "begun-1").exists, lambda: driver.errors)
    driver.signal(Signals[number], whom)
    assert not (out / "done-1").exists()

    assert driver.ended() == 0, driver.errors
    assert (out / "done-1").read_text() == "50"
    assert (commits / "1").exists()
    assert "last batch committed: 1" in driver.errors
    no_stack_trace(driver)
    assert not [path.name for path in Path(temporary["TMPDIR"]).iterdir()]


def test_a_jvm_that_python_has_started_is_deaf_to_sigint(
    launch: Callable[..., Driver], sales: Sales, tmp_path: Path
) -> None:
    # PySpark starts it so, for Ctrl-C in a notebook. Nothing is lost by it: the batches go on.
    out, commits = tmp_path / "out", tmp_path / "ckpt" / "commits"
    out.mkdir()
    sales.land(2)
    driver = launch("python", SCRIPTS / "slow_batches.py", sales.folder, tmp_path / "ckpt", out)
    until((out / "begun-0").exists, lambda: driver.errors)
    driver.signal(Signals.SIGINT, "jvm")
    until((commits / "1").exists, lambda: driver.errors)
    driver.signal(Signals.SIGTERM, "python")
    assert driver.ended() == 0, driver.errors
    no_stack_trace(driver)
