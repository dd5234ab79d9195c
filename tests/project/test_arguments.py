"""Wrong objects given to every public call: one line says what was given and the fix."""

import dataclasses
import inspect
import pkgutil
import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from typing import Any
from unittest.mock import Mock

import pytest
from conftest import cases, refusal
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

import sparkstream_kit
from sparkstream_kit import sinks, sources, start, testing
from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit.errors import InvalidInputError

# Whose arguments are no objects of a caller's: texts of a command line, and what all
# others stand on.
LEFT_OUT = {"cli", "errors", "jobflags"}
# What only the kit makes: their constructors take what it has checked.
MADE_HERE = {"Query", "Source", "Streams"}
# The methods of a rule of `state`, which the kit calls.
OF_RULES = {"due", "expire", "step"}


class Alien:
    """What no call takes."""

    __module__ = "builtins"


def public_calls():
    """Return the functions, constructors and methods that the package's rooms export."""
    found: dict[str, Callable[..., Any]] = {}
    rooms = {
        room.name
        for room in pkgutil.iter_modules(sparkstream_kit.__path__)
        if room.name[0] != "_"
    }
    for room in sorted(rooms - LEFT_OUT):
        module = import_module(f"sparkstream_kit.{room}")
        for name in module.__all__:
            each = getattr(module, name)
            if inspect.isfunction(each):
                found[f"{room}.{name}"] = each
            elif inspect.isclass(each):
                if not dataclasses.is_dataclass(each) and name not in MADE_HERE:
                    found[f"{room}.{name}"] = each
                methods = {
                    key: value
                    for key, value in vars(each).items()
                    if inspect.isfunction(value)
                }
                public = {key for key in methods if key == "__call__" or key[0] != "_"}
                for key in sorted(public - (OF_RULES if room == "state" else set())):
                    found[f"{room}.{name}.{key}"] = methods[key]
    return found


def parameters(function):
    """Return what a call takes, without `self`."""
    every = inspect.signature(function).parameters.values()
    return [each for each in every if each.annotation is not each.empty]


# The calls that take what people confuse: an object of Spark's or the kit's, a path, or
# one of these names.
OBJECTS = re.compile(
    r"Column|DStream|DataFrame|DataStreamWriter|Duration|Path|Session|Sink|StreamingContext|StreamingQuery|StructType"
)
NAMES = {"ddl", "mode", "name", "port", "profile", "table", "url"}
CALLS = {
    call: function
    for call, function in public_calls().items()
    if any(
        OBJECTS.search(str(each.annotation)) or each.name in NAMES
        for each in parameters(function)
    )
}


def is_refused(function, parameter):
    stars = {
        parameter.VAR_POSITIONAL: [Alien()],
        parameter.VAR_KEYWORD: {"name": Alien()},
    }
    try:
        check(function, {parameter.name: stars.get(parameter.kind, Alien())})
    except InvalidInputError:
        return True
    return False


def seen(function):
    return [each.name for each in parameters(function) if is_refused(function, each)]


@pytest.mark.parametrize("call", [call for call in CALLS if any(seen(CALLS[call]))])
def test_each_call_looks_at_its_arguments_before_all_else(call):
    function = CALLS[call]
    in_place: list[Any] = (
        [Mock()] if "self" in inspect.signature(function).parameters else []
    )
    by_name = {}
    first, *_ = seen(function)
    for each in parameters(function):
        given = Alien() if each.name in seen(function) else StructType([])
        if each.kind is each.VAR_POSITIONAL or (
            each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty
        ):
            in_place.append(given)
        elif each.name == first or (
            each.kind is each.KEYWORD_ONLY and each.default is each.empty
        ):
            by_name[each.name] = given
    with (
        ExitStack() as stack,
        pytest.raises(
            InvalidInputError, match=rf"(\(\): |^){first} is an Alien; \w+"
        ) as caught,
    ):
        stack.enter_context(function(*in_place, **by_name))
    assert "\n" not in str(caught.value)


