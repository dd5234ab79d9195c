"""What `check` finds in a checkpoint, asked of checkpoints that are written by hand.

`test_checkpoints_problems` damages what Spark has written.
"""

from pathlib import Path

import pytest
from conftest import refusal
from support.checkpoint_files import (
    commit_text,
    entry,
    operator_text,
    plan,
    plan_text,
    put,
    put_all,
    state,
    whole_checkpoint,
)

from sparkstream_kit import checkpoints
from sparkstream_kit.checkpoints.logs import InputFile, Logs
from sparkstream_kit.checkpoints.operate.check import (
    Problem,
    State,
    _differs,
    _kinds_of_files,
    _lost_state,
    _missing,
    _usual_kind,
    checkpoint,
    damage,
    following,
    newest_whole,
    obstacle,
    pending,
    states,
    unreadable,
)
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import STATE_STORE

OF_HADOOP = (
    "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"
)
SCHEMA = '{"type":"struct","fields":[]}'  # how the schema of a state ends
WRONG_SUM = b"crc\0\0\0\2\0\0\0\0\0"  # of a file of up to 512 bytes
DEDUPE = operator_text("dedupe", "default")
ANEW = "restore it from a backup, or start anew on another checkpoint"


def with_state(root, done):
    """Write a checkpoint with a state of one partition in `state/0`; return its logs."""
    whole_checkpoint(root, done)
    put(root / "state/0/_metadata/metadata", DEDUPE)
    put(root / "state/0/0/_metadata/schema", SCHEMA)
    state(root, *range(1, done + 1))
    return Logs(root)


def change(file):
    """Leave a file as it is, but with a checksum that is not its own."""
    file.with_name(f".{file.name}.crc").write_bytes(WRONG_SUM)


def cut(file):
    file.write_text("v1")


def back(root, batch):
    return (
        "restore it from a backup, or go back: sparkstream checkpoint rewind"
        f" {root} --to {batch}"
    )


# --- the folder


@pytest.mark.parametrize("name", ["metadata", "offsets", "commits"])
def test_a_folder_with_one_part_of_a_checkpoint_is_one(tmp_path, name):
    (tmp_path / name).mkdir()
    assert checkpoint(tmp_path.as_uri()) == checkpoint(str(tmp_path)) == tmp_path


def test_what_is_no_folder_is_no_checkpoint(tmp_path):
    file = tmp_path / "metadata"
    file.touch()
    said = refusal(checkpoint, file)
    assert (
        said == f"no checkpoint {file}; give the folder that the query was started with"
    )


def test_the_checkpoints_in_a_folder_are_named_in_order(tmp_path):
    assert refusal(checkpoint, tmp_path).endswith(
        "(no metadata, offsets or commits in it)"
    )
    put_all(tmp_path, {"b/metadata": "", "a/metadata": "", "c/other": ""})
    said = refusal(checkpoint, tmp_path)
    assert said.endswith(f" in it); give {tmp_path}/a or {tmp_path}/b")


# --- checksums, by the well-known CRC-32 of 123456789 and that of an a

DIGITS = bytes.fromhex("cbf43926")
LETTER = bytes.fromhex("e8b7be43")
SUMS = {
    "right": (b"123456789", b"crc\0\0\0\0\x09" + DIGITS, False),
    "of a shorter file": (b"123456789", b"crc\0\0\0\2\0" + DIGITS, False),
    "of two parts": (b"123456789" * 2, b"crc\0\0\0\0\x09" + DIGITS * 2, False),
    "of a last part": (b"123456789a", b"crc\0\0\0\0\x09" + DIGITS + LETTER, False),
    "of an empty file": (b"", b"crc\0\0\0\2\0", False),
    "wrong": (b"123456780", b"crc\0\0\0\0\x09" + DIGITS, True),
    "a wrong last part": (b"123456789b", b"crc\0\0\0\0\x09" + DIGITS + LETTER, True),
    "a part too few": (b"123456789a", b"crc\0\0\0\0\x09" + DIGITS, True),
    "a part too many": (b"123456789", b"crc\0\0\0\0\x09" + DIGITS * 2, True),
    "of a file that was emptied": (b"", b"crc\0\0\0\0\x09" + DIGITS, True),
    "another beginning": (b"123456780", b"crd\0\0\0\0\x09" + DIGITS, False),
    "parts of no length": (b"123456789", b"crc\0\0\0\0\0" + DIGITS, False),
    "parts of one byte": (b"aa", b"crc\0\0\0\0\1" + LETTER * 2, False),
    "parts of one byte, changed": (b"ab", b"crc\0\0\0\0\1" + LETTER * 2, True),
    "one long part, changed": (b"123456780", b"crc\0\x01\0\0\0" + DIGITS, True),
    "cut off": (b"123456789", b"crc", False),
}


