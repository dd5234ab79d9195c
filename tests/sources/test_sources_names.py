"""File names that Spark cannot open or takes for patterns: no row is lost in silence.

Every row counts once, or is said to wait.
"""

import os
import sys
from typing import Any

import pytest
from conftest import process, refusal

from sparkstream_kit import run, sinks, sources, start

FORMATS = [
    "text",
    *(
        pytest.param(form, marks=pytest.mark.slow)
        for form in ("csv", "json", "parquet", "orc")
    ),
]
NAMES = [
    "sales[7].csv",
    "a*b",
    "a?b",
    "a[b",
    "a]b",
    "{a,b}.csv",
    "a{b",
    "a}b",
    "a\\b",
    "[!a].csv",
    "a[0-9]*.csv",
    "(copy) [1] of a & b.csv",
    "2026-01-01T10:00:00.csv",
    "a:[1]",
]


def land(spark, form, folder, names, first=0):
    """Put a file of one row at each of these names; the row is its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, first):
        if form in ("text", "csv", "json"):
            (folder / name).write_text(
                f'{{"value":"{number}"}}\n' if form == "json" else f"{number}\n"
            )
        else:
            made = folder.parent / "made"
            row = spark.createDataFrame([(str(number),)], "value STRING").coalesce(1)
            row.write.mode("overwrite").format(form).save(str(made))
            (part,) = made.glob("part-*")
            part.rename(folder / name)
        os.utime(folder / name, (1_700_000_000 + number,) * 2)


def read(spark, form, path, **options):
    schema = {} if form == "text" else {"schema": "value STRING"}
    return getattr(sources, form)(spark, path, **schema, **options)


class Rows:
    """All rows that the queries of a test have written, each batch once."""

    def __init__(self, spark, folder):
        self.spark, self.folder = spark, folder

    def of(self, frame):
        how: Any = {
            "name": "names",
            "checkpoint": self.folder / "ckpt",
            "availableNow": True,
        }
        self.batches = (
            run(start(frame, sinks.batch_files(self.folder / "out"), **how))
            .queries[0]
            .batches
        )
        return sorted(
            int(row.value)
            for row in self.spark.read.parquet(f"{self.folder}/out").collect()
        )


@pytest.fixture
def written(spark, tmp_path):
    return Rows(spark, tmp_path / "written")


@pytest.mark.connect
@pytest.mark.parametrize("form", FORMATS)
def test_a_row_counts_once_whatever_the_names_of_the_files_are(
    spark, folder, written, form
):
    land(spark, form, folder, ["a.csv", *NAMES, "b", "sales7.csv"])
    assert written.of(read(spark, form, folder)) == list(range(len(NAMES) + 3))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_one_that_lands_while_the_query_runs_waits_for_its_next_start(
    spark, folder, written, form
):
    land(spark, form, folder, ["a.csv", "b"])
    frame = read(spark, form, folder)
    land(spark, form, folder, NAMES, 2)
    assert written.of(frame) == [0, 1, 2 + NAMES.index("2026-01-01T10:00:00.csv")]
    land(spark, form, folder, ["last"], 2 + len(NAMES))
    assert written.of(read(spark, form, folder)) == list(range(3 + len(NAMES)))


@pytest.mark.fast("True-a[*]")
@pytest.mark.parametrize("name", ["pro[j] 1", "a*", "{x}", "back\\slash", "why?"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_of_such_a_name(spark, tmp_path, written, name, relative):
    folder = tmp_path / name / "in"
    land(spark, "text", folder, ["a", "b", "c"])
    assert written.of(
        read(spark, "text", os.path.relpath(folder) if relative else folder)
    ) == [0, 1, 2]
    land(spark, "text", folder, ["d"], 3)
    assert written.of(read(spark, "text", f"file:{folder}")) == [0, 1, 2, 3]


@pytest.mark.slow
def test_partition_folders_in_a_folder_of_such_a_name(spark, tmp_path, written):
    for day in (1, 2):
        land(spark, "text", tmp_path / "[in]" / f"day={day}", ["a", "b[1]"], 2 * day)
    frame = read(spark, "text", tmp_path / "[in]")
    assert frame.columns == ["value", "day"]
    assert written.of(frame) == [2, 3, 4, 5]


@pytest.mark.slow
def test_a_pattern_stays_a_pattern(spark, tmp_path, written):
    for number, day in enumerate(("[1]", "2", "3")):
        land(spark, "text", tmp_path / "in" / f"day {day}", ["a", "b"], 2 * number)
    assert written.of(read(spark, "text", tmp_path / "in" / "day*[13]*")) == [
        0,
        1,
        4,
        5,
    ]
    assert written.of(read(spark, "text", tmp_path / "in" / "day {2,3,\\[1\\]}")) == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_pattern_that_matches_nothing_yet_is_said(spark, tmp_path, caplog):
    for pattern in ("no*", "{no,none}"):
        read(spark, "text", tmp_path / pattern)
        assert (
            caplog.messages.pop()
            == f"input {tmp_path / pattern}: nothing matches this pattern yet"
        )


@pytest.mark.fast("False-[[]ab]*", "True-{b,x[*]}*")
@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.csv", [0, 2]),
        ("?.csv", [0]),
        ("*\\[*", [2]),
        ("[ab]*", [0, 1]),
        ("[^b]*", [0, 2]),
        ("{b,x*}", [1, 2]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_the_users_own_pattern_for_names_holds(
    spark, folder, written, pattern, wanted, late
):
    land(spark, "text", folder, ["a.csv", "b"])
    frames = [read(spark, "text", folder, pathGlobFilter=pattern)] if late else []
    land(spark, "text", folder, ["x[1].csv"], 2)
    frames.append(read(spark, "text", folder, pathglobfilter=pattern))
    assert [written.of(frame) for frame in frames][-1] == wanted


def test_a_source_with_subfolders_needs_no_batches_of_one_file(spark, folder, written):
    land(spark, "text", folder, ["a", "b[1]"])
    land(spark, "text", folder / "more", ["c", "d*"], 2)
    assert written.of(read(spark, "text", folder, recursiveFileLookup=True)) == [
        0,
        1,
        2,
        3,
    ]
    assert written.batches == 1


def test_batches_are_of_many_files_where_no_name_is_misread(
    spark, folder, written, caplog
):
    land(
        spark,
        "text",
        folder,
        ["a", "ü 100% #1 & (2) ^$+,~", "n" * 255, "2026-01-01T10:00:00.csv"],
    )
    assert written.of(read(spark, "text", folder)) == [0, 1, 2, 3]
    assert (written.batches, caplog.messages) == (1, [])


def test_one_file_a_batch_is_said_with_the_name(spark, folder, written, caplog):
    land(spark, "text", folder, ["a", "sales[7].csv", "c"])
    assert written.of(read(spark, "text", folder, maxBytesPerTrigger="1g")) == [0, 1, 2]
    assert written.batches == 3
    assert (
        f"{folder} is read one file a batch: beside {folder}/sales[7].csv Spark would"
        " count" in caplog.text
    )
    caplog.clear()
    read(spark, "text", folder, max_files_per_trigger=1)
    assert caplog.messages == []


def test_a_file_where_a_folder_is_asked(spark, folder):
    land(spark, "text", folder, ["sales[1].csv"])
    path = folder / "sales[1].csv"
    for form in ("text", "csv", "json", "parquet", "orc"):
        assert (
            refusal(read, spark, form, path)
            == f"input {path} is a file; give the folder that it is in"
        )


@pytest.mark.slow
@pytest.mark.classic_only("the mount table is a setting of the JVM")
def test_another_file_system(spark, folder, written):
    key = "fs.viewfs.mounttable.names.link./in"
    spark.sparkContext._jsc.hadoopConfiguration().set(key, f"file:{folder}")  # noqa: SLF001
    land(spark, "text", folder, ["a", "b"])
    frame = read(spark, "text", "viewfs://names/in")
    land(spark, "text", folder, ["c[1]", "d"], 2)
    assert written.of(frame) == [0, 1, 3]
    assert written.of(read(spark, "text", "viewfs://names/in/")) == [0, 1, 2, 3]
    said = refusal(read, spark, "text", "viewfs://names/in/no")
    assert (
        said
        == "input folder viewfs://names/in/no does not exist; create it or correct the"
        " path"
    )


def test_a_file_without_a_row_doubles_nothing_either(spark, folder, written):
    land(spark, "text", folder, ["a", "b"])
    (folder / "c[1]").touch()
    frame = read(spark, "text", folder)
    assert written.of(frame) == [0, 1]


def test_a_link_to_another_folder_is_read(spark, folder, tmp_path, written):
    land(spark, "text", tmp_path / "elsewhere", ["a"])
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    land(spark, "text", folder, ["b"], 1)
    assert written.of(read(spark, "text", folder, recursiveFileLookup=True)) == [0, 1]


def test_a_relative_path_is_that_of_this_process(spark, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").write_text("a file below another folder than the JVM's")
    monkeypatch.chdir(tmp_path)
    said = refusal(sources.text, spark, "elsewhere")
    assert said == "input elsewhere is a file; give the folder that it is in"


IN_ITS_FOLDER = """
from sparkstream_kit import get_session, run, sinks, sources, start

spark = get_session("names", profile="test")
run(start(sources.text(spark, "in"), sinks.memory("rows"), availableNow=True))
print(spark.table("rows").count())
"""


@pytest.mark.slow
def test_a_session_that_was_started_in_a_folder_of_such_a_name(spark, tmp_path):
    land(spark, "text", tmp_path / "a*[b]" / "in", ["a", "b", "c"])
    done = process(
        [sys.executable, "-c", IN_ITS_FOLDER], cwd=tmp_path / "a*[b]", check=True
    )
    assert done.stdout == "3\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_such_name_among_others(spark, folder, written, name):
    land(spark, "text", folder, ["a.csv", name, "b", "sales7.csv"])
    assert written.of(read(spark, "text", folder, max_files_per_trigger=84)) == [
        0,
        1,
        2,
        3,
    ]
