"""Two queries in one checkpoint are refused in words.

They are two drivers at once, or have a changed group key.
"""

import re

import pytest
from faults import targets
from faults.drivers import ended, one_line


@pytest.mark.slow
def test_of_two_drivers_on_one_checkpoint_the_second_is_refused(tmp_path, launch):
    sales, target = targets.database(tmp_path, f"sqlite:///{tmp_path}/totals.db")
    sales.land(1)
    first = launch("python", *target.command)
    first.until(lambda: target.committed(0))

    second = one_line(launch("python", *target.command), 75)
    in_use = (
        f"checkpoint {target.checkpoint} is in use by query sales_totals of process"
        f" {first.pid} ("
    )
    assert re.search(rf"{re.escape(in_use)}JVM \d+\) on \S+ since 20\d\d-", second)

    sales.land(1)
    first.until(lambda: target.committed(1))  # the first goes on
    # A supervisor starts the next one as soon as Python is gone; the JVM that can still
    # write is not.
    first.freeze()
    assert f"(JVM {first.leave_jvm_alone()})" in one_line(
        launch("python", *target.command), 75
    )
    first.thaw()
    first.gone()
    sales.land(1)
    targets.finish(target, launch)


def test_a_changed_group_key_is_refused_in_words_until_it_is_accepted(tmp_path, launch):
    sales, target = targets.database(
        tmp_path, f"sqlite:///{tmp_path}/totals.db", "upsert"
    )
    sales.land(1)
    targets.finish(target, launch)
    before = target.sinks[0].totals()
    sales.land(1)

    changed = (*target.command, "--available-now", "--key", "State")
    assert one_line(launch("python", *changed), 2).endswith(
        f"checkpoint {target.checkpoint} was written by a different query: sales_to"
        " groups by State; the checkpoint's query groups by ProductKey. Give it a"
        f" checkpoint of its own, and continues='{target.checkpoint}' to resume from"
        " this one (of a job: --continues with its former --checkpoint, or"
        " OUT_DIR/_checkpoint); or, to keep its state, allow_changed_query=True"
    )
    assert target.sinks[0].totals() == before

    # And then it is the checkpoint of that query
    for flags in (["--allow-changed-query"], []):
        ended(launch("python", *changed, *flags))
    after = target.sinks[0].totals()
    assert set(after) > set(before)
    assert sum(orders for _, orders, _ in after) == 100
