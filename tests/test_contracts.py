"""Data contracts (ODCS): what is read, refused or remarked on, types, formats, drafts, changes."""

import sys

import pytest
import yaml
from conftest import refusal
from pyspark.sql import types as T
from support.contracts import BEGINS, written

from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.schemas import formats_of, from_contract
from sparkstream_kit.schemas.changes import Change, changes
from sparkstream_kit.schemas.contracts import read, schema_of
from sparkstream_kit.schemas.drafts import draft
from sparkstream_kit.schemas.physical import physical_type

# --- types

TYPES = {
    "logicalType: string": "string",
    "logicalType: string, physicalType: VARCHAR(18)": "string",
    "logicalType: string, physicalType: bytea": "binary",
    "logicalType: integer": "bigint",
    "logicalType: integer, physicalType: int": "int",
    "logicalType: integer, physicalType: int unsigned": "bigint",
    'logicalType: integer, physicalType: "NUMBER(9)"': "decimal(9,0)",
    "logicalType: integer, physicalType: numeric": "decimal(20,0)",
    "logicalType: integer, physicalType: double": "bigint",
    "logicalType: integer, logicalTypeOptions: {format: i32}": "int",
    "logicalType: integer, logicalTypeOptions: {format: u8}": "smallint",
    "logicalType: integer, logicalTypeOptions: {format: u64}": "decimal(20,0)",
    "logicalType: number": "double",
    "logicalType: number, logicalTypeOptions: {format: f32}": "float",
    'logicalType: number, physicalType: "decimal(12,2)"': "decimal(12,2)",
    "logicalType: number, physicalType: decimal": "decimal(38,18)",
    "logicalType: number, physicalType: float": "double",
    "logicalType: number, physicalType: bigint": "bigint",
    "logicalType: number, physicalType: money": "decimal(19,4)",
    "logicalType: boolean, physicalType: bit": "boolean",
    "logicalType: date": "date",
    "logicalType: date, physicalType: varchar(10)": "date",
    "logicalType: date, physicalType: timestamp": "timestamp",
    'logicalType: date, logicalTypeOptions: {format: "yyyy-MM-dd HH:mm"}': "timestamp",
    'logicalType: date, logicalTypeOptions: {format: "HH:mm"}': "string",
    "logicalType: date, physicalType: time": "string",
    "logicalType: timestamp": "timestamp",
    "logicalType: timestamp, physicalType: timestamp_ntz": "timestamp_ntz",
    "logicalType: timestamp, physicalType: DATETIME": "timestamp",
    "logicalType: time": "string",
    "logicalType: object": "variant",
    'logicalType: object, physicalType: "map<string, int>"': "map<string,int>",
    "logicalType: object, properties: [{name: x, logicalType: date}]": "struct<x:date>",
    "logicalType: array": "array<variant>",
    'logicalType: array, physicalType: "text[]"': "array<string>",
    "logicalType: array, items: {logicalType: integer}": "array<bigint>",
    (
        "logicalType: array, items: {logicalType: array, items: {logicalType: date}}"
    ): "array<array<date>>",
    "logicalType: map": "map<string,variant>",
    (
        "logicalType: map, map: {key: {logicalType: string}, value: {logicalType: date}}"
    ): "map<string,date>",
    "logicalType: vector": "array<float>",
    "logicalType: vector, logicalTypeOptions: {elementType: float64}": "array<double>",
    "physicalType: smallint": "smallint",
    'physicalType: "struct<Ab: int, c: array<decimal(5, 2)>>"': (
        "struct<Ab:int,c:array<decimal(5,2)>>"
    ),
}


@pytest.mark.parametrize("words", TYPES)
def test_a_type_is_logical_and_its_size_physical(words, tmp_path):
    schema = from_contract(written(tmp_path, f"name: a, {words}"))
    assert schema["a"].dataType.simpleString() == TYPES[words]


