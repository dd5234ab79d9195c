"""Topics of Kafka as a sink: Spark's own writer, with headers with which a reader drops repeated records.

`kafka`, the only public function (`sinks.kafka`), describes the sink; `start` then calls `_Target.open` for a
writer of batches, or `_Target.stream` for the real-time trigger. Spark writes to Kafka at least once, so each
record carries headers that identify its row: a replayed batch writes the same headers again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column
from sparkstream_kit._spark.batch import id_of_batch
from sparkstream_kit.connectors.kafka import SYSTEM, brokers
from sparkstream_kit.connectors.kafka.source import topics_there
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.sinks.base import JSON, MODES, Sink, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place


_QUERY, _BATCH, _ROW = "sparkstream.query", "sparkstream.batch", "sparkstream.row"
_AT, _ID = "_at", "_id"  # temporary columns: a row's position in the batch, and its id there
_BYTES = (T.BinaryType, T.StringType)
# Types whose text does not depend on a time zone or on rounding, so that it can be a record's key.
_TEXTS = (T.BooleanType, T.DateType, T.DecimalType, T.IntegralType)


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

    A Kafka transaction cannot span Spark's commit of a batch, so after a crash the rows of the last batch can
    be in the topic twice. Each record has three headers that identify its row, so that a reader can drop the
    repeat:

    - `sparkstream.query`: the query's id, which its checkpoint keeps;
    - `sparkstream.batch`: the number of the batch;
    - `sparkstream.row`: the id of the row within the batch.

    Two records with the same three headers are the same row. A Spark reader keeps one of each::

        records.dropDuplicates(["headers"])

    By default the row id comes from the key and the value, with a number for rows that have the same key and
    value. To number them, Spark shuffles the batch; rows with the same key keep their order. With `row_id`
    there is no shuffle, and each task writes its rows in their order. Use `row_id` also if a replayed batch
    does not compute its rows identically to the last bit, as with sums of doubles or a function that is not
    deterministic.

    With the trigger `realTime`, which has no batches, records have no headers.

    Delivery: at least once; exactly once for a reader that drops the repeats.

    Args:
        servers: the addresses of the brokers to ask first, as "host:9092" or "host:9092,other:9092".
        topic: the topic, which must exist.
        key: the column for the record's key; Kafka puts records with the same key into one partition. A
            string or binary column is written unchanged; of whole numbers, decimals, dates and booleans the
            text is written. Default: no key.
        value: the string or binary column for the record's value; null is a tombstone. Default: the whole row
            as JSON, with nulls as null, timestamps with microseconds and offset, decimals with all digits,
            and binary columns in Base64.
        row_id: columns whose values together are unique within a batch, such as
            `["topic", "partition", "offset"]` of `sources.kafka`. If several rows have the same values, a
            reader keeps only one of these rows. Default: the id comes from key and value.
        **options: further options of Spark's writer, such as those of Kafka's producer by their own names:
            `**{"kafka.security.protocol": "SASL_SSL"}`.

    Raises:
        InvalidInputError: an option is set by an argument already. When the query starts: a column does not
            exist or cannot be a key or a value, no broker answers, or the topic does not exist (on Spark
            Connect, Spark reports the last two in the first batch).

    Examples:
        >>> kafka("localhost:9092", "totals", key="shop").promise
        'at least once; exactly once for a reader that drops repeats by the headers'
    """
    check(kafka, locals())
    for name, argument in (("kafka.bootstrap.servers", "servers"), ("topic", "topic")):
        if name in {given.lower() for given in options}:
            raise InvalidInputError(f"sinks.kafka(): {name} is set by the argument {argument}; leave it out")
    brokers.refuse_shown("sinks.kafka()", options)
    target = _Target(servers, topic, key, value, tuple(row_id), options)
    return Sink(
        kind="kafka",
        modes=MODES,
        promise=SYSTEM.sink,
        after_rewind="writes the rows of replayed batches again; a reader that drops repeats "
        "keeps those once that come in the same batch as before",
        needs_checkpoint=True,
        writes_to=(Target("topic", f"{topic} of {servers}"),),
        open=target.open,
        realtime=target.stream,
    )


