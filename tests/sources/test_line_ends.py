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


def check(spark, folder, kind, ends, *, header, quoted):
    """See that one column gives what two give, or a line that says what to do."""
    given = {"header": header, "quoted": quoted}
    two = content(TEXTS[kind], ends, **given, before="a,")
    wanted = values(
        read(
            spark, folder, two, f"b STRING, a {kind}", enforceSchema=True, header=header
        )
    )
    assert len(wanted) == 3
    one = content(TEXTS[kind], ends, **given)
    case = (kind, ends, given)
    try:
        assert values(read(spark, folder, one, f"a {kind}", header=header)) == wanted, (
            case
        )
    except QueryFailed as failed:
        assert ends not in ALIKE, case
        assert "if lines end in different ways" in str(failed), case  # noqa: PT017
        assert "give multiLine=False" in str(failed), case  # noqa: PT017
    if ends not in ALIKE:
        frame = read(spark, folder, one, f"a {kind}", header=header, multiLine=False)
        assert values(frame) == wanted, case


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "header", "quoted"), product(TEXTS, [False, True], [False, True])
)
def test_one_column_gives_what_two_give_or_fails(spark, folder, kind, header, quoted):
    for ends in ENDS:
        check(spark, folder, kind, ends, header=header, quoted=quoted)


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
