"""Schemas: built three ways, compared with a readable diff, inferred and written down as code."""

from __future__ import annotations

import gzip
import re
import sys
from dataclasses import dataclass, make_dataclass
from datetime import date, datetime  # from_dataclass reads the annotations at run time
from decimal import Decimal
from pathlib import Path
from typing import (  # noqa: UP035 - the old spellings are tested
    TYPE_CHECKING,
    Annotated,
    Any,
    List,
    Optional,
)

import pytest
from conftest import process, refusal
from pyspark.sql import types as T

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.schemas import (
    diff,
    from_dataclass,
    from_ddl,
    infer,
    require,
    schema_of,
    to_code,
)

if TYPE_CHECKING:
    from fractions import Fraction


SALES = schema_of(ProductKey=T.StringType(), SaleAmount=T.DecimalType(12, 2))

pytestmark = pytest.mark.usefixtures("spark")  # DDL is read by Spark


# --- from DDL


@pytest.mark.connect
@pytest.mark.parametrize(
    "ddl",
    [
        "a INT, b DECIMAL(12,2)",
        "a int NOT  null,\n  b: string , c Decimal ( 5 ), d numeric, e dec(38,38)",
        "a INT, A STRING, select string, 1a int",
        (
            "`x y` INT, b STRING COMMENT 'a, b', c ARRAY<MAP<STRING, DECIMAL(5, 1)>>, d"
            " STRUCT<x: INT NOT NULL>"
        ),
        "struct<a: int>",
    ],
)
def test_ddl_reads_as_spark_reads_it(ddl):
    assert from_ddl(ddl) == T.DataType.fromDDL(ddl)


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (
            "a DECIMAL(10,2",
            (
                "cannot read DDL 'a DECIMAL(10,2': Syntax error at or near end of input"
                " (line 1, pos 14)"
            ),
        ),
        (
            "a INT NOT NUL",
            (
                "cannot read DDL 'a INT NOT NUL': Syntax error at or near 'NUL' (line 1,"
                " pos 10)"
            ),
        ),
        (
            "a INT b STRING",
            (
                "cannot read DDL 'a INT b STRING': Syntax error at or near 'b' (line 1,"
                " pos 6); write a comma between two columns: 'a INT, b DECIMAL(12,2)'"
            ),
        ),
        (
            "a INTT",
            (
                "cannot read DDL 'a INTT': Unsupported data type \"INTT\" (line 1, pos"
                " 2); did you mean INT?"
            ),
        ),
        (
            "t TIMESTMP",
            (
                "cannot read DDL 't TIMESTMP': Unsupported data type \"TIMESTMP\" (line"
                " 1, pos 2); did you mean TIMESTAMP?"
            ),
        ),
        (
            "unit price DECIMAL(9,2)",
            (
                "cannot read DDL 'unit price DECIMAL(9,2)': Syntax error at or near"
                " 'DECIMAL' (line 1, pos 11); write a name with blanks or signs in"
                " backticks: `unit price` INT"
            ),
        ),
        ("int", "DDL 'int' names no columns; write it like 'a INT, b DECIMAL(12,2)'"),
        ("", "DDL '' names no columns; write it like 'a INT, b DECIMAL(12,2)'"),
    ],
)
def test_wrong_ddl_is_one_line(ddl, message):
    assert refusal(from_ddl, ddl) == message


def test_without_a_session_one_line_says_what_to_do():
    script = """
from pyspark.sql.types import StringType
from sparkstream_kit.schemas import from_ddl, schema_of, to_code
schema = schema_of(a=StringType())
for call in (lambda: from_ddl("a INT"), lambda: schema_of(a="string"), lambda: to_code(schema)):
    try: call()
    except ValueError as error: print(error)
"""
    assert process([sys.executable, "-c", script], check=True).stdout.splitlines() == [
        "cannot read DDL 'a INT' without Spark; start a session first",
        "cannot read column a: type 'string' without Spark; start a session first",
        "to_code(): only a running Spark can write DDL; start a session first",
    ]


# --- from keyword arguments