@dataclass(frozen=True)
class _Target:
    """The arguments of the sink, and the columns and options that Spark's writer needs for them."""

    servers: str
    topic: str
    key: str | None
    value: str | None
    row_id: tuple[str, ...]
    options: Mapping[str, Any] = field(repr=False)

    def open(self, frame: DataFrame, location: Place | None, _: object) -> Write:
        """Check the columns and the topic, and return the function that writes a batch.

        Raises:
            InvalidInputError: a column or the topic does not exist or cannot be used.
        """
        self._check(frame)
        self._check_topic(frame.sparkSession)
        return partial(_write, self, location)

    def stream(self, frame: DataFrame) -> DataStreamWriter:
        """Check the columns and the topic, and return Spark's own stream writer, for the real-time trigger.

        Raises:
            InvalidInputError: a column or the topic does not exist or cannot be used.
        """
        self._check(frame)
        self._check_topic(frame.sparkSession)
        records = frame.select(self.key_column.alias("key"), self.value_column.alias("value"))
        return records.writeStream.format("kafka").options(**self.all_options)

    @property
    def all_options(self) -> dict[str, Any]:
        """All options of Spark's writer: the user's, the brokers and the topic."""
        return {**self.options, "kafka.bootstrap.servers": self.servers, "topic": self.topic}

    def _check_topic(self, spark: SparkSession) -> None:
        """Refuse a topic that does not exist; Spark would fail in the first batch, after a minute."""
        if not brokers.can_ask(spark):
            return  # a test read, as a source makes on Connect, needs a permission that a writer may lack
        with brokers.client(spark, {name: str(value) for name, value in self.all_options.items()}) as client:
            topics_there(client, self.servers, [self.topic])

    @property
    def key_column(self) -> Column:
        """The records' key (binary); null without a key column."""
        if self.key is None:
            return F.lit(None).cast("binary")
        return column(self.key).cast("string").cast("binary")  # the first cast leaves bytes unchanged

    @property
    def value_column(self) -> Column:
        """The records' value (binary); without a value column, the whole row as JSON."""
        value = F.to_json(F.struct("*"), JSON) if self.value is None else column(self.value)
        return value.cast("binary")

    @property
    def id_column(self) -> Column:
        """An MD5 hash (string) of the `row_id` columns, or of key and value without `row_id`."""
        if self.row_id:
            return F.md5(F.to_json(F.struct(*map(column, self.row_id)), JSON))
        parts = [self.key_column, self.value_column]
        # Hash the lengths, too: key "a" with value "bc" must differ from key "ab" with value "c".
        lengths = [F.coalesce(F.octet_length(part), F.lit(-1)).cast("string") for part in parts]
        bare = [F.coalesce(part, F.lit(b"")) for part in parts]
        return F.md5(F.concat(F.concat_ws(" ", *lengths, F.lit("")).cast("binary"), *bare))

    def _check(self, frame: DataFrame) -> None:
        """Refuse columns that do not exist, or that cannot be a key, a value or a field of the JSON.

        Raises:
            InvalidInputError: a column does not exist, its type has no plain bytes, or two columns have the
                same name but for upper and lower case and the value is the row as JSON.
        """
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
    """Append a number to the id of each record, so that records with the same key and value have unique ids.

    The numbers of equal records are interchangeable, so their order does not matter. The shuffle brings all
    records of a key into one task; they are sorted back into their order in the batch, which Kafka keeps.

    Args:
        records: the records, with the column `_id`.
        by: the column to shuffle by: "key", or "_id" for records without a key.
    """
    placed = records.withColumn(_AT, F.monotonically_increasing_id()).repartition(by)
    number = F.row_number().over(Window.partitionBy(*dict.fromkeys([by, _ID])).orderBy(_ID))
    told = placed.withColumn(_ID, F.concat_ws("-", _ID, number))
    return told.sortWithinPartitions(_AT)
