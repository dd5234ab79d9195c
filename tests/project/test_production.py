"""What docs/production.md tells an operator to put in place does what the page says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from decimal import Decimal

import pytest
from conftest import ROOT, environment, process
from faults.sales import Sales
from support.sql import sql
from systems.launching import shown

PAGE = (ROOT / "docs" / "production.md").read_text("utf-8")


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def block(kind):
    [found] = blocks(kind)
    return str(found)


@pytest.fixture
def place(tmp_path):
    """A folder like the page's /srv/sales, with the jobs and environment of this checkout."""
    for name, target in (("jobs", ROOT / "jobs"), (".venv", sys.prefix)):
        (tmp_path / name).symlink_to(target)
    return tmp_path


def test_systemd_understands_the_unit(place):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    unit = place / "sales-totals.service"
    user = process(["id", "-un"], check=True).stdout.strip()
    unit.write_text(
        block("ini")
        .replace("/srv/sales", str(place))
        .replace("User=stream", f"User={user}")
    )
    done = process(["systemd-analyze", "verify", "--man=no", unit])
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=gently"))
    # It does look
    assert (
        "kill mode" in process(["systemd-analyze", "verify", "--man=no", unit]).stderr
    )


@pytest.mark.slow
def test_the_line_for_cron_runs_one_job_at_a_time_and_goes_on_after_a_kill(
    place, until
):
    *times, shell, script = block("cron").split()
    assert times == ["*"] * 5
    assert shell == "/bin/sh"
    assert f"`{script}`" in PAGE
    # The flag is for jobs that end by themselves.
    line = (
        block("sh")
        .replace("/srv/sales", str(place))
        .replace("ckpt", "ckpt --max-files-per-trigger 1")
    )
    endless = line.replace(" --available-now", "")
    sales = Sales(place / "incoming")
    sales.land(2)

    def start(command):
        # As cron does: with a short PATH, without a terminal.
        env = environment(
            PATH="/usr/bin:/bin", JAVA_HOME=os.environ.get("JAVA_HOME", "")
        )
        return subprocess.Popen(
            ["/bin/sh", "-c", command], env=env, cwd="/", start_new_session=True
        )

    first = start(endless)
    try:
        until(lambda: shown(place / "totals.csv") == sales.totals(), 180)
        assert start(line).wait(30) == 1  # the lock is taken, and nothing else happens
        assert (place / "job.log").read_text() == ""
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    sales.land(1)
    until(
        lambda: start(line).wait(120) == 0, 180
    )  # the JVM of the killed one lives for a moment, and is refused
    assert shown(place / "totals.csv") == sales.totals()


@pytest.mark.slow
def test_a_backup_is_taken_and_brought_back_by_the_commands_of_the_page(place):
    back_up, restore = blocks("bash")
    sales = Sales(place / "incoming")
    env = environment(PATH=f"{place}/.venv/bin:{os.environ['PATH']}")

    def run(script):
        """Run a script; a service that is started reads what is there."""
        job = (
            "python jobs/sales_totals.py incoming --checkpoint ckpt --database"
            " sqlite:///totals.db"
        )
        service = f'systemctl() {{ [ "$1" = stop ] || {job} --available-now; }}'
        done = process(["bash", "-ec", f"{service}\n{script}"], env=env, cwd=place)
        assert done.returncode == 0, done.stderr

    def totals():
        statement = 'SELECT "ProductKey", "Orders", "TotalSales" FROM sales_totals'
        found = sql(f"sqlite:///{place}/totals.db", statement)
        return sorted(
            (key, orders, Decimal(str(total))) for key, orders, total in found
        )

    for script in ("systemctl start", back_up, "systemctl start", restore):
        sales.land(1)
        run(script)
        assert totals() == sales.totals()