def test_schema_of_takes_type_names_and_data_types():
    schema = schema_of(
        a="string", b=T.ArrayType(T.LongType()), c="array<int>", d="struct<x:int>"
    )
    assert schema == from_ddl(
        "a string, b array<bigint>, c array<int>, d struct<x:int>"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "strng",
            (
                "cannot read column a: type 'strng': Unsupported data type \"STRNG\";"
                " did you mean STRING?"
            ),
        ),
        (
            " ",
            "schema_of(): column a has no type; give a type's name, such as 'string'",
        ),
        (
            "int, b string",
            (
                "schema_of(): column a is 'int, b string', which names several columns;"
                " give each column a keyword of its own"
            ),
        ),
        (
            str,
            (
                "schema_of(): column a is the class str; give a type's name, such as"
                " 'string', or a DataType"
            ),
        ),
    ],
)
def test_a_wrong_type_names_its_column(given, message):
    assert refusal(schema_of, a=given) == message


# --- from a dataclass


@dataclass
class Item:
    price: Annotated[Decimal, (8, 2)]
    label: str | None


@dataclass
class Order:
    id: int
    customer: Optional[str]  # noqa: UP045
    paid: bool
    weight: float
    raw: bytes
    day: date
    at: datetime | None
    total: Annotated[Decimal, (12, 2)] | None
    discount: Annotated[Decimal | None, (5, 4)]
    quantity: Annotated[int, T.IntegerType()]
    tags: List[str | None]  # noqa: UP006
    notes: dict[str, int | None]
    items: list[Item]
    first: Item | None


def test_a_dataclass_becomes_a_schema():
    item = from_ddl("price DECIMAL(8,2) NOT NULL, label STRING")
    expected = from_ddl(
        """id BIGINT NOT NULL, customer STRING, paid BOOLEAN NOT NULL,
        weight DOUBLE NOT NULL, raw BINARY NOT NULL, day DATE NOT NULL, at TIMESTAMP,
        total DECIMAL(12,2), discount DECIMAL(5,4), quantity INT NOT NULL,
        tags ARRAY<STRING> NOT NULL, notes MAP<STRING, BIGINT> NOT NULL"""
    )
    expected = expected.add(
        "items", T.ArrayType(item, containsNull=False), nullable=False
    )
    assert from_dataclass(Order) == expected.add("first", item)


def test_rows_of_a_dataclass_go_through_spark(spark):
    item = Item(Decimal("1.50"), None)
    assert spark.createDataFrame([item], from_dataclass(Item)).first() == (
        Decimal("1.50"),
        None,
    )


@dataclass
class Bad:
    tags: set[str]


@dataclass
class Outer:
    inner: list[Bad]


def test_a_field_of_another_type_is_named_with_its_path():
    assert (
        refusal(from_dataclass, Outer)
        == "Outer.inner.element.tags has type set[str]; allowed are str, int, float,"
        " bool, bytes, date, datetime, Annotated[Decimal, (12, 2)], list[T], dict[K,"
        " V], dataclasses, Annotated[T, DataType], X | None"
    )


ODD = [
    Path,
    Any,
    list,
    List,  # noqa: UP006
    dict,
    int | str,
    int | str | None,
    tuple[int, int],
    None,
]


@pytest.mark.parametrize("given", ODD)
def test_other_types_are_refused(given):
    assert refusal(from_dataclass, make_dataclass("C", [("x", given)])).startswith(
        "C.x has type "
    )


@dataclass
class Node:
    value: int
    children: list[Node]


@dataclass
class Unresolved:
    share: Fraction


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Decimal, "C.x has type Decimal; allowed are str, "),
        (Annotated[Decimal, (50, 2)], "C.x has type Decimal; allowed are str, "),
        (int | str, "C.x has type int | str; allowed are str, "),
        (
            list[set[str]],
            (
                "C.x.element has type set[str]; allowed are str, int, float, bool,"
                " bytes, date, "
            ),
        ),
        (list, "C.x has type list; allowed are str, "),
        (dict[str, Decimal], "C.x.value has type Decimal; allowed are str, "),
        (
            Annotated[int, T.IntegerType],
            "C.x: IntegerType is a class; write a type, such as IntegerType()",
        ),
        (Node, "cannot make a schema of C: maximum recursion depth exceeded"),
        (Unresolved, "cannot make a schema of C: name 'Fraction' is not defined"),
    ],
)
def test_a_field_that_cannot_be_says_why(given, message):
    assert refusal(from_dataclass, make_dataclass("C", [("x", given)])).startswith(
        message
    )
    for no_class in (str, Item(Decimal(1), None)):
        assert refusal(from_dataclass, no_class).startswith(
            "from_dataclass needs a dataclass (the class it"
        )