@pytest.mark.parametrize(
    ("words", "remark"),
    [
        (
            "logicalType: number, physicalType: geography",
            "physicalType geography is read as double",
        ),
        (
            "logicalType: number, physicalType: numeric",
            "numeric without its digits is decimal(38,18)",
        ),
        ("logicalType: object", "an object without properties is a VARIANT"),
        ("logicalType: array", "an array without items has elements of VARIANT"),
        ("logicalType: map", "a map without types has values of VARIANT"),
    ],
)
def test_a_type_that_is_chosen_here_is_remarked_on(words, remark, tmp_path):
    path = written(tmp_path, f"name: a, {words}")
    said: list[str] = []
    schema_of(read("test", path), None, said.append)
    assert said == [f"{path}: orders.a: {remark}"]


def test_required_and_descriptions_at_all_depths(tmp_path):
    path = written(
        tmp_path,
        "name: id, logicalType: integer, required: true, description: 'The number\n  of it'",
        "name: lines, logicalType: array, items: {logicalType: object, required: true,"
        " properties: [{name: sku, logicalType: string, required: true},"
        " {name: qty, physicalName: quantity, logicalType: integer}]}",
        "name: place, logicalType: object, logicalTypeOptions: {required: [zip]},"
        " properties: [{name: zip, logicalType: string}, {name: x, logicalType: number}]",
        "name: total, logicalType: number, semanticType: measure",
        apiVersion="v3.2.0",
    )
    line = T.StructType().add("sku", "string", nullable=False).add("quantity", "long")
    place = T.StructType().add("zip", "string", nullable=False).add("x", "double")
    expected = (
        T.StructType()
        .add("id", "long", nullable=False, metadata={"comment": "The number of it"})
        .add("lines", T.ArrayType(line, containsNull=False))
        .add("place", place)
    )
    found = from_contract(str(path), "orders")
    assert found == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("character varying(20)", "string"),
        ("DOUBLE PRECISION", "double"),
        ("timestamp without time zone", "timestamp"),
        ("bigint unsigned", "decimal(20,0)"),
        ("text unsigned", "string"),
        ("decimal(40,2)", "decimal(38,18)"),
        ("map<string, array<int>>", "map<string,array<int>>"),
        ("array<geography>", None),
        ("map<int>", None),
        ("struct<a: geography>", None),
        ("geography", None),
        ("geography[]", None),
        ("geography unsigned", None),
        ("", None),
    ],
)
def test_types_of_databases(name, kind):
    found = physical_type(name)
    assert (found and found.simpleString()) == kind


# --- formats


@pytest.mark.parametrize(
    ("parts", "formats"),
    [
        (["name: a, logicalType: date"], {}),
        (
            ['name: a, logicalType: date, logicalTypeOptions: {format: "yyyy-MM-dd"}'],
            {},
        ),
        (
            ['name: a, logicalType: date, logicalTypeOptions: {format: "d.M.yyyy"}'],
            {"date_format": "d.M.yyyy"},
        ),
        (
            [
                (
                    "name: a, logicalType: timestamp,"
                    " logicalTypeOptions: {format: \"yyyy-MM-dd'T'HH:mm:ss.SSSXXX\"}"
                )
            ],
            {},
        ),
        (
            [
                (
                    "name: a, logicalType: timestamp,"
                    ' logicalTypeOptions: {format: "yyyy-MM-ddTHH:mm:ssZ"}'
                )
            ],
            {},
        ),
        (
            [
                (
                    "name: a, logicalType: timestamp,"
                    ' logicalTypeOptions: {format: "dd/MM/yyyyTHH:mm"}'
                )
            ],
            {"timestamp_format": "dd/MM/yyyy'T'HH:mm"},
        ),
        (
            [
                'name: a, logicalType: date, logicalTypeOptions: {format: "d.M.yyyy"}',
                (
                    "name: b, logicalType: array, items: {logicalType: timestamp,"
                    ' logicalTypeOptions: {format: "d.M.yyyy H:mm"}}'
                ),
            ],
            {"date_format": "d.M.yyyy", "timestamp_format": "d.M.yyyy H:mm"},
        ),
    ],
)
def test_formats_are_those_of_a_parser(parts, formats, tmp_path):
    assert formats_of(written(tmp_path, *parts), "orders") == formats