@pytest.mark.parametrize("case", SUMS)
def test_a_file_differs_from_its_checksum(tmp_path, case):
    data, sums, is_other = SUMS[case]
    (tmp_path / "5").write_bytes(data)
    (tmp_path / ".5.crc").write_bytes(sums)
    assert _differs(tmp_path / "5") is is_other


def test_a_file_without_a_checksum_or_a_checksum_alone_is_no_difference(tmp_path):
    (tmp_path / "5").write_bytes(b"1")
    (tmp_path / ".6.crc").write_bytes(WRONG_SUM)
    assert _differs(tmp_path / "5") is _differs(tmp_path / "6") is False


# --- check and damage


def test_a_whole_checkpoint_has_no_problem(tmp_path):
    logs = with_state(tmp_path, 3)
    assert (checkpoints.check(tmp_path), damage(logs)) == ([], None)


def test_each_problem_has_its_own_way_out_or_the_same(tmp_path):
    with_state(tmp_path, 3)
    gone = tmp_path / "in/3.csv"
    plan(tmp_path, 3, 3)
    entry(tmp_path, 3, gone)
    (tmp_path / "metadata").unlink()
    (tmp_path / "state/0/0/3.delta").unlink()
    cut(tmp_path / "commits/2")
    lost_id, *others, planned = checkpoints.check(str(tmp_path))
    assert lost_id.fix.startswith("restore it; or delete .metadata.crc and write ")
    assert others == [
        Problem(tmp_path / "commits/2", "is cut off or changed", back(tmp_path, 1)),
        Problem(tmp_path / "state/0/0/3.delta", "is missing", back(tmp_path, 1)),
    ]
    assert (planned.file, planned.what) == (gone, "is planned to be read and has gone")


def test_a_file_with_two_problems_is_named_once_with_the_first(tmp_path):
    with_state(tmp_path, 1)
    empty = put(tmp_path / "state/0/_metadata/v2/0")
    assert [problem.file for problem in checkpoints.check(tmp_path)] == [empty]


def test_damage_names_the_command_that_tells_the_rest(tmp_path):
    logs = with_state(tmp_path, 2)
    cut(tmp_path / "commits/1")
    assert damage(logs) == (
        f"checkpoint {tmp_path} is damaged: commits/1 is cut off or changed;"
        f" {back(tmp_path, 0)}; all that is wrong: sparkstream checkpoint check {tmp_path}"
    )


def test_damage_with_a_way_out_of_its_own_names_that_alone(tmp_path):
    logs = with_state(tmp_path, 2)
    (tmp_path / "commits/.7.crc").touch()
    assert damage(logs) == (
        f"checkpoint {tmp_path} is damaged: commits/7 is missing, but not its checksum;"
        " delete .7.crc too, and the batch runs again"
    )


def test_a_format_of_a_newer_spark_is_an_error_and_no_damage(tmp_path):
    logs = with_state(tmp_path, 2)
    (tmp_path / "offsets/1").write_text("v9\n{}\n{}")
    assert damage(logs) is None
    with pytest.raises(InvalidInputError, match="offsets/1 has format v9"):
        checkpoints.check(tmp_path)


def test_a_file_that_differs_from_its_checksum_is_a_problem_and_says_so(tmp_path):
    with_state(tmp_path, 2)
    change(tmp_path / "offsets/1")
    [problem] = checkpoints.check(tmp_path)
    assert str(problem) == (
        f"{tmp_path}/offsets/1 was changed after Spark wrote it (delete .1.crc, its"
        f" checksum, if that was meant); {back(tmp_path, 0)}"
    )