@pytest.mark.parametrize("given", [str, Item(Decimal(1), None), list[int]])
def test_what_is_not_a_dataclass_is_refused(given):
    assert refusal(from_dataclass, given).startswith(
        "from_dataclass needs a dataclass (the class itself)"
    )


# --- compare and require


@pytest.mark.parametrize(
    ("actual", "expected", "lines"),
    [
        ("a INT", "a INT", []),
        ("a INT", "a INT NOT NULL", []),
        (
            "saleAmount DECIMAL(12,2)",
            "SaleAmount DECIMAL(12,2)",
            [
                "missing SaleAmount decimal(12,2); did you mean saleAmount?",
                "unexpected saleAmount decimal(12,2)",
            ],
        ),
        ("a STRING", "a DECIMAL(12,2)", ["a is string, expected decimal(12,2)"]),
        ("b INT, a INT", "a INT, b INT", ["order is b, a; expected a, b"]),
        ("a INT, a STRING", "a STRING", ["a appears twice"]),
        (
            "o ARRAY<STRUCT<p: INT>>",
            "o ARRAY<STRUCT<p: LONG>>",
            ["o is array<struct<p:int>>, expected array<struct<p:bigint>>"],
        ),
        ("s STRUCT<x: INT>", "s STRUCT<x: INT NOT NULL>", []),
    ],
)
def test_diff_reads_well(actual, expected, lines):
    assert diff(from_ddl(actual), from_ddl(expected)) == lines


def test_diff_compares_nullability_when_asked():
    actual = from_ddl("a INT, b INT NOT NULL, c INT")
    expected = from_ddl("a INT NOT NULL, b INT, c INT")
    assert diff(actual, expected) == []
    assert diff(actual, expected, ignore_nullable=False) == [
        "a is nullable, expected not null",
        "b is not null, expected nullable",
    ]


def test_diff_can_leave_out_extra_columns():
    actual, expected = from_ddl("c INT, b INT, a INT"), from_ddl("a INT, b INT")
    assert diff(actual, expected, ignore_extra=True) == ["order is b, a; expected a, b"]


def test_require_gives_the_frame_back(spark):
    df = spark.createDataFrame([], SALES)
    assert require(df, SALES) is df
    assert df.transform(require, SALES) is df
    assert require(SALES, df) is SALES


def test_diff_compares_what_is_asked():
    actual, expected = (
        from_ddl("a INT, b INT NOT NULL"),
        from_ddl("a INT NOT NULL, b INT"),
    )
    assert diff(actual, expected, ignore_nullable=False) == [
        "a is nullable, expected not null",
        "b is not null, expected nullable",
    ]
    assert diff(from_ddl("c INT, a INT"), from_ddl("a INT"), ignore_extra=True) == []
    assert refusal(require, SALES, SALES, ignore_order=True).startswith(
        "unknown keyword of require() ignore_order; did you mean ignore_"
    )


def test_require_says_all_that_differs(spark):
    df = spark.createDataFrame([], from_ddl("ProductKey INT, saleAmount DECIMAL(12,2)"))
    assert df.transform(require, df.schema) is df
    with pytest.raises(InvalidInputError) as error:
        require(df, SALES)
    assert (
        str(error.value) == "schema differs:\n"
        "  - ProductKey is int, expected string\n"
        "  - missing SaleAmount decimal(12,2); did you mean saleAmount?\n"
        "  - unexpected saleAmount decimal(12,2)"
    )


def test_require_says_one_difference_on_one_line():
    assert (
        refusal(require, from_ddl("a INT"), from_ddl("a LONG"))
        == "schema differs: a is int, expected bigint"
    )


def test_require_refuses_an_unknown_keyword_and_text():
    assert refusal(require, SALES, SALES, ignore_order=True).startswith(
        "unknown keyword of require() ignore_order; did you mean ignore_"
    )
    text: Any = "a INT"
    assert (
        refusal(diff, SALES, text)
        == "schemas.diff(): expected is the string 'a INT'; give a DataFrame or a"
        " StructType, such as schemas.from_ddl('name STRING, amount INT')"
    )


# --- infer


