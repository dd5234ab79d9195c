r"""The line ends of CSV files: one column gives what two columns give, or the query fails.

Spark reads a single column otherwise than several: it takes the first line end of a
file for that of all its lines.
"""

from itertools import product

import pytest
from conftest import failure

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.errors import QueryFailed

# The ends of three lines, and of a header before them
ENDS = [
    ("\n", "\n", "\n", "\n"),
    ("\r\n", "\r\n", "\r\n", "\r\n"),
    ("\r", "\r", "\r", "\r"),
    ("\r", "\r", "\r", ""),
    ("\n", "\r\n", "\r\n", "\r\n"),
    ("\n", "\n", "\n", "\r\n"),
    ("\n", "\n", "\r", "\n"),
    ("\r\n", "\n", "\n", "\n"),
    ("\r\n", "\n", "\r\n", "\n"),
    ("\r\n", "\r\n", "\r", "\r\n"),
    ("\r", "\r\n", "\r\n", "\r\n"),
    ("\r", "\n", "\r", "\n"),
]
ALIKE = ENDS[:2]  # these must be read
TEXTS = {
    "STRING": ("ann", "bob", "c c"),
    "INT": ("1", "2", "3"),
    "BOOLEAN": ("true", "false", "true"),
    "BINARY": ("ann", "bob", "c c"),
    "DATE": ("2026-01-01", "2026-01-02", "2026-01-03"),
    "DOUBLE": ("1.5", "2", "3e2"),
    "TIMESTAMP": ("2026-01-01 10:00:00", "2026-01-02", "2026-01-03T10:30"),
}


def content(texts, ends, *, header, quoted, before=""):
    lines = [f'"{text}"' if quoted else text for text in texts]
    if header:
        lines = ["a", *lines]
    else:
        ends = ends[1:]
    pairs = zip(lines, ends, strict=True)
    return "".join(f"{before}{line}{end}" for line, end in pairs).encode()


def values(frame):
    run(start(frame, sinks.memory("ends"), name="ends", availableNow=True))
    return [row["a"] for row in frame.sparkSession.table("ends").collect()]


def read(spark, folder, data, schema, **options):
    (folder / "a.csv").write_bytes(data)
    return sources.csv(spark, folder, schema=schema, **options)


CASES = [
    *product(("STRING", "INT"), (False, True), (False, True)),
    *((kind, True, False) for kind in TEXTS if kind not in ("STRING", "INT")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "header", "quoted"), CASES)
def test_one_column_gives_what_two_give_or_fails(spark, tmp_path, kind, header, quoted):
    folders = {}
    for columns, before in (("one", ""), ("two", "a,")):
        for number, ends in enumerate(ENDS):
            folders[columns, ends] = folder = tmp_path / columns / f"n={number}"
            folder.mkdir(parents=True)
            data = content(
                TEXTS[kind], ends, header=header, quoted=quoted, before=before
            )
            (folder / "a.csv").write_bytes(data)

    def read(folder, schema, **options):
        return values(
            sources.csv(spark, folder, schema=schema, header=header, **options)
        )

    two = read(tmp_path / "two", f"b STRING, a {kind}", enforceSchema=True)
    wanted = two[:3]
    assert sorted(two) == sorted(wanted * len(ENDS))
    torn = read(tmp_path / "one", f"a {kind}", multiLine=False)
    assert sorted(torn) == sorted(two)
    for ends in ENDS:
        try:
            assert read(folders["one", ends], f"a {kind}") == wanted, ends
        except QueryFailed as failed:
            assert ends not in ALIKE, ends
            assert "if lines end in different ways" in str(failed), ends  # noqa: PT017
            assert "give multiLine=False" in str(failed), ends  # noqa: PT017


@pytest.mark.fast("STRING", "INT")
@pytest.mark.parametrize("kind", ["STRING", "INT", "BOOLEAN", "BINARY"])
def test_a_value_with_a_line_end_fails_and_says_what_to_do(spark, folder, kind):
    data = content(TEXTS[kind], ENDS[4], header=True, quoted=False)
    said = failure(values, read(spark, folder, data, f"a {kind}", header=True))
    assert (
        r"if lines end in different ways (\n, \r\n, \r), give multiLine=False" in said
    )
    assert str(folder / "a.csv") in said
    assert "give header=True" not in said
    frame = read(spark, folder, data, f"a {kind}", header=True, multiLine=False)
    assert len(values(frame)) == 3


@pytest.mark.parametrize("kind", ["DATE", "DECIMAL(9,2)"])
def test_a_value_of_another_type_fails_with_its_line_end(spark, folder, kind):
    frame = read(spark, folder, b"a\n1\r2\r", f"a {kind}", header=True)
    assert "column a: a value has a line end; " in failure(values, frame)
