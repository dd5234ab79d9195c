"""Which files of a folder Spark reads: each function by itself, without a query."""

import os
import shutil
import uuid
from itertools import product
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import AnalysisException, PySparkException

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sources.listing import (
    _find_by_spark,
    _find_paths,
    _fit_in_one_batch,
    _matches,
    _matching_files,
    _may_be_special,
    _mistaken_end,
    _names_to_misread,
    _of_folder,
    _refuse_mistaken,
    _refuse_what_spark_wrote,
    _spoils_a_pattern,
    _stats,
    _without_mistaken,
    _without_special_names,
    _without_suffixes,
    by_name,
    one_limit,
    readable,
)

WITHOUT_CHECKSUMS = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}
TIME = 1_700_000_000_000_000_000  # in ns


def land(folder, *names, at=TIME, text="x"):
    """Put a file at each of these names, all of one time."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(at, at))


def matched(pattern, *names):
    return [name for name in names if file_system.as_regex(pattern).fullmatch(name)]


def without_checksums(options):
    """Return options without those with which each local folder is read."""
    assert {key: options.get(key) for key in WITHOUT_CHECKSUMS} == WITHOUT_CHECKSUMS
    return {key: options[key] for key in options if key not in WITHOUT_CHECKSUMS}


# --- the options with which each file is read once


def test_a_later_file_that_would_spoil_a_batch_is_ignored(spark, folder):
    land(folder, "a.csv", "b", "_c[1]", ".d.lz4")
    names = ["a", "a.csv", "a.lz4", "a[1]", "a*", "a.SNAPPY", "ü 1"]
    for kind, kept in (
        ("text", ["a", "a.csv", "ü 1"]),
        ("csv", ["a", "a.csv", "ü 1"]),
        ("json", ["a", "a.csv", "ü 1"]),
        ("parquet", ["a", "a.csv", "a.lz4", "a.SNAPPY", "ü 1"]),
        ("orc", ["a", "a.csv", "a.lz4", "a.SNAPPY", "ü 1"]),
    ):
        place, given = readable(spark, kind, str(folder), {"sep": ";"})
        options = without_checksums(given)
        assert place == str(folder)
        assert matched(options.pop("pathglobfilter"), *names) == kept
        assert options == {"sep": ";"}


def test_one_file_a_batch_needs_no_filter_for_special_names(spark, folder):
    names = ["a", "a[1]", "a.lz4"]
    options = {"maxfilespertrigger": "1"}
    _, read = readable(spark, "text", str(folder), options)
    assert matched(read["pathglobfilter"], *names) == ["a", "a[1]"]
    assert without_checksums(read)["maxfilespertrigger"] == "1"
    _, read = readable(spark, "parquet", str(folder), options)
    assert without_checksums(read) == options


def test_a_special_name_that_is_there_makes_one_file_a_batch(spark, folder, caplog):
    land(folder, "a", "sales[7]")
    given = {"maxbytespertrigger": "1g"}
    _, read = readable(spark, "parquet", str(folder), given)
    assert without_checksums(read) == {"maxfilespertrigger": 1}
    said = (
        f"{folder} is read one file a batch: beside {folder}/sales[7] Spark would count"
        " the other files of a batch twice; give it a name without * ? [ ] { } and \\"
    )
    assert caplog.messages == [said]
    caplog.clear()
    # The user's own pattern leaves it out, or cannot be narrowed
    _, read = readable(spark, "parquet", str(folder), {"pathglobfilter": "a*"})
    assert matched(read["pathglobfilter"], "ab", "a[", "b") == ["ab"]
    assert "maxfilespertrigger" not in read
    _, read = readable(spark, "csv", str(folder), {"pathglobfilter": "[^s]*"})
    assert read["maxfilespertrigger"] == 1
    assert matched(read["pathglobfilter"], "a", "a.lz4", "s") == ["a"]
    assert caplog.messages == []


def test_subfolders_are_read_without_another_limit(spark, folder):
    land(folder, "a[1]", "below/b", "_hidden/c.lz4")
    given = {"recursivefilelookup": "True"}
    place, read = readable(spark, "text", str(folder), given)
    assert place == str(folder)
    assert matched(read["pathglobfilter"], "a", "a[1]", "a.lz4") == ["a", "a[1]"]
    assert without_checksums(read | {"pathglobfilter": ""}) == (
        given | {"pathglobfilter": ""}
    )
    land(folder, "below/deep/c.lz4")
    assert f"has the file {folder}/below/deep/c.lz4: " in refusal(
        readable, spark, "text", str(folder), given
    )
    readable(spark, "text", str(folder), {"recursivefilelookup": False})
    readable(spark, "text", str(folder), given | {"pathglobfilter": "*.csv"})
    assert without_checksums(readable(spark, "orc", str(folder), given)[1]) == given


def test_a_file_in_place_of_a_folder_is_refused(spark, folder):
    land(folder, "a", "b.lz4", "day=1/c.Snappy")
    file = folder / "a"
    assert refusal(readable, spark, "orc", str(file), {}) == (
        f"input {file} is a file; give the folder that it is in"
    )
    assert "packed" not in str(readable(spark, "orc", str(folder), {}))
    assert refusal(readable, spark, "json", str(folder), {}).startswith(
        f"input {folder} has the file {folder}/"
    )


def test_a_folder_of_a_special_name_is_not_taken_for_a_pattern(spark, tmp_path):
    folder = tmp_path / "in[1]"
    land(folder, "a")
    place, read = _of_folder(folder, "as given", {"sep": ";"})
    assert place == f"file://{tmp_path}/in\\[1\\]"
    assert without_checksums(read) == {"sep": ";", "basepath": f"file://{folder}"}
    assert readable(spark, "text", str(folder), {})[0] == place
    place, read = _of_folder(tmp_path / "no[1]", "as given", {})
    assert (place, without_checksums(read)) == ("as given", {})
    plain, read = _of_folder(tmp_path, "as given", {})
    assert (plain, without_checksums(read)) == ("as given", {})


def test_a_folder_with_checksums_is_read_with_them(folder):
    land(folder, "a", ".a.crc")
    assert _of_folder(folder, "as given", {"sep": ";"}) == ("as given", {"sep": ";"})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"maxbytespertrigger": 268_435_456}),
        (
            {"maxbytespertrigger": "1g", "sep": ";"},
            {"maxbytespertrigger": "1g", "sep": ";"},
        ),
        ({"maxfilespertrigger": 2}, {"maxfilespertrigger": 2}),
        (
            {"maxfilespertrigger": 2, "maxbytespertrigger": 9, "sep": ";"},
            {"maxfilespertrigger": 2, "sep": ";"},
        ),
    ],
    ids=str,
)
def test_a_batch_has_one_limit_of_files_or_else_of_bytes(given, wanted):
    assert one_limit(given) == wanted


# --- files that Hadoop would unpack wrongly


def test_an_end_that_hadoop_takes_for_packed_is_known_in_any_case():
    names = ["a.lz4", "a.LZ4", "b.snappy", "c.Snappy", "a.lz4.gz", "lz4", "a"]
    assert [_mistaken_end(name) for name in names] == [
        ".lz4", ".lz4", ".snappy", ".snappy", None, None, None
    ]  # fmt: skip


def test_a_file_that_hadoop_would_unpack_wrongly_is_refused(folder):
    land(folder, "folder.lz4/a", "b.snappy")
    _refuse_mistaken("in", [])
    _refuse_mistaken("in", [f"{folder}/folder.lz4", f"{folder}/a"])
    assert refusal(_refuse_mistaken, "in", ["in/a", f"{folder}/b.snappy"]) == (
        f"input in has the file {folder}/b.snappy: Spark cannot read what tools write as"
        " .snappy; unpack it, or pack it as .gz, .bz2 or .zst; pathGlobFilter='*.csv'"
        " leaves other names out"
    )


RESTS = [
    *map("".join, (one for size in range(5) for one in product(".lLz4", repeat=size))),
    *("SNAPPY"[-size:] for size in range(1, 7)),
    *(".snappy"[-size:] for size in range(1, 8)),
    *("x.snappy", "xsnappy", ".snapp", ".lz4x", "x.lz4", "y", "a.lz4.snappY"),
]


@pytest.mark.parametrize(
    "prefix", ["", "a", "a.", "a.l", "a.lz", "A.LZ4", "a.snapp", "a.S", ".snappy", "4"]
)
def test_a_pattern_matches_all_names_but_those_of_packed_files(prefix):
    kept = [
        rest
        for rest in RESTS
        if not (prefix + rest).lower().endswith((".lz4", ".snappy"))
    ]
    assert matched(_without_suffixes(prefix, "*", ""), *RESTS) == kept


def test_characters_that_no_name_may_have_are_left_out_at_the_end_of_it():
    pattern = _without_suffixes("", "", r"\*")
    names = ["a", "*", "ay", "*y", "4", "x4", "*4"]
    assert matched(pattern, *names) == ["a", "ay", "4", "x4"]


def test_the_users_pattern_is_narrowed_only_if_it_leaves_the_end_open():
    def option(name_filter, *, unpacks=True):
        return _without_mistaken(name_filter, unpacks=unpacks)

    assert option(None, unpacks=False) == {}
    assert option("a*", unpacks=False) == {}
    assert option("*.csv") == {}
    names = ["a", "b", "a.lz4", "ab.SNAPPY"]
    assert matched(option(None)["pathglobfilter"], *names) == ["a", "b"]
    assert matched(option("a*")["pathglobfilter"], *names) == ["a"]


# --- what there is


def test_the_files_that_spark_reads_are_found_by_their_names(folder):
    land(folder, "b.csv", "a.txt", ".c.csv", "_d.csv", "e.csv._COPYING_", "f.csv/x")
    with os.scandir(folder) as entries:
        found = list(entries)

    def names(name_filter):
        return sorted(_matching_files(found, name_filter))

    assert names("*.csv") == [f"{folder}/b.csv"]
    assert names(None) == names("") == [f"{folder}/a.txt", f"{folder}/b.csv"]


def test_the_paths_below_a_folder_or_a_pattern_are_found(spark, tmp_path, caplog):
    land(tmp_path, "in1/a", "in1/sub/b", "in1/day=1/c[1]", "in2/d.csv")

    def found(path, name_filter=None):
        paths = _find_paths(
            spark, f"{tmp_path}/{path}", f"{tmp_path}/{path}", name_filter
        )
        return sorted(each.removeprefix(f"{tmp_path}/") for each in paths)

    assert found("in1") == ["in1", "in1/a", "in1/day=1/c[1]"]
    assert found("in?", "*.csv") == ["in1", "in2", "in2/d.csv"]
    assert found("missing") == []
    assert caplog.messages == []
    assert found("no*") == []
    assert caplog.messages == [
        f"input {tmp_path}/no*: nothing matches this pattern yet"
    ]
    # Only Hadoop knows such a pattern
    assert found("in{1/day=1,2}", "c*") == [f"file://{tmp_path}/in1/day=1/c[1]"]


def test_what_a_path_matches_is_known_but_for_patterns_of_hadoop_alone(tmp_path):
    land(tmp_path, "[in]/a", "in1/a", "i/a")
    assert _matches(tmp_path / "[in]") == [f"{tmp_path}/[in]"]
    assert _matches(tmp_path / "in*") == [f"{tmp_path}/in1"]
    assert _matches(tmp_path / "no") == []
    assert _matches(tmp_path / "{in1/a,i}") is None


def test_a_pattern_for_what_spark_has_written_is_refused(spark, tmp_path):
    land(tmp_path, "out/part-1", "in/a")
    _refuse_what_spark_wrote("o*", [f"{tmp_path}/out", f"{tmp_path}/out/part-1"])
    (tmp_path / "out" / "_spark_metadata").mkdir()
    for match in ("out", "out/part-1"):
        assert refusal(_refuse_what_spark_wrote, "o*", [f"{tmp_path}/{match}"]) == (
            f"input o* matches files that a query has written to {tmp_path}/out, and for"
            " a pattern Spark does not leave out what is not committed; give the folder"
            f" {tmp_path}/out"
        )
    _refuse_what_spark_wrote("i*", [f"{tmp_path}/in", f"{tmp_path}/in/a"])
    pattern = f"{tmp_path}/o*"
    assert refusal(_find_paths, spark, pattern, pattern, None).startswith("input ")
    assert _find_paths(spark, f"{tmp_path}/out", f"{tmp_path}/out", None)


def test_names_that_spark_misreads_are_found_by_spark(spark, folder):
    land(folder, "a", "b[1]", "c%20d*", "e.LZ4", "f.Snappy", "g.lz")

    def found(place, name_filter=None):
        paths = _find_by_spark(spark, place, name_filter)
        return sorted(path.rpartition("/")[2] for path in paths)

    assert found(str(folder)) == ["b[1]", "c%20d*", "e.LZ4", "f.Snappy"]
    assert found(str(folder), "[ab]*") == ["a", "b[1]"]
    assert found(f"{folder.parent}/i?/[af]*") == ["a", "f.Snappy"]
    assert found(f"{folder}/missing") == []
    land(folder, "day=1/day=2/h[1]")
    with pytest.raises(AnalysisException, match="ALREADY_EXISTS"):
        _find_by_spark(spark, str(folder), None)


def test_the_pattern_for_spark_takes_names_that_it_misreads():
    names = ["a", "a[", "]", "{", "}b", "a?", "*", "\\", "a.lz4", "a.LZ4", "b.SnappY"]
    assert matched(_names_to_misread(), "lz4", *names) == names[1:]


@pytest.mark.classic_only("the mount table is a setting of the JVM")
def test_a_folder_of_another_file_system_is_listed_by_spark(spark, folder):
    # Hadoop keeps what it knows of a name
    name = uuid.uuid4().hex
    key = f"fs.viewfs.mounttable.{name}.link./in"
    spark.sparkContext._jsc.hadoopConfiguration().set(key, f"file:{folder}")  # noqa: SLF001
    path = f"viewfs://{name}/in"
    land(folder, "a")
    place, read = readable(spark, "text", path, {})
    assert place == path
    assert matched(read.pop("pathglobfilter"), "a", "a[1]", "a.lz4") == ["a"]
    assert read == {}
    land(folder, "b[1]")
    assert readable(spark, "orc", path, {}) == (path, {"maxfilespertrigger": 1})
    land(folder, "c.lz4")
    said = refusal(readable, spark, "text", path, {})
    assert "/c.lz4: Spark cannot read what tools write as .lz4" in said
    recursive = {"recursivefilelookup": True}
    assert readable(spark, "orc", path, recursive) == (path, recursive)
    assert readable(spark, "text", path, recursive)[0] == path
    assert by_name(spark, path, path, {"maxfilespertrigger": 1}) == (path, None)


# --- the users' patterns for names


SPECIAL = ["a*", "a?", "a[", "a]", "a{", "a}", "a\\"]


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("*", ["a", "a.csv", "b", "é 1", "n" * 255]),
        ("?", ["a", "b"]),
        ("*.csv", ["a.csv"]),
        ("a*", ["a", "a.csv"]),
        ("[ab]*", ["a", "a.csv", "b"]),
        ("{a,b}", ["a", "b"]),
        (r"\a", ["a"]),
    ],
)
def test_a_pattern_for_names_is_narrowed_to_those_without_special_characters(
    pattern, kept
):
    names = ["a", "a.csv", "b", "é 1", "n" * 255, *SPECIAL]
    narrower = _without_special_names(pattern, unpacks=False)
    assert narrower is not None
    assert matched(narrower, *names, "a.lz4") == (
        [*kept, "a.lz4"] if pattern in ("*", "a*", "[ab]*") else kept
    )
    narrower = _without_special_names(pattern, unpacks=True)
    assert narrower is not None
    assert matched(narrower, *names, "a.lz4", "A.Snappy", "[.lz") == kept


@pytest.mark.parametrize("pattern", [r"\*", r"a\[*", "[^a]*", "[!a]*", "a[*]", "[]"])
def test_a_pattern_that_asks_for_special_characters_cannot_be_narrowed(pattern):
    assert _without_special_names(pattern, unpacks=True) is None


def test_a_star_that_is_escaped_is_no_end_left_open():
    assert _without_special_names(r"a\**", unpacks=True) is None
    assert _without_mistaken("a", unpacks=True) == {}


def test_a_part_of_a_pattern_is_known_to_match_special_characters():
    parts = {
        r"\[": True,
        r"\a": False,
        r"\^": True,
        "[a]": False,
        "[ab-z]": False,
        "[a?]": True,
        "[^a]": True,
        "[!a]": True,
        "[]": True,
    }
    assert {part: _may_be_special(part) for part in parts} == parts


# --- files of one time


def split_in_batches(spark, folder, **options):
    """Return whether the files of a folder are listed by name, one file a batch."""
    given: dict[str, Any] = {"maxfilespertrigger": 1} | options
    place, condition = by_name(spark, str(folder), f"{folder}/", given)
    if condition is None:
        assert place == f"{folder}/"
        return False
    assert place == f"{folder}/{{[^._]*,_*=*}}"
    return True


def test_files_of_one_millisecond_that_come_in_several_batches_are_listed_by_name(
    spark, folder
):
    land(folder, "a", at=TIME)
    land(folder, "b", at=TIME + 1_000_000)
    assert not split_in_batches(spark, folder)
    land(folder, "b", at=TIME + 999_999)
    assert split_in_batches(spark, folder)
    assert not split_in_batches(spark, folder, maxfilespertrigger=2)
    assert not split_in_batches(spark, folder, recursivefilelookup="true")
    assert not split_in_batches(spark, folder / "missing")
    threshold = "spark.sql.sources.parallelPartitionDiscovery.threshold"
    with in_force(spark, {threshold: "2"}):
        assert split_in_batches(spark, folder)
    with in_force(spark, {threshold: "1"}):
        assert not split_in_batches(spark, folder)
    land(folder, "c:d", at=TIME + 5_000_000)
    assert not split_in_batches(spark, folder)
    other = folder / "x:y"
    land(other, "a", "b")
    assert not split_in_batches(spark, other)


def test_a_name_spoils_a_pattern_that_spark_could_not_read(folder):
    land(folder, "a", "b:c", "d=1", "e=1/x", "_spark_metadata/0", "f/x", "_spark_data")
    with os.scandir(folder) as entries:
        spoils = {entry.name for entry in entries if _spoils_a_pattern(entry)}
    assert spoils == {"b:c", "e=1", "_spark_metadata"}


def test_the_sizes_are_those_of_the_files_that_spark_reads(folder):
    land(folder, "a", text="12345")
    land(folder, "_b", ".c", "d/e", "gone")
    with os.scandir(folder) as listing:
        entries = list(listing)
    (folder / "gone").unlink()
    assert [file.st_size for file in _stats(entries)] == [5]


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"maxbytespertrigger": 10}, True),
        ({"maxbytespertrigger": "9"}, False),
        ({"maxbytespertrigger": "1g"}, False),  # which only Spark reads
        ({"maxfilespertrigger": 2}, True),
        ({"maxfilespertrigger": 1}, False),
        ({"maxfilespertrigger": 1, "maxbytespertrigger": 99}, False),
        ({"maxfilespertrigger": 2, "maxbytespertrigger": 1}, True),
        ({}, False),
    ],
    ids=str,
)
def test_two_files_of_five_bytes_fit_in_one_batch(folder, options, fits):
    land(folder, "a", "b", text="12345")
    files = [path.stat() for path in folder.iterdir()]
    assert _fit_in_one_batch(files, options) == fits


def test_the_rows_of_subfolders_are_left_out_where_files_are_listed_by_name(
    spark, tmp_path
):
    folder = tmp_path / "in"
    land(folder, "a", "b")
    _, condition = by_name(spark, str(folder), str(folder), {"maxfilespertrigger": 1})

    def keeps(*files):
        rows = ", ".join(f"(named_struct('file_path', '{file}'))" for file in files)
        frame = spark.sql(f"SELECT * FROM VALUES {rows} AS t(_metadata)")  # noqa: S608 - literals
        kept = frame.where(condition).select("_metadata.file_path").collect()
        return [row.file_path for row in kept]

    here = [f"file://{folder}/a", f"file:{folder}/b", f"file://{folder}/c%20=d"]
    other = [f"file://{folder}/sub/a", f"file://{tmp_path}/a", f"file://{folder}/s/d=1"]
    assert keeps(*here, *other) == here
    with pytest.raises(
        PySparkException, match="the first folder of partitions has come"
    ):
        keeps(f"file://{folder}/day=1/a")


def test_a_folder_that_is_gone_is_no_error_of_ours(spark, folder):
    shutil.rmtree(folder)
    assert readable(spark, "text", str(folder), {})[0] == str(folder)