@pytest.mark.slow
def test_infer_reads_samples_of_each_format(spark, tmp_path, caplog):
    (tmp_path / "a.csv").write_text("key;n\nx;1\ny;2\n")
    (tmp_path / "a.json").write_text('{"key": "x", "n": 1}\n')
    spark.createDataFrame([("x", 1)], "key string, n int").write.parquet(
        str(tmp_path / "p")
    )
    spark.createDataFrame([("x", 1)], "key string, n int").write.orc(
        str(tmp_path / "o")
    )
    narrow, wide = schema_of(key="string", n="int"), schema_of(key="string", n="bigint")
    assert infer(spark, tmp_path / "a.csv", header=True, sep=";") == narrow
    assert infer(spark, f"{tmp_path}/*.json", format="json") == wide
    (tmp_path / "B.JSON").write_text('{"key": "x", "n": 1}\n')
    assert infer(spark, tmp_path / "B.JSON") == wide
    (tmp_path / "a.tsv").write_text("key\tn\nx\t1\n")
    assert infer(spark, tmp_path / "a.tsv") == narrow
    assert "has tabs between its values; read it with sep=" in caplog.text
    assert infer(spark, tmp_path / "p", format="parquet") == narrow
    assert infer(spark, tmp_path / "o", format="orc") == narrow
    assert infer(
        spark, tmp_path / "a.csv", header=True, sep=";", inferSchema=False
    ) == from_ddl("key STRING, n STRING")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "nope",
            "csv",
            (
                r"cannot infer a csv schema from .*/nope: Path does not exist:"
                r" file:.*/nope; correct .*"
            ),
        ),
        (
            "in{a",
            "csv",
            (
                r"cannot infer a csv schema from .*: .*error parsing regexp: Unclosed"
                r" group.*"
            ),
        ),
        (
            "empty.csv",
            "csv",
            (
                r"cannot infer a csv schema from .*/empty.csv: it has no csv rows in"
                r" its encoding; .*"
            ),
        ),
        (
            "plain.txt",
            "json",
            (
                r"cannot infer a json schema from .*/plain.txt: it has no json rows in"
                r" its encoding; .*"
            ),
        ),
        (
            "plain.txt",
            "parquet",
            (
                r"cannot infer a parquet schema from .*/plain\.txt is not a Parquet"
                r" file\. .*"
            ),
        ),
        ("plain.txt", "xml", r"unknown format xml; known: csv, json, orc, parquet"),
    ],
)
def test_infer_says_in_one_line_what_is_wrong(spark, tmp_path, name, given, message):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "plain.txt").write_text("neither JSON nor Parquet\n")
    assert re.fullmatch(message, refusal(infer, spark, tmp_path / name, format=given))


NAMES = "has names in line 1; read it with header=True"
MADE = f"{NAMES}, enforceSchema=True"
FEEDS = "has quoted values with line feeds; read it with multiLine=True"
GARBLED = (
    "may not be UTF-8; if it is windows-1252, as Excel writes on Windows, convert it:"
    " iconv -f windows-1252 "
    r"-t UTF-8 IN > OUT; else give encoding='ISO-8859-1', or 'UTF-16', multiLine=True"
    r" and lineSep='\r\n'"
)
ROUNDED = (
    "has numbers that DOUBLE would round, which stay text (DECIMAL(38,30) holds 30"
    " places),"
)
OTHER_TIMES = (
    "has dates or times in another form than 2026-01-31 10:30:00.123456, which stay"
    " text,"
)
OTHER_NUMBERS = (
    "has numbers in another form than 1.5, or too big for a DOUBLE, which stay text,"
)
BROKEN = "has lines that are not JSON, or not UTF-8; the schema is that of the others"
PARSED = "read its lines (quarantine.parse_csv)"
TEXT = "is all text; if line 1 has names, read it with header=True"
LINES = (
    "has JSON over several lines; write one object per line (jq -c '.[]' for an array,"
    " jq -c . otherwise), or give multiLine=True if it is one value"
)


