"""Two queries in one checkpoint are refused in words: two drivers at once, and a changed group key."""

import re

import pytest
from faults import targets
from faults.drivers import one_line, until


@pytest.mark.slow
def test_of_two_drivers_on_one_checkpoint_the_second_is_refused(tmp_path, launch):
    sales, target = targets.database(tmp_path, f"sqlite:///{tmp_path}/totals.db")
    sales.land(1)
    first = launch("python", *target.command)
    until(lambda: target.committed(0), lambda: first.errors)

    second = launch("python", *target.command)
    assert second.ended() == 75, second.errors
    in_use = f"checkpoint {target.checkpoint} is in use by query sales_totals of process {first.pid} ("
    assert re.search(rf"{re.escape(in_use)}JVM \d+\) on \S+ since 20\d\d-", one_line(second))

    sales.land(1)
    until(lambda: target.committed(1), lambda: first.errors)  # the first goes on
    # A supervisor starts the next one as soon as Python is gone; the JVM that can still write is not.
    first.freeze()
    jvm = first.leave_jvm_alone()
    third = launch("python", *target.command)
    assert third.ended() == 75, third.errors
    assert f"(JVM {jvm})" in one_line(third)
    first.thaw()
    first.gone()
    sales.land(1)
    targets.finish(target, launch)


def test_a_changed_group_key_is_refused_in_words_until_it_is_accepted(tmp_path, launch):
    sales, target = targets.database(tmp_path, f"sqlite:///{tmp_path}/totals.db", "upsert")
    sales.land(1)
    targets.finish(target, launch)
    before = target.sinks[0].totals()
    sales.land(1)

    changed = (*target.command, "--available-now", "--key", "State")
    refused = launch("python", *changed)
    assert refused.ended() == 2, refused.errors
    assert "sales_to groups by State; the checkpoint's query groups by ProductKey" in one_line(refused)
    assert "allow_changed_query=True" in one_line(refused)
    assert target.sinks[0].totals() == before

    accepted = launch("python", *changed, "--allow-changed-query")
    assert accepted.ended() == 0, accepted.errors
    after = target.sinks[0].totals()
    assert set(after) > set(before)
    assert sum(orders for _, orders, _ in after) == 100