# --- an error of Spark's

CAUSES = {
    "a batch read in part": (
        "[STATE_STORE_COMMIT_VALIDATION_FAILED] State store commit failed",
        "its function of the batch did not read all of it",
    ),
    "a state that does not load": (
        "[CANNOT_LOAD_STATE_STORE.UNCATEGORIZED] error",
        "Spark cannot read it",
    ),
    "a state that cannot be read": (
        "[CANNOT_READ_STATE_FILE] error",
        "Spark cannot read it",
    ),
    "a file of it": (
        "ChecksumException: Checksum error: file:{}/state/0/0/2.delta at 0",
        "Spark cannot read it",
    ),
    "a file of another folder": ("java.io.EOFException: file:{}-2/state/0", None),
    "another error at a file of it": ("AccessControlException: file:{}/state/0", None),
    "another line": ("EOFException: x\nat {}/state", None),
    "a failure of the query": ("division by zero", None),
}


@pytest.mark.parametrize("case", CAUSES)
def test_an_error_that_spark_has_with_a_checkpoint_is_told_from_others(tmp_path, case):
    cause, what = CAUSES[case]
    said = unreadable(with_state(tmp_path, 3), cause.format(tmp_path))
    if what is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(f"checkpoint {tmp_path} is damaged: {what}")
        assert said.endswith(f"; {back(tmp_path, 1)}")


def test_after_the_first_batch_alone_there_is_nothing_to_go_back_to(tmp_path):
    said = unreadable(with_state(tmp_path, 1), "CANNOT_LOAD_STATE_STORE")
    assert said == f"checkpoint {tmp_path} is damaged: Spark cannot read it; {ANEW}"


# --- where one can go back to

STOPS: dict[str, tuple[int, dict[str, object], str | None]] = {
    "the last batch": (3, {}, None),
    "an earlier batch": (1, {}, None),
    "the first batch": (0, {}, None),
    "its commit is cut off": (2, {"commits/2": cut}, "commits/2"),
    "its commit was changed": (2, {"commits/2": change}, "commits/2"),
    "its plan is cut off": (2, {"offsets/2": cut}, "offsets/2"),
    "its plan was changed": (2, {"offsets/2": change}, "offsets/2"),
    "a log that it reads is cut off": (2, {"sources/0/1": cut}, "sources/0/1"),
    "a log that it reads was changed": (2, {"sources/0/2": change}, "sources/0/2"),
    "a log that it does not read": (2, {"sources/0/3": Path.unlink}, None),
    "the plan before it, with one after it": (2, {"offsets/1": cut}, None),
    "the plan before the last": (3, {"offsets/2": cut}, "offsets/2"),
    "the plan before that": (3, {"offsets/1": cut}, None),
    "the plans on both sides": (
        2,
        {"offsets/1": cut, "offsets/3": cut},
        "offsets/1",
    ),
    "its state": (2, {"state/0/0/3.delta": Path.unlink}, "state/0/0/3.delta"),
    "an earlier state": (2, {"state/0/0/1.delta": Path.unlink}, "state/0/0/1.delta"),
    "a later state": (2, {"state/0/0/4.delta": Path.unlink}, None),
    "its state begins anew": (
        2,
        {"state/0/0/3.delta": Path.unlink},
        "state/0/0/3.delta",
    ),
}


@pytest.mark.parametrize("case", STOPS)
def test_what_stops_spark_from_going_on_after_a_batch(tmp_path, case):
    batch, harms, name = STOPS[case]
    logs = with_state(tmp_path, 4)
    for file, harm in harms.items():
        assert callable(harm)
        harm(tmp_path / file)
    error = obstacle(logs, batch)
    if name is None:
        assert error is None
    else:
        assert str(error).startswith(f"{tmp_path / name} ")


def test_the_first_batch_alone_needs_no_plan_before_it(tmp_path):
    assert obstacle(with_state(tmp_path, 1), 0) is None


def test_the_newest_whole_batch_may_have_to_be_before_another(tmp_path):
    logs = with_state(tmp_path, 4)
    assert [newest_whole(logs, before) for before in (None, 4, 3, 1, 0)] == [
        3,
        3,
        2,
        0,
        None,
    ]
    (tmp_path / "state/0/0/2.delta").unlink()
    assert [newest_whole(logs, before) for before in (None, 1)] == [0, 0]