@pytest.mark.fast("*-said0", "*-said3", "*-said8", "*-said9", "*-said10", "*-said15")
@pytest.mark.parametrize(
    ("content", "ddl", "said"),
    [
        ("year,carrier\n2013,UA\n2014,AA\n", "year INT, carrier STRING", [NAMES]),
        # As pandas writes its index
        (",name\n0,ann\n1,bob\n", "_c0 INT, name STRING", [MADE]),
        ("n,n\n0,ann\n", "n0 INT, n1 STRING", [MADE]),
        (
            "n;of\n1;x,y\n",
            "n INT, of STRING",
            ["has ';' between its values; read it with sep=';'", NAMES],
        ),
        (
            "n\tof\n1\tx\n",
            "n INT, of STRING",
            [r"has '\t' between its values; read it with sep='\t'", NAMES],
        ),
        ("2013,UA\n2014,AA\n", "_c0 INT, _c1 STRING", []),
        ("1,Z\xfcrich\n", "_c0 INT, _c1 STRING", [GARBLED]),
        ("NA\n1\n", "_c0 INT", ["has NA for NULL in _c0; read it with nulls='NA'"]),
        ("name,city\nann,rome\n", "_c0 STRING, _c1 STRING", [TEXT]),
        (
            "n,on\n?,true\n0.5,\\N\n",
            "n DOUBLE, on BOOLEAN",
            [
                NAMES,
                f"has ?, \\N for NULL in n, on; {PARSED} with nulls=['?', '\\\\N']",
            ],
        ),
        (
            "zip,phone,at,x\n01234,+4930123,9:30,-0.5\n94110,+491,10:30,NA\n",
            "zip STRING, phone STRING, at STRING, x DOUBLE",
            [
                NAMES,
                "has NA for NULL in x; read it with nulls='NA'",
                (
                    "has codes (01234, +49, 1E5) or times of a day, which stay text, in"
                    " zip, phone, at"
                ),
            ],
        ),
        (
            "month,at,x\n2026-01,2026-01-05,0.30000000000000004\n2026-02,2026-01-06,1.50000000000000000\n",
            "month STRING, at DATE, x DOUBLE",
            [NAMES, f"{OTHER_TIMES} in month"],
        ),
        (
            "price,n\n0.123456789012345678901234567890,1\n1.5,NA\n",
            "price STRING, n INT",
            [
                NAMES,
                "has NA for NULL in n; read it with nulls='NA'",
                f"{ROUNDED} in price",
            ],
        ),
        (
            'id,note,n\n1,"{""a"": 1, ""b"": 2}",3\n',
            "id INT, note STRING, n INT",
            [NAMES],
        ),
        ('id,note,n\n1,"two\nlines",3\n', "id INT, note STRING, n INT", [NAMES, FEEDS]),
        (
            'id,note,n\r\n1,"two\nlines",3\r\n',
            "id INT, note STRING, n INT",
            [NAMES, rf"{FEEDS}, lineSep='\r\n'"],
        ),
        ('id,note\n\n1,5" disk\n   \n2,6" disk\n', "id INT, note STRING", [NAMES]),
    ],
)
def test_infer_says_what_a_source_of_csv_files_needs(
    spark, tmp_path, caplog, content, ddl, said
):
    (tmp_path / "a.csv").write_text(content, "latin-1")
    assert infer(spark, tmp_path / "a.csv") == from_ddl(ddl)
    assert caplog.messages == [f"{tmp_path}/a.csv {each}" for each in said]