# Calls as a user writes them, with the names of the things above and of the package,
# and what each is told.
CONFUSED = cases("""
start(frame, sinks.memory)
    start(): sink is the function sinks.memory; call it: sinks.memory(…)
start(frame, 'jdbc')
    start(): sink is the string 'jdbc'; give a sink, such as sinks.console()
start(None, sinks.console())
    start(): frame is None; give a DataFrame
start(pandas, sinks.console())
    start(): frame is a pandas.DataFrame; make it a DataFrame of Spark's: spark.createDataFrame(…)
start(frame.writeStream, sinks.console())
    start(): frame is a DataStreamWriter; give a DataFrame
start(sinks.console(), frame)
    start(): frame is a SparkSink; give a DataFrame
start(frame.toPandas, sinks.console())
    start(): frame is the function DataFrame.toPandas; call it: DataFrame.toPandas(…)
start(frame, sinks.console(), checkpoint='')
    start(): checkpoint is an empty string; give a path
start(frame, sinks.console(), processingTime=5)
    processingTime is 5; give a duration, such as '10 seconds' or timedelta(seconds=10)
start(frame, sinks.console(), processingTime=timedelta(-1))
    start(): processingTime is -1 day, 0:00:00; give 0 seconds or more
start(frame, sinks.console(), availableNow='yes')
    start(): availableNow is the string 'yes'; give availableNow=True, or leave it out
start(frame, sinks.console(), mode='Append')
    unknown output mode Append; did you mean append?
start(frame, sinks.console(), chekpoint='in')
    unknown keyword of start() chekpoint; did you mean checkpoint?
start(frame, sinks.console(), outputMode='update')
    unknown keyword of start() outputMode; did you mean mode?
start(frame, sinks.console(), processingTime='5')
    cannot read processingTime '5'; write it like '10 seconds', '1 hour 30 minutes', '0.5 seconds'
    or timedelta(seconds=10)
start(frame, sinks.console(), availableNow=True, processingTime='1 second')
    start() takes one trigger, not availableNow and processingTime; leave out the others
sinks.latest(5)
    sinks.latest(): table is 5; give a string
sinks.by_value(5, print)
    sinks.by_value(): column is 5; give a string
sinks.fan_out(sinks.latest)
    sinks.fan_out(): sinks is the function sinks.latest; call it: sinks.latest(…)
sources.text(session, 'in', max_files_per_trigger=True)
    sources.text(): max_files_per_trigger is True; give a whole number
sinks.files('out', partition_by=['day', 5])
    sinks.files(): partition_by is a list; give a list of strings
windows.tumbling(5, '1 minute')
    windows.tumbling(): time is 5; give a Column or a string
run(frame)
    run(): queries is a DataFrame; give a query that start(…) returned
sources.text('in', session)
    sources.text(): spark is the string 'in'; give a session, such as get_session('name')
sources.socket_lines(session, 'localhost', '9999')
    sources.socket_lines(): port is the string '9999'; give a whole number
start(frame.groupBy('value'), sinks.console())
    start(): frame is a GroupedData; end it with an aggregation, such as .count()
start(session.readStream, sinks.console())
    start(): frame is a DataStreamReader; end it with .load(…)
sources.csv(session, 'in', schema=type(frame.schema))
    sources.csv(): schema is the class StructType; a dataclass is read by schemas.from_dataclass
run([ended])
    run(): queries is a list; give them one by one, or with a star: *queries
sources.text(SparkSession.builder, 'in')
    sources.text(): spark is a Builder; give a session, such as get_session('name')
sources.csv(session, 'in', schema='n INTT')
    cannot read DDL 'n INTT': Unsupported data type "INTT" (line 1, pos 2); did you mean INT?
sinks.files('out', partition_by='day')
    sinks.files(): partition_by is the string 'day'; give a list of strings
sinks.console()(frame)
    sinks.Sink(): writer is a DataFrame; give a DataStreamWriter
windows.flatten(frame, F.col('window'))
    windows.flatten(): column is a Column; give the column's name
display.render(frame, 'table')
    render() shows a static DataFrame, and this one is streaming; show the table of its
    query: start(frame, sinks.latest('name'), mode='complete'), then
    render(spark.table('name'), 'table')
get_session('name', conf='spark.ui.port=1')
    get_session(): conf is the string 'spark.ui.port=1'; give a dict
""")
KIT = {
    name: getattr(sparkstream_kit, name)
    for name in dir(sparkstream_kit)
    if name[0] != "_"
}


