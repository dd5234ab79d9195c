"""Topics of Kafka as a sink: Spark's own writer, with headers by which a reader drops what comes twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column
from sparkstream_kit._spark import plan as asking
from sparkstream_kit._spark.batch import id_of_batch
from sparkstream_kit.connectors.kafka.source import topics_there
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import MODES, Sink
from sparkstream_kit.sinks.builtin import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place


_QUERY, _BATCH, _ROW = "sparkstream.query", "sparkstream.batch", "sparkstream.row"
_AT, _ID = "_at", "_id"  # a row's place in the batch, and what it is known by there
_BYTES = (T.BinaryType, T.StringType)
_TEXTS = (T.BooleanType, T.DateType, T.DecimalType, T.IntegralType)  # whose text is the same everywhere


def kafka(
    servers: str,
    topic: str,
    *,
    key: str | None = None,
    value: str | None = None,
    row_id: Sequence[str] = (),
    **options: Any,
) -> Sink:
    """Write each row as a record of a Kafka topic.

    Kafka has no transaction that ends with Spark's batch, so after a crash the rows of the last batch can be
    in the topic twice. Each record says in its headers which row it is, so that a reader can drop the second
    one: `sparkstream.query` (the query's id, which its checkpoint keeps), `sparkstream.batch` (the number of
    the batch) and `sparkstream.row` (what tells the row from all others of the batch). Two records with the
    same three headers are the same row. A reader with Spark keeps one of each::

        records.dropDuplicates(["headers"])

    What tells a row from the others is by default its key and value, and a number for rows that have the same
    key and value. Spark shuffles the batch for that; rows with the same key keep their order. With `row_id`
    there is no shuffle, and each task writes its rows in their order. Give it also where a row does not come
    out to the last bit as before when its batch is replayed: sums of doubles, or a function that is not
    deterministic.

    With the trigger `realTime`, which has no batches, records have no headers.

    Delivery: at least once; exactly once for a reader that drops the repeats.

    Args:
        servers: the brokers to ask first, as "host:9092" or "host:9092,other:9092".
        topic: the topic, which must exist.
        key: the column that is the record's key; records with the same key are in one partition. A string or
            binary column as it stands, and of numbers, dates and booleans the text. By default no key.
        value: the string or binary column that is the record's value; null is a tombstone. By default the
            value is the whole row as JSON: nulls as null, timestamps with microseconds and offset, decimals
            with all digits, binary columns in Base64.
        row_id: columns that no two rows of a batch share, such as `["topic", "partition", "offset"]` of
            `sources.kafka`. A reader would drop all but one of the rows that share them.
        **options: further options of Spark's writer, such as those of Kafka's producer by their own names:
            `**{"kafka.security.protocol": "SASL_SSL"}`.

    Raises:
        InvalidInputError: an option that is set by an argument; when the query starts, a column that is not
            there, or that cannot be a key or a value, no broker that answers, or no such topic (on Spark
            Connect, Spark says the last two in the first batch).

    Examples:
        >>> kafka("localhost:9092", "totals", key="shop").promise
        'at least once; exactly once for a reader that drops repeats by the headers'
    """
    check(kafka, locals())
    for name, argument in (("kafka.bootstrap.servers", "servers"), ("topic", "topic")):
        if name in {given.lower() for given in options}:
            raise InvalidInputError(f"sinks.kafka(): {name} is set by the argument {argument}; leave it out")
    asking.refuse_shown("sinks.kafka()", options)
    target = _Target(servers, topic, key, value, tuple(row_id), options)
    return Sink(
        kind="kafka",
        modes=MODES,
        promise="at least once; exactly once for a reader that drops repeats by the headers",
        after_rewind="writes the rows of replayed batches again; a reader that drops repeats "
        "keeps those once that come in the same batch as before",
        needs_checkpoint=True,
        writes_to=(f"topic {topic} of {servers}",),
        open=target.open,
        realtime=target.stream,
    )


kafka.__module__ = "sparkstream_kit.sinks"  # where users find it: messages name it so


@dataclass(frozen=True)
class _Target:
    """Where the rows go, and what of them."""

    servers: str
    topic: str
    key: str | None
    value: str | None
    row_id: tuple[str, ...]
    options: Mapping[str, Any] = field(repr=False)

    def open(self, frame: DataFrame, location: Place | None, _: object) -> Write:
        """Check the columns and the topic; return what writes a batch."""
        self._check(frame)
        self._check_topic(frame.sparkSession)
        return partial(_write, self, location)

    def stream(self, frame: DataFrame) -> DataStreamWriter:
        """Return a writer of Spark's own sink."""
        self._check(frame)
        self._check_topic(frame.sparkSession)
        records = frame.select(self.key_column.alias("key"), self.value_column.alias("value"))
        return records.writeStream.format("kafka").options(**self.all_options)

    @property
    def all_options(self) -> dict[str, Any]:
        """The options of Spark's writer."""
        return {**self.options, "kafka.bootstrap.servers": self.servers, "topic": self.topic}

    def _check_topic(self, spark: SparkSession) -> None:
        """Refuse a topic that is not there; Spark would say so in the first batch, after a minute."""
        if not asking.can_ask(spark):
            return  # to try to read, as a source does, is not what a writer must be allowed
        with asking.client(spark, {name: str(value) for name, value in self.all_options.items()}) as client:
            topics_there(client, self.servers, [self.topic])

    @property
    def key_column(self) -> Column:
        """The records' key, as bytes."""
        if self.key is None:
            return F.lit(None).cast("binary")
        return column(self.key).cast("string").cast("binary")  # bytes stay as they are

    @property
    def value_column(self) -> Column:
        """The records' value, as bytes."""
        value = F.to_json(F.struct("*"), JSON) if self.value is None else column(self.value)
        return value.cast("binary")

    @property
    def id_column(self) -> Column:
        """What tells a record from others with another key or value, or with another `row_id`."""
        if self.row_id:
            return F.md5(F.to_json(F.struct(*map(column, self.row_id)), JSON))
        parts = [self.key_column, self.value_column]
        # With their lengths, so that what ends the one cannot begin the other.
        lengths = [F.coalesce(F.octet_length(part), F.lit(-1)).cast("string") for part in parts]
        bare = [F.coalesce(part, F.lit(b"")) for part in parts]
        return F.md5(F.concat(F.concat_ws(" ", *lengths, F.lit("")).cast("binary"), *bare))

    def _check(self, frame: DataFrame) -> None:
        """Refuse columns that are not there, or that cannot be a key or a value."""
        call, kinds = "column of sinks.kafka()", {each.name: each.dataType for each in frame.schema}
        reject_unknown(call, [name for name in (self.key, self.value, *self.row_id) if name], kinds)
        if self.value and not isinstance(kinds[self.value], _BYTES):
            raise InvalidInputError(
                f"sinks.kafka(): value {self.value} is {kinds[self.value].simpleString()}, not a string or "
                "binary; leave value out to write the whole row as JSON, or make it a text with F.to_json"
            )
        if self.key and not isinstance(kinds[self.key], (*_BYTES, *_TEXTS)):
            raise InvalidInputError(
                f"sinks.kafka(): key {self.key} is {kinds[self.key].simpleString()}, whose bytes are not "
                "plain; make it a text: frame.withColumn('key', …cast('string')) or F.to_json"
            )
        names = [name.lower() for name in frame.columns]
        if self.value is None and (twice := [name for name in names if names.count(name) > 1]):
            raise InvalidInputError(
                f"sinks.kafka(): column {twice[0]} appears twice, and JSON has a field once; rename one"
            )