@pytest.mark.fast("0x1p3-DOUBLE")
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2026-01-31 10:00:00.1234567", "TIMESTAMP"),
        ("2026-01-31 10:00:00.123456789", "TIMESTAMP"),
        ("2026-01-31T10:00:00.123456Z", "TIMESTAMP"),
        ("2026-01-31 10:00:00 Europe/Berlin", "TIMESTAMP"),
        ("2026-1-5", "TIMESTAMP"),
        ("2026-01-05", "DATE"),
        ("10000-01-05", "DATE"),
        ("0x1p3", "DOUBLE"),
        ("1e400", "DOUBLE"),
        ("NaN", "DOUBLE"),
        ("12345678901234567890", "DECIMAL(20,0)"),
    ],
)
def test_infer_gives_a_type_only_if_a_source_reads_each_text_so(
    spark, tmp_path, caplog, text, kind
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(f"id,x\n1,{text}\n2,{text}\n")
    schema = infer(spark, tmp_path / "in", format="csv")
    notes = [each for each in caplog.messages if "stay text, in x" in each]
    assert bool(notes) == (schema["x"].dataType == T.StringType())
    read = sources.csv(spark, tmp_path / "in", schema=f"id INT, x {kind}", header=True)
    query = start(read, sinks.memory("inferred"), name="inferred", availableNow=True)
    try:
        run(query)
        assert schema["x"].dataType == from_ddl(f"x {kind}")["x"].dataType
    except QueryFailed:
        assert schema["x"].dataType == T.StringType()


@pytest.mark.fast("*-said0", "*-said3", "*-said5")
@pytest.mark.parametrize(
    ("content", "ddl", "said"),
    [
        (
            "t,x\n2026-01-31 10:00:00.1234567,0x1p3\n2026-01-31,1.5\n",
            "t STRING, x STRING",
            [NAMES, f"{OTHER_TIMES} in t", f"{OTHER_NUMBERS} in x"],
        ),
        ("id,nan\n1,x\n", "id INT, nan STRING", [NAMES]),
        ("id,NA,Inf,null\n1,2,3,4\n", "id INT, NA INT, Inf INT, null INT", [NAMES]),
        ("name,nan\nann,x\n", "_c0 STRING, _c1 STRING", [TEXT]),
        # Rows alone, of which the first has no number
        (
            "ann,NA\nbob,3\n",
            "_c0 STRING, _c1 INT",
            ["has NA for NULL in _c1; read it with nulls='NA'"],
        ),
        ("ann,NaN\nbob,3.5\n", "_c0 STRING, _c1 DOUBLE", []),
    ],
)
def test_infer_knows_names_and_texts_from_values(
    spark, tmp_path, caplog, content, ddl, said
):
    (tmp_path / "a.csv").write_text(content)
    assert infer(spark, tmp_path / "a.csv") == from_ddl(ddl)
    assert caplog.messages == [f"{tmp_path}/a.csv {each}" for each in said]


@pytest.mark.slow
def test_infer_takes_a_pattern_of_the_user_for_dates(spark, tmp_path, caplog):
    (tmp_path / "a.csv").write_text("d,t\n31.01.2026,2026-01-31 10:00:00.1234567\n")
    schema = infer(spark, tmp_path / "a.csv", header=True, dateFormat="dd.MM.yyyy")
    assert schema == from_ddl("d DATE, t STRING")
    assert caplog.messages == [f"{tmp_path}/a.csv {OTHER_TIMES} in t"]


@pytest.mark.slow
def test_infer_takes_what_is_given_and_says_no_more(spark, tmp_path, caplog):
    (tmp_path / "a.csv").write_text("n,m\nNA,-\n2,3\n")
    assert infer(spark, tmp_path / "a.csv", header=True, nullValue="NA") == from_ddl(
        "n INT, m STRING"
    )
    assert infer(spark, tmp_path / "a.csv", HEADER=True, nullvalue="NA") == from_ddl(
        "n INT, m STRING"
    )
    (tmp_path / "b.tsv").write_text("n;m\n1;3\n")
    assert infer(spark, tmp_path / "b.tsv", Header=True, delimiter=";") == from_ddl(
        "n INT, m INT"
    )
    assert infer(spark, tmp_path / "a.csv", header=False).names == ["_c0", "_c1"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "ddl", "said"),
    [
        (
            '[\n{"a": 1, "B": "x"},\n{"a": 2, "B": "y"}\n]\n',
            "B STRING, a BIGINT",
            [LINES],
        ),
        (
            '{\n  "a": 1,\n  "of": [\n    {"x": 1}\n  ]\n}\n',
            "a BIGINT, of ARRAY<STRUCT<x: BIGINT>>",
            [LINES],
        ),
        ('[{"a": 1}, {"a": 2}]\n', "a BIGINT", []),
        (
            (
                '{"at": "2024-01-01T08:10:00Z", "m": "2024-01"}\n{"at": "2024-01-01'
                ' 08:10:00.5+02:00"}\n'
            ),
            "at TIMESTAMP, m STRING",
            [],
        ),
        ('{"at": "2024-01-01T08:10:00Z"}\n{"at": "soon"}\n', "at STRING", []),
        # No time that a source reads.
        (
            '{"at": "2024-01-01T08:10:00Z"}\n{"at": "0000-00-00 00:00:00"}\n',
            "at STRING",
            [],
        ),
        (
            (
                '{"a": {"at": "2024-01-01 08:10:00Z", "b.c": [{"t":'
                ' "2024-01-01T08:10"}]}}\n{"a": {}}\n'
            ),
            "a STRUCT<at: TIMESTAMP, `b.c`: ARRAY<STRUCT<t: TIMESTAMP>>>",
            [],
        ),
        (
            '[\n{"at": "2024-01-01T08:10:00Z"}\n,{"at":\nnull}]\n',
            "at TIMESTAMP",
            [LINES],
        ),
        (
            (
                '{"p": 0.123456789012345678901234567890, "q":'
                ' 0.30000000000000004}\n{"p": 1, "q": -1.5}\n'
            ),
            "p DECIMAL(38,30), q DOUBLE",
            ["has numbers that DOUBLE would round, so they are decimal(38,30), in p"],
        ),
        (
            (
                '{"a": [{"p": 1.5}, {"p": -12345678901234567.25}], "of": {"q": [1e-9,'
                " 0.1234567890123456789]}}\n"
            ),
            "a ARRAY<STRUCT<p: DECIMAL(38,2)>>, of STRUCT<q: ARRAY<DOUBLE>>",
            [
                (
                    "has numbers that DOUBLE would round, so they are decimal(38,2), in"
                    " a.[].p"
                ),
                (
                    "has numbers that DOUBLE rounds, and more digits than a DECIMAL"
                    " has, in of.q.[]"
                ),
            ],
        ),
        ('{"a": 1\n{"b": 1}\n', "b BIGINT", [BROKEN]),
        ('{"a": 1}\n{"a": \n', "a BIGINT", [BROKEN]),
    ],
)
def test_infer_reads_json_over_several_lines(
    spark, tmp_path, caplog, content, ddl, said
):
    (tmp_path / "a.json").write_text(content)
    assert infer(spark, tmp_path / "a.json") == from_ddl(ddl)
    assert caplog.messages == [f"{tmp_path}/a.json {each}" for each in said]