@pytest.mark.parametrize(
    ("harm", "number"),
    [(cut, None), (change, None), (Path.unlink, None), (Path.touch, 2)],
)
def test_the_plan_after_a_batch_counts_if_it_is_whole(tmp_path, harm, number):
    logs = Logs(whole_checkpoint(tmp_path, 3))
    harm(tmp_path / "offsets/2")
    found = following(logs, 1)
    assert found == (None if number is None else logs.plan(number))


def test_files_to_be_read_are_told_unless_a_log_was_changed(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 3))
    last = [InputFile(2, 0, "s3a://in/2.csv")]
    assert (pending(logs, 1), pending(logs, 2)) == (last, [])
    put_all(tmp_path, {"sources/7/0": "mine", "sources/7/.0.crc": WRONG_SUM})
    assert pending(logs, 1) == last  # that log is no source's
    change(tmp_path / "sources/0/0")
    assert pending(logs, 1) == []


# --- states


def test_a_state_says_its_operator_its_stores_and_its_partitions():
    one = State(Path("0"), "dedupe", ("default",), "RocksDB", 1)
    two = State(Path("1"), "join", ("left", "right"), "HDFSBacked", 20)
    assert str(one) == "dedupe, 1 partition, RocksDB"
    assert str(two) == "join, 2 stores, 20 partitions, HDFSBacked"


PROVIDERS = {
    "none planned": (None, "unknown"),
    "none in the plan": (plan_text(0), "unknown"),
    "Hadoop's": (plan_text(0, conf={STATE_STORE: OF_HADOOP}), "HDFSBacked"),
    "another": (plan_text(0, conf={STATE_STORE: "com.shop.Own"}), "Own"),
}


@pytest.mark.parametrize("case", PROVIDERS)
def test_the_provider_of_a_state_is_that_of_the_last_plan(tmp_path, case):
    text, provider = PROVIDERS[case]
    put(tmp_path / "state/0/_metadata/metadata", DEDUPE)
    if text is not None:
        put(tmp_path / "offsets/0", text)
    folder = tmp_path / "state/0"
    assert states(Logs(tmp_path)) == [
        State(folder, "dedupe", ("default",), provider, 1)
    ]


OPERATORS = {
    "its metadata": (
        {"_metadata/metadata": operator_text("join", "b", "a"), "2/c/1.delta": ""},
        ("join", ("b", "a"), 3),
    ),
    "the newest of its metadata": (
        {
            "_metadata/metadata": operator_text("old", "x"),
            "_metadata/v2/9": operator_text("older", "x"),
            "_metadata/v2/10": operator_text("tws", "a").replace("v1", "v2"),
        },
        ("tws", ("a",), 1),
    ),
    "no metadata": ({"0/1.delta": "", "1/1.delta": ""}, ("unknown", ("default",), 2)),
    "no metadata and two stores": (
        {
            "0/right/1.zip": "",
            "0/left/1.zip": "",
            "0/_metadata/schema": "",
            "0/SSTs/1.sst": "",
            "0/1.delta": "",
        },
        ("unknown", ("left", "right"), 1),
    ),
    "no JSON": ({"_metadata/metadata": "v1\n{"}, ("unknown", ("default",), 1)),
    "another JSON": ({"_metadata/metadata": "v1\n{}"}, ("unknown", ("default",), 1)),
    "no text": ({"_metadata/metadata": b"v1\n\xff"}, ("unknown", ("default",), 1)),
}


@pytest.mark.parametrize("case", OPERATORS)
def test_an_operator_is_known_by_its_metadata_else_by_its_folders(tmp_path, case):
    files, expected = OPERATORS[case]
    put_all(tmp_path / "state/0", files)
    [found] = states(Logs(tmp_path))
    assert (found.operator, found.stores, found.partitions) == expected


def test_operators_are_in_order(tmp_path):
    for number in (10, 2):
        put(tmp_path / f"state/{number}/0/1.delta")
    assert [each.folder.name for each in states(Logs(tmp_path))] == ["2", "10"]