def _write(target: _Target, location: Place | None, batch: DataFrame, batch_id: int) -> None:
    columns = {"key": target.key_column, "value": target.value_column, _ID: target.id_column}
    records = batch.select(*(made.alias(name) for name, made in columns.items()))
    if not target.row_id:
        records = _numbered(records, by="key" if target.key else _ID)
    ids = {_QUERY: F.lit(id_of_batch(batch, location)), _BATCH: F.lit(str(batch_id)), _ROW: F.col(_ID)}
    pairs = [
        F.struct(F.lit(name).alias("key"), text.cast("binary").alias("value")) for name, text in ids.items()
    ]
    written = records.select("key", "value", F.array(*pairs).alias("headers"))
    written.write.format("kafka").options(**target.all_options).save()


def _numbered(records: DataFrame, by: str) -> DataFrame:
    """Tell equal records apart by a number; it does not matter which of them has which.

    All records of a key are in one task then, in the order in which they were: Kafka keeps it.
    """
    placed = records.withColumn(_AT, F.monotonically_increasing_id()).repartition(by)
    number = F.row_number().over(Window.partitionBy(*dict.fromkeys([by, _ID])).orderBy(_ID))
    told = placed.withColumn(_ID, F.concat_ws("-", _ID, number))
    return told.sortWithinPartitions(_AT)