def test_two_formats_of_one_type_are_refused(tmp_path):
    path = written(
        tmp_path,
        "name: a, logicalType: date",
        "name: b, logicalType: object, properties:"
        " [{name: c, logicalType: date, logicalTypeOptions: {format: d.M.yy}}]",
    )
    assert refusal(formats_of, path) == (
        f"{path}: orders has columns of one type in several formats (a: ISO 8601, b.c:"
        " d.M.yy), of which a parser takes one; make some of them logicalType string"
    )


# --- reading

REFUSED = {
    "apiVersion: v3.1.0\nid: x\nid: y": "has the key id (line 3) twice, of which YAML",
    "a: [": "is no YAML: while parsing a flow node expected",
    "- a": "is no contract; give a file of ODCS 3",
    "dataContractSpecification: 1.1.0": "it needs kind: DataContract and an apiVersion",
    "apiVersion: v3.1.0\nkind: DataProduct": "is no contract of ODCS; it needs kind:",
    "apiVersion: v2.2.2\nkind: DataContract": "is of ODCS 2.2.2, and this reads ODCS 3; ask",
    "apiVersion: v4.0.0": "is of ODCS 4.0.0, and this reads ODCS 3; use a newer",
    "apiVersion: v3.1.0\nshcema: []": (
        "the contract: unknown key of a contract: shcema; did you mean schema?"
    ),
    "apiVersion: v3.1.0\nschema: [{name: a, propertys: []}]": (
        "a: unknown key of a contract: propertys; did you mean properties?"
    ),
    "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, requierd: true}]}]": (
        "a.b: unknown key of a contract: requierd; did you mean required?"
    ),
    (
        "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, logicalType: array,"
        " items: {logicalType: number, logicalTypeOptions: {minimun: 1}}}]}]"
    ): "a.b[]: unknown key of a contract: minimun; did you mean minimum?",
    "apiVersion: v3.1.0\nschema: [{name: a, quality: [{metrik: rowCount}]}]": (
        "a: quality: unknown key of a contract: metrik; did you mean metric?"
    ),
    (
        "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, logicalType: Integer}]}]"
    ): "a.b: unknown key of a contract: logicalType Integer; did you mean integer?",
    (
        "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, physicalType: int,"
        " logicalTypeOptions: {minimun: 0}}]}]"
    ): "a.b: unknown key of a contract: minimun; did you mean minimum?",
    "apiVersion: v3.1.0\nname: {{ name }}\nschema: []": "is no YAML: ",
    "apiVersion: v3.1.0\nname: &a [*a]": "is no YAML: maximum recursion depth exceeded",
    "apiVersion: v3.1.0\non: 1\nschema: []": "has 0 objects in its schema",
    "apiVersion: v3.1.0\nschema: [{name: a, quality: [{1: 2}]}]": (
        "a has no properties; it needs its columns"
    ),
    "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, map: {key: }}]}]": (
        "a.b has no type that is known"
    ),
    "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, required: often}]}]": (
        "schema.a.properties.b.required: Input should be a valid boolean"
    ),
    "apiVersion: v3.1.0\nschema: [{physicalName: a}]": "an element of the schema has no name",
    "apiVersion: v3.1.0\nschema: [{name: a, properties: [{logicalType: date}]}]": (
        "an element of a has no name; give it one"
    ),
    "apiVersion: v3.1.0\nschema: []": "has 0 objects in its schema; name one of them",
    "apiVersion: v3.1.0\nschema: [{name: a}, {name: b}]": "name one of them: a, b",
    "apiVersion: v3.1.0\nschema: [{name: a}]": "a has no properties; it needs its columns",
    "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b}]}]": (
        "a.b has no type that is known (it has none); give it a logicalType: array,"
    ),
    (
        "apiVersion: v3.3.0\nschema: [{name: a, properties: [{name: b, logicalType: point}]}]"
    ): "a.b has no type that is known (point); give it a logicalType",
    (
        "apiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, logicalType: date},"
        " {name: c, physicalName: B, logicalType: date}]}]"
    ): "a: column b appears twice; rename or drop one",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_a_mistake_in_a_contract_is_one_line(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    said = refusal(from_contract, path)
    assert str(path) in said
    assert REFUSED[text] in said


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    path = tmp_path / "a.yaml"
    fix = "give the path of its file"
    assert refusal(from_contract, path) == (
        f"cannot read the contract {path}: No such file or directory; {fix}"
    )
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(from_contract, path) == (
        f"cannot read the contract {path}: it is not UTF-8; {fix}"
    )


def test_an_object_is_found_by_both_names(tmp_path):
    path = written(
        tmp_path, "name: a, logicalType: date", table={"physicalName": "orders_1"}
    )
    assert from_contract(path, "orders_1") == from_contract(path, "orders")
    assert refusal(from_contract, path, "order") == (
        f"{path} has no object order in its schema; did you mean orders?; it has: orders"
    )
    assert "; it has: orders" in refusal(from_contract, path, "zzz")


def test_a_newer_minor_version_is_read_and_what_is_new_in_it_named(tmp_path):
    path = written(
        tmp_path,
        "name: a, logicalType: string, requiredd: true, logicalTypeOptions: {patern: x}",
        apiVersion="v3.9.0",
        contexts="new",
    )
    contract = read("test", path)
    assert contract.remarks == [
        f"{path}: the contract: contexts is not known here, and has no effect",
        f"{path}: orders.a: requiredd is not known here, and has no effect",
        f"{path}: orders.a: patern is not known here, and has no effect",
    ]
    assert contract.version == "3.9.0"
    assert from_contract(path).simpleString() == "struct<a:string>"


def test_a_key_of_ones_own_is_remarked_on_and_no_mistake(tmp_path):
    path = written(tmp_path, "name: a, logicalType: date, zzz: 5")
    [remark] = read("test", path).remarks
    assert remark.endswith("orders.a: zzz is not known here, and has no effect")


def test_without_the_library_one_line_says_what_to_install(monkeypatch, tmp_path):
    path = written(tmp_path, "name: a, logicalType: date")
    monkeypatch.setitem(sys.modules, "open_data_contract_standard", None)
    with pytest.raises(MissingExtraError) as caught:
        from_contract(path)
    assert str(caught.value) == (
        "schemas.from_contract needs an optional library; run: pip install"
        " 'sparkstream-kit[contract]'"
    )


# --- drafts


def test_a_draft_is_a_contract_that_gives_the_same_schema(tmp_path):
    inner = T.StructType().add("n", "short").add("x", T.FloatType(), nullable=False)
    schema = (
        T.StructType()
        .add("id", "long", nullable=False, metadata={"comment": "Its number"})
        .add("name", "string")
        .add("price", T.DecimalType(12, 2))
        .add("share", "double")
        .add("paid", "boolean")
        .add("day", "date")
        .add("at", "timestamp")
        .add("local", "timestamp_ntz")
        .add("photo", "binary")
        .add("any", T.VariantType())
        .add("lines", T.ArrayType(inner, containsNull=False))
        .add("counts", T.MapType(T.StringType(), T.IntegerType()))
    )
    path = tmp_path / "drafted.yaml"
    path.write_text(draft(schema, "orders"))
    assert from_contract(path, "orders") == schema
    raw = yaml.safe_load(path.read_text())
    assert (raw["apiVersion"], raw["status"]) == ("v3.2.0", "draft")
    assert "apiVersion: v3.1.0\n" in draft(T.StructType().add("a", "integer"), "a")


# --- changes

CHANGED = {
    ("name: a, logicalType: integer", "name: a, logicalType: string"): Change(
        True,
        "orders.a is string, and was bigint; where the state or a table has it, start on"
        " a new checkpoint",
    ),
    (
        "name: a, logicalType: integer",
        "name: a, logicalType: integer, required: true",
    ): Change(True, "orders.a is required, and was not: rows without it are set aside"),
    (
        "name: a, logicalType: integer, required: true",
        "name: a, logicalType: integer",
    ): Change(True, "orders.a may be missing: the old contract sets such rows aside"),
    ("name: b, logicalType: date", ""): Change(
        True, "orders.b is gone: it is NULL in new rows"
    ),
    ("name: b, logicalType: date, required: true", ""): Change(
        True, "orders.b is gone, and was required: new rows are set aside"
    ),
    ("", "name: b, logicalType: date"): Change(
        False, "orders.b date is new; it is left out until it is read"
    ),
    ("", "name: b, logicalType: date, required: true"): Change(
        True, "orders.b date is new and required: rows from before lack it"
    ),
    (
        "name: a, logicalType: array, items: {logicalType: integer}",
        "name: a, logicalType: array, items: {logicalType: string}",
    ): Change(
        True,
        "orders.a[] is string, and was bigint; where the state or a table has it, start on"
        " a new checkpoint",
    ),
    (
        "name: a, logicalType: object, properties: [{name: x, logicalType: date}]",
        (
            "name: a, logicalType: object, properties: [{name: x, logicalType: date},"
            " {name: y, logicalType: date}]"
        ),
    ): Change(False, "orders.a.y date is new; it is left out until it is read"),
    (
        "name: a, logicalType: integer, logicalTypeOptions: {minimum: 0}",
        "name: a, logicalType: integer",
    ): Change(False, "orders: rule a: minimum 0 is gone"),
    (
        "name: a, logicalType: integer",
        "name: a, logicalType: integer, logicalTypeOptions: {minimum: 0}",
    ): Change(
        False, "orders: rule a: minimum 0 is new: rows that break it are set aside"
    ),
    (
        "name: a, logicalType: string, logicalTypeOptions: {pattern: a}",
        "name: a, logicalType: string, logicalTypeOptions: {pattern: b}",
    ): Change(
        False,
        "orders: rule a: pattern is another one: rows that break it are set aside",
    ),
    (
        "name: a, logicalType: integer",
        "name: a, logicalType: integer, quality: [{metric: nullValues, mustBeLessThan: 5}]",
    ): Change(
        False, "orders: rule a: nullValues is new: rows that break it are counted"
    ),
    (
        "name: a, logicalType: date",
        "name: a, logicalType: date, logicalTypeOptions: {format: d.M.yy}",
    ): Change(True, "orders: date_format is d.M.yy, and was ISO 8601"),
    (
        "name: a, logicalType: date, description: one",
        "name: a, logicalType: date, description: two",
    ): None,
}


@pytest.mark.parametrize("pair", CHANGED, ids=range(len(CHANGED)))
def test_a_change_says_what_it_does_to_a_running_query(pair, tmp_path):
    always = "name: id, logicalType: integer, required: true"
    paths = []
    for number, words in enumerate(pair):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(written(folder, *filter(None, (always, words))))
    found = changes(*(read("test", path) for path in paths))
    assert found == list(filter(None, [CHANGED[pair]]))


def test_objects_come_and_go(tmp_path):
    path = tmp_path / "a.yaml"
    contracts = []
    for names in (["orders", "shops"], ["orders", "lines"]):
        schema = [{"name": name} for name in names]
        path.write_text(yaml.safe_dump({**BEGINS, "schema": schema}))
        contracts.append(read("test", path))
    assert changes(*contracts) == [
        Change(True, "shops is gone"),
        Change(False, "lines is new"),
    ]