# --- files of a state

ID, OTHER = "0" * 36, "1" * 36
CHAINS = {
    "no version, no file": (0, [], (), None),
    "each version": (3, ["1.delta", "2.delta", "3.delta"], (), None),
    "the last one": (3, ["1.delta", "2.delta"], (), "3.delta"),
    "one between": (3, ["1.delta", "3.delta"], (), "2.delta"),
    "the first one": (3, ["2.delta", "3.delta"], (), "1.delta"),
    "a later one is not needed": (2, ["1.delta", "2.delta"], (), None),
    "a whole version": (3, ["2.snapshot", "2.delta", "3.delta"], (), None),
    "a whole version in a zip": (3, ["2.zip", "3.changelog"], (), None),
    "only a whole version": (3, ["3.zip"], (), None),
    "a whole version that is too late": (2, ["3.snapshot"], (), "2.snapshot"),
    "a hole before a whole version": (3, ["1.delta", "3.snapshot"], (), None),
    "only its checksum": (1, ["1.delta.crc"], (), "1.delta"),
    "other names": (1, ["1.delta.tmp", "x1.delta", "1.txt"], (), "1.delta"),
    "by its id": (1, [f"1_{ID}.zip"], (ID,), None),
    "another id": (1, [f"1_{OTHER}.zip"], (ID,), "1_*.delta"),
    "without an id": (1, ["1.zip"], (ID,), "1_*.delta"),
    "any id of an earlier one": (
        2,
        [f"1_{OTHER}.changelog", f"2_{ID}.changelog"],
        (ID,),
        None,
    ),
    "an earlier one that is missing": (
        2,
        [f"2_{ID}.changelog"],
        (ID,),
        "1_*.changelog",
    ),
    "any id where none is known": (1, [f"1_{OTHER}.zip"], (), None),
}


@pytest.mark.parametrize("case", CHAINS)
def test_the_missing_file_of_a_version_is_named(tmp_path, case):
    version, names, ids, expected = CHAINS[case]
    put_all(tmp_path / "0", dict.fromkeys(names, ""))
    error = _missing(tmp_path / "0", version, ids)
    if expected is None:
        assert error is None
    else:
        assert error is not None
        assert (error.file, error.what) == (tmp_path / "0" / expected, "is missing")


def test_the_kinds_of_files_are_told_for_each_version(tmp_path):
    names = [
        *("1.delta", "1.snapshot", "1.snapshot.crc", "2.changelog", "notes.txt"),
        *(f"3_{ID}.zip", f"3_{OTHER}.changelog", f"2_{OTHER}.zip"),
    ]
    put_all(tmp_path, dict.fromkeys(names, ""))
    assert _kinds_of_files(tmp_path, 3, (ID,)) == {
        1: {"delta", "snapshot"},
        2: {"changelog", "zip"},
        3: {"zip"},
    }
    assert _kinds_of_files(tmp_path, 4, (ID,))[3] == {"zip", "changelog"}
    assert _kinds_of_files(tmp_path / "none", 3, ()) == {}


@pytest.mark.parametrize(
    ("kinds", "usual"),
    [
        ({}, "delta"),
        ({1: {"snapshot"}, 2: {"delta"}}, "delta"),
        ({1: {"zip", "changelog"}}, "changelog"),
        ({1: {"zip"}, 2: {"snapshot"}}, "zip"),
        ({1: {"snapshot"}}, "snapshot"),
    ],
)
def test_the_usual_kind_is_that_of_most_versions(kinds, usual):
    assert _usual_kind(kinds) == usual


def lost(root, version=1):
    """Return the files, below a folder, that a version of the state lacks or has damaged."""
    errors = _lost_state(Logs(root), version)
    return [str(error.file.relative_to(root)) for error in errors]


def test_each_partition_of_each_store_has_its_files(tmp_path):
    names = [
        f"state/{folder}/1.delta"
        for folder in ("0/0", "0/1", "1/0/left", "1/0/right", "1/1/left", "1/1/right")
    ]
    put_all(tmp_path, dict.fromkeys(names, "rows"))
    put_all(
        tmp_path / "state",
        {
            "0/_metadata/metadata": DEDUPE,
            "1/_metadata/metadata": operator_text("join", "left", "right"),
        },
    )
    assert lost(tmp_path) == []
    for name in names:
        (tmp_path / name).unlink()
    assert lost(tmp_path) == names
    assert lost(tmp_path, 0) == []  # before the first batch there is no state