@pytest.fixture(scope="module")
def things(spark):
    """What people give, by the names of the calls above."""
    frame = sources.rate(spark)
    ended = start(frame, sinks.memory("confused"))
    ended.stop()
    return {
        "session": spark,
        "frame": frame,
        "pandas": spark.range(1).toPandas(),
        "ended": ended,
    }


@pytest.mark.parametrize("wrong", CONFUSED)
def test_what_people_confuse_has_its_own_fix(things, wrong):
    assert (
        refusal(
            eval,
            wrong,
            KIT
            | {"F": F, "SparkSession": SparkSession, "timedelta": timedelta}
            | things,
        )
        == CONFUSED[wrong]
    )


def test_a_watermark_is_a_timestamp_and_a_delay(spark):
    rows = spark.range(1).selectExpr(
        "id AS value", "timestamp_seconds(id) AS timestamp"
    )
    for watermark, message in {
        "time": "watermark is a text; give a column and a delay: (",
        ("value", "1 hour"): "event-time column value is bigint, not a timestamp",
        (
            "timestamp",
            5,
        ): "delay is 5; give a duration, such as '10 seconds' or timedelta(seconds=10)",
    }.items():
        told = refusal(
            testing.assert_stream_equals_batch,
            lambda frame: frame,
            rows,
            watermark=watermark,
        )
        assert message in told


def test_a_stream_is_no_batch_and_a_file_no_checkpoint(things, tmp_path):
    told = refusal(
        testing.assert_stream_equals_batch, lambda frame: frame, things["frame"]
    )
    assert "rows is a streaming DataFrame; give a static one" in told
    file = tmp_path / "file"
    file.touch()
    told = refusal(start, things["frame"], sinks.memory("file"), checkpoint=file)
    assert f"checkpoint {file} cannot be written: {file} is no folder" in told


def test_a_value_is_said_shortly_and_without_a_password():
    assert (
        said("postgresql://me:se/c:r@et@host/name")
        == "the string 'postgresql://me:***@host/name'"
    )
    assert (
        said(f"postgresql://me:{'x' * 100}@host/name")
        == "the string 'postgresql://me:***@host/name'"
    )
    assert said(str.join) == "the function str.join"
    assert said("x" * 100) == f"the string '{'x' * 60}…'"


def test_what_fits_is_taken_as_it_was(spark, folder, tmp_path):
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    query = start(
        lines,
        sinks.files(tmp_path / "out"),
        name="n",
        checkpoint=tmp_path / "c",
        processingTime=timedelta(0),
    )
    query.processAllAvailable()
    query.stop()
    assert (tmp_path / "out" / "_spark_metadata").is_dir()


# What no look at a type can tell: options, triggers, times and rows, which have tests
# of their own.
NOT_LOOKED_AT = {
    *(
        "Any",
        "Duration",
        "Duration | None",
        "Iterable[Any] | None",
        "Iterable[dict[str, Any]]",
    ),
    *("Iterable[str]", "Iterable[str] | Callable[[], Iterable[str]]"),
    *("Iterable[tuple[str, str | bytes]]", "Rule | Sequence[Rule]", "Sequence[Record]"),
    *("StreamingQueryProgress", "_Frame", "str | datetime"),
    *(
        "str | datetime | Mapping[str, Mapping[int, int | str]]",
        "str | datetime | None",
    ),
    *(
        "str | timedelta",
        "threading.Event | None",
        "tuple[int, int] | None",
        "tuple[str, str | timedelta] | None",
    ),
}


def test_the_type_of_each_argument_is_looked_at():
    each = [
        (function, parameter)
        for function in CALLS.values()
        for parameter in parameters(function)
    ]
    assert len(each) > 250
    assert {one[1].annotation for one in each if not is_refused(*one)} == NOT_LOOKED_AT