def test_infer_takes_partition_values_as_text_and_leaves_the_session_as_it_is(
    spark, tmp_path
):
    (tmp_path / "store=007" / "day=01").mkdir(parents=True)
    (tmp_path / "store=007" / "day=01" / "a.csv").write_text("n,name\n1,ann\n")
    assert infer(spark, tmp_path) == from_ddl(
        "n INT, name STRING, store STRING, day STRING"
    )
    refusal(infer, spark, tmp_path / "nope")
    assert (
        spark.conf.get("spark.sql.sources.partitionColumnTypeInference.enabled")
        == "true"
    )


# --- to code


@pytest.mark.parametrize(
    "schema",
    [
        SALES,
        T.StructType([]),
        from_dataclass(Item),
        T.StructType()
        .add("a", T.VarcharType(5))
        .add("b", T.DayTimeIntervalType(0, 3))
        .add("c", T.TimestampNTZType()),
        T.StructType(
            [
                T.StructField(
                    'it\'s "odd"\n\\é', T.StringType(), metadata={"comment": "it's"}
                )
            ]
        ),
        schema_of(s=T.MapType(T.StringType(), SALES)),
    ],
)
def test_the_code_makes_an_equal_schema(schema):
    names: dict[str, Any] = {}
    exec(to_code(schema), names)  # noqa: S102 - the code is our own
    assert T.StructType.fromDDL(names["SCHEMA"]) == schema


def test_the_code_has_one_column_a_line():
    assert (
        to_code(schema_of(key="string", sale=SALES)) == "SCHEMA = (\n"
        '    "key STRING, "\n'
        '    "sale STRUCT<ProductKey: STRING, SaleAmount: DECIMAL(12,2)>"\n'
        ")\n"
    )


@pytest.mark.fast("part-0-*", "a.json*")
@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("a.json", '{"x": 1}\n', ["x"]),
        ("a.jsonl.gz", None, ["x"]),
        ("part-0", "x,y\n1,2\n", ["x", "y"]),
        ("a.csv", '{"x,y\n1,2\n', ['{"x', "y"]),
    ],
)
def test_infer_takes_the_format_from_the_files(spark, tmp_path, name, content, names):
    data = gzip.compress(b'{"x": 1}\n') if content is None else content.encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in" / "_truth.json").write_text("{}")  # Spark passes over it
    for path in (tmp_path / "in", tmp_path / "in" / name):
        assert infer(spark, path, header=True).names == names


def test_infer_refuses_a_header_alone(spark, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n")
    said = refusal(infer, spark, tmp_path / "a.csv", header=True)
    assert said.endswith(
        "it has no csv rows in its encoding; give a file that has some"
    )


def test_ddl_takes_no_default_and_two_columns_of_one_name_as_sparks_parser_does():
    assert from_ddl("a INT, A STRING").names == ["a", "A"]
    assert "cannot read DDL" in refusal(from_ddl, "a INT DEFAULT 5")
    assert from_ddl("a INT NOT NULL COMMENT 'x'").fields[0].metadata == {"comment": "x"}
