"""A database or a folder that is put back from an older backup: no row is missing in silence."""

import shutil

import pytest
from faults import targets
from faults.drivers import ended, one_line, take


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
        ended(launch("python", *target.command, "--available-now"))
        if folder is not None:
            shutil.copytree(kept, folder)
    shutil.rmtree(kept)
    backup.rename(kept)
    sales.land(1)

    line = one_line(
        launch("python", *target.command, "--available-now"), 2
    )  # which a service does not try again
    assert "batch 4 is next, " in line
    assert "--to 1" in line
    take(line)
    targets.finish(target, launch)
