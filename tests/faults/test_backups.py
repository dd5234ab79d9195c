"""A database or a folder that is put back from an older backup: no row is missing in silence."""

import re
import shlex
import shutil
import subprocess

import pytest
from conftest import environment
from faults import targets
from faults.drivers import one_line


@pytest.mark.fast("upsert")
@pytest.mark.parametrize("kind", ["append", "upsert", "directories"])
def test_a_sink_put_back_from_an_older_backup(kind, tmp_path, launch):
    kept, backup = tmp_path / "kept", tmp_path / "backup"
    kept.mkdir()
    if kind == "directories":
        sales, target = targets.clean_files(tmp_path, out=kept)
    else:
        sales, target = targets.database(tmp_path, f"sqlite:///{kept}/totals.db", kind)
    for folder in (backup, None):
        sales.land(2)
        driver = launch("python", *target.command, "--available-now")
        assert driver.ended() == 0, driver.errors
        if folder is not None:
            shutil.copytree(kept, folder)
    shutil.rmtree(kept)
    backup.rename(kept)
    sales.land(1)

    driver = launch("python", *target.command, "--available-now")
    assert driver.ended() == 2, driver.errors  # which a service does not try again
    way = r"batch 4 is next, .* run (sparkstream checkpoint rewind \S+ --to 1)"
    advice = re.search(way, one_line(driver))
    assert advice, driver.errors
    command = [*shlex.split(advice[1]), "--apply"]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    targets.finish(target, launch)