IDS = {
    "those of each partition": (commit_text(ids={"0": [[ID], [ID]]}), []),
    "another of one": (
        commit_text(ids={"0": [[ID], [OTHER]]}),
        ["state/0/1/2_*.delta"],
    ),
    "one of two": (commit_text(ids={"0": [[OTHER, ID], [ID]]}), []),
    "none of one": (commit_text(ids={"0": [[ID]]}), []),
    "those of another operator": (commit_text(ids={"1": [[OTHER], [OTHER]]}), []),
    "null": ('v2\n{"stateUniqueIds":null}', []),
    "no commit": ("v2", []),
}


@pytest.mark.parametrize("case", IDS)
def test_files_are_looked_for_by_the_ids_in_the_commit(tmp_path, case):
    text, names = IDS[case]
    files = {f"state/0/{part}/2_{ID}.snapshot": "rows" for part in (0, 1)}
    files |= {"commits/1": text, "commits/0": "v1", "commits/2": "v1"}
    put_all(tmp_path, files | {"state/0/_metadata/metadata": DEDUPE})
    assert lost(tmp_path, 2) == names


CUT_OFF: dict[str, tuple[str, str | None, bool]] = {
    "a schema": ("0/_metadata/schema", SCHEMA, False),
    "an empty schema": ("0/_metadata/schema", "", True),
    "a schema that is cut off": ("0/_metadata/schema", SCHEMA[:-1], True),
    "an empty schema of a store": ("0/left/_metadata/schema", "", True),
    "a folder in place of a schema": ("0/_metadata/schema", None, True),
    "a schema of transformWithState": ("_stateSchema/default/0_1", "v3", False),
    "an empty one of transformWithState": ("_stateSchema/default/0_1", "", True),
    "another file": ("_stateSchema/default/x", "", False),
    "a file deeper down": ("0/a/b/_metadata/schema", "", False),
}


@pytest.mark.parametrize("case", CUT_OFF)
def test_a_schema_of_a_state_that_is_empty_or_cut_off_is_named(tmp_path, case):
    name, text, is_damaged = CUT_OFF[case]
    files = {"_metadata/metadata": DEDUPE, "0/1.delta": "rows"}
    put_all(tmp_path / "state/0", files)
    if text is None:
        (tmp_path / "state/0" / name).mkdir(parents=True)
    else:
        put(tmp_path / "state/0" / name, text)
    assert lost(tmp_path) == [f"state/0/{name}"] * is_damaged


def test_metadata_that_names_a_missing_schema_is_repaired_by_a_copy(tmp_path):
    state(tmp_path, 1)
    there = put(tmp_path / "state/0/_stateSchema/default/é_1", "v3")
    gone = f"{tmp_path}/moved/_stateSchema/default/0_1"
    paths = {3: gone, 12: str(there)}
    for number, path in paths.items():
        text = operator_text("tws", "default").replace(
            "}]}", f'}}],"a":"file:{path}"}}'
        )
        put(tmp_path / f"state/0/_metadata/v2/{number}", text)
    assert lost(tmp_path) == []  # the newest counts
    there.unlink()
    [error] = _lost_state(Logs(tmp_path), 1)
    assert (error.file, error.what) == (
        tmp_path / "state/0/_metadata/v2/12",
        f"names {there}, which does not exist",
    )
    assert error.fix == (
        "a folder that was moved or copied by hand becomes whole by a copy: sparkstream"
        f" checkpoint clone {tmp_path} COPY"
    )


def test_metadata_of_transformwithstate_that_is_missing_or_cut_off_is_named(tmp_path):
    state(tmp_path, 1)
    (tmp_path / "state/0/_metadata/v2").mkdir(parents=True)
    assert lost(tmp_path) == ["state/0/_metadata/v2/0"]
    put(tmp_path / "state/0/_metadata/v2/0", "v2", "{")
    assert lost(tmp_path) == ["state/0/_metadata/v2/0"]
