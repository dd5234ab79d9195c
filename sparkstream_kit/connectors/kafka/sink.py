"""Kafka topics as a sink: at least once by Spark's writer, exactly once by transactions.

`kafka`, the only public function (`sinks.kafka`), describes the sink. `start` then
calls `_TopicTarget.open` for Spark's writer of batches, or `_TopicTarget.stream` for the
real-time trigger. There each record carries headers that identify its row: a replayed
batch writes the same headers again, so that a reader can drop the repeats. With
`exactly_once=True`, `transactions.TransactionalTarget` writes instead; it needs
confluent-kafka, and is imported only then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check, check_options
from sparkstream_kit._internal.columns import as_compared, column, refuse_twice
from sparkstream_kit._internal.spark.batch import id_of_batch
from sparkstream_kit._internal.spark.session import refuse_former_patterns
from sparkstream_kit.connectors import _packages
from sparkstream_kit.connectors.kafka import SYSTEM, brokers
from sparkstream_kit.connectors.kafka.source import check_topics
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.formats.records import Format, Records
from sparkstream_kit.sinks.base import JSON, MODES, NO_OPTIONS, BatchSink, Sink, Target
from sparkstream_kit.sinks.ledger import exactly_once as with_ledger
from sparkstream_kit.sinks.ledger import open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._internal.spark.batch import Write
    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Opening


_QUERY = "sparkstream.query"
_BATCH = "sparkstream.batch"
_ROW = "sparkstream.row"
_AT = "_at"  # a temporary column: a row's position in the batch
_ID = "_id"  # a temporary column: the id of a row in its batch
_LONGEST = 249  # characters of a topic's name
_HEADERS = "array<struct<key: string, value: binary>>"
_BYTES = (T.BinaryType, T.StringType)
# Types whose text does not depend on a time zone or on rounding, so that it can be a
# record's key.
_TEXTS = (T.BooleanType, T.DateType, T.DecimalType, T.IntegralType)


def kafka(
    servers: str,
    topic: str,
    *,
    key: str | Format | None = None,
    value: str | Format | None = None,
    partition: str | None = None,
    headers: str | None = None,
    to: str | None = None,
    row_id: Sequence[str] = (),
    exactly_once: bool = False,
    ledger: str | None = None,
    take_over: bool = False,
    **options: Any,
) -> Sink:
    """Write each row as a record of a Kafka topic.

    By default Spark's own writer writes the rows, at least once: after a crash the rows
    of the last batch can be in the topic twice. Each record has three headers that
    identify its row, so that a reader can drop the repeat:

    - `sparkstream.query`: the query's id, which its checkpoint keeps;
    - `sparkstream.batch`: the number of the batch;
    - `sparkstream.row`: the id of the row within the batch.

    Two records with the same three headers are the same row. A Spark reader keeps one of each::

        records.dropDuplicates(["headers"])

    By default the row id comes from the key and the value, with a number for rows that
    have the same key and value. To number them, Spark shuffles the batch; rows with the
    same key keep their order. With `row_id` there is no shuffle, and each task writes
    its rows in their order. Use `row_id` also if a replayed batch does not compute its
    rows identically to the last bit, as with sums of doubles or a function that is not
    deterministic.

    With the trigger `realTime`, which has no batches, records have no such headers.

    With `exactly_once=True` a producer in the driver writes each batch in one
    transaction, together with a record of a ledger topic that has the batch's number
    and its plan (which input the batch read). It needs the extra `kafka`, and readers
    with `isolation.level=read_committed`, as `sources.kafka` is; other readers also see
    records of batches that were never committed.

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the
      topic, the plan is put back when the query starts.
    - A batch before the last one is replayed only after a rewind of the checkpoint: the
      query fails, and the message contains the command that lets the query write these
      batches again.
    - If the ledger lacks batches, because it was deleted or put back from a backup, the
      query fails.
    - If the topic was deleted and made again since the query has written to it, the
      query fails: the ledger has the id that Kafka gives each topic (brokers before
      Kafka 2.8 give none).

    Spark first computes the batch, onto the workers' disks. Then the rows pass through
    the driver in small parts, in the order of the batch; records choose partitions as
    those of Kafka's Java clients do. The transaction begins after the computation. It
    may take five minutes, within which brokers that are away may come back;
    `**{"kafka.transaction.timeout.ms": 900_000}` gives it more time, up to the brokers'
    own limit. The names of options are those of Kafka's Java client, of which PEM files
    and log-ins by password are translated for librdkafka; any other option must have
    the same name there. On Spark Connect the server's Python needs the kit and the
    extra, and both the server and the client must reach the brokers.

    Delivery: at least once, and exactly once for a reader that drops the repeats; with
    `exactly_once=True` exactly once from replayable sources.

    Args:
        servers: the addresses of the brokers to ask first, as "host:9092" or
            "host:9092,other:9092".
        topic: the topic, which must exist.
        key: the column for the record's key; Kafka puts records with the same key into
            one partition. A string or binary column is written unchanged; of whole
            numbers, decimals, dates and booleans the text is written. Or a format with
            a schema registry, such as `formats.avro(registry, columns="product")`.
            Default: no key.
        value: the string or binary column for the record's value; null is a tombstone.
            Or a format with a schema registry: `formats.avro(registry)` or
            `formats.json_schema(registry)`, which with the name of one column write a
            tombstone where this column is null. Default: the whole row as JSON, with
            nulls as null, timestamps with microseconds and offset, decimals with all
            digits, and binary columns in Base64.
        partition: the column of whole numbers for the record's partition. Default, and
            for null: Kafka's client chooses it, by the key if there is one.
        headers: the column for the record's headers, such as `headers` of
            `sources.kafka`.
        to: the string column for the record's topic, if rows go to several topics; null
            stands for `topic`.
        row_id: columns whose values together are unique within a batch, such as
            `["topic", "partition", "offset"]` of `sources.kafka`. If several rows have
            the same values, a reader keeps only one of these rows. Default: the id
            comes from key and value.
        exactly_once: write each batch in a transaction.
        ledger: with `exactly_once`, the topic of the ledger, which several topics can
            share. It is created if it is missing, compacted and with one partition.
            Default: `TOPIC-sparkstream-ledger`.
        take_over: with `exactly_once`, write to the topic although another query of the
            kit has written to it, or although earlier batches of this query are missing
            from the topic or the ledger. Records of other programs are always accepted.
        **options: further options of Spark's writer, such as those of Kafka's producer
            by their own names:
            `**{"kafka.security.protocol": "SASL_SSL"}`.

    Raises:
        InvalidInputError: an option is set by an argument already, or an argument
            belongs to the other way to write. When the query starts: a column does not
            exist or cannot be a key or a value, no broker answers, or the topic does
            not exist (on Spark Connect, Spark reports the last two in the first batch);
            with `exactly_once`, another query has written to the topic; of a format,
            the registry refuses the schema.
        MissingExtraError: with `exactly_once`, confluent-kafka, pyarrow or pandas is
            not installed.

    Examples:
        >>> kafka("localhost:9092", "totals", key="shop", exactly_once=True).promise
        'exactly once'
    """
    check(kafka, locals())
    _refuse_sparks_names(options)
    brokers.refuse_shown("sinks.kafka()", options)
    check_options(kafka, options, None, *NO_OPTIONS)
    is_misplaced = bool(ledger) or take_over
    if exactly_once:
        is_misplaced = bool(row_id)
    if is_misplaced:
        raise InvalidInputError(
            "sinks.kafka(): row_id is for the headers, which exactly_once=True does not"
            " need; ledger and take_over are for exactly_once=True; leave out what"
            " belongs to the other way"
        )
    target = _TopicTarget(
        servers, topic, key, value, partition, headers, to, tuple(row_id), options
    )
    if exactly_once:
        return _by_transactions(target, ledger, take_over=take_over)
    return BatchSink(
        kind="kafka",
        modes=MODES,
        promise=SYSTEM.sink,
        after_rewind=(
            "writes the rows of replayed batches again; a reader that drops repeats "
            "keeps those once that come in the same batch as before"
        ),
        needs_checkpoint=True,
        writes_to=(Target("topic", f"{topic} of {servers}"),),
        open=target.open,
        realtime=target.stream,
    )


def _refuse_sparks_names(options: Mapping[str, object]) -> None:
    """Refuse Spark's own names of options that are arguments of `kafka`."""
    lowered = [name.lower() for name in options]
    for name, argument in (("kafka.bootstrap.servers", "servers"), ("topic", "topic")):
        if name in lowered:
            raise InvalidInputError(
                f"sinks.kafka(): {name} is set by the argument {argument}; leave it out"
            )


def _by_transactions(
    target: _TopicTarget, ledger: str | None, *, take_over: bool
) -> Sink:
    """Return the sink that writes exactly once.

    Raises:
        InvalidInputError: the topic of the ledger cannot be used.
        MissingExtraError: a library is not installed.
    """
    SYSTEM.need("sinks.kafka(…, exactly_once=True)")
    from sparkstream_kit.connectors.kafka import transactions

    exactly_once_target = transactions.TransactionalTarget(
        target.servers,
        target.topic,
        _ledger_of(target.topic, ledger),
        take_over,
        target.options,
        target.check,
        target.records,
    )

    def open_with_schemas(
        frame: DataFrame, location: Place | None, opening: Opening
    ) -> Write:
        # The ids of the schemas are those of the stream's columns, for all batches
        target.check(frame)
        formatted = target.ready(frame, makes=opening.makes)
        ready = replace(exactly_once_target, records=formatted.records)
        return open_target(ready, frame, location, opening, identity=ready.identity)

    opens: Callable[[DataFrame, Place | None, Opening], Write] = open_with_schemas
    if not target.has_format:
        opens = partial(
            open_target, exactly_once_target, identity=exactly_once_target.identity
        )
    return with_ledger("kafka", exactly_once_target.where, MODES, opens)


def _ledger_of(topic: str, ledger: str | None) -> str:
    """Return the topic of the ledger of a topic.

    Raises:
        InvalidInputError: it is the topic itself, or has a name that Kafka does not
            take.
    """
    name = ledger or f"{topic}-sparkstream-ledger"
    if name == topic:
        raise InvalidInputError(
            f"sinks.kafka(): ledger is the topic {topic} itself; give another topic, or"
            " leave it out"
        )
    if len(name) > _LONGEST:
        raise InvalidInputError(
            f"sinks.kafka(): the ledger {name} has a name of {len(name)} characters,"
            f" and Kafka takes {_LONGEST} at most; give ledger= a shorter one"
        )
    return name


@dataclass(frozen=True)
class _TopicTarget:
    """The arguments of the sink, and the columns and options that Spark's writer needs for them."""

    servers: str
    topic: str
    key: str | Format | Records | None
    value: str | Format | Records | None
    partition: str | None
    headers: str | None
    to: str | None
    row_id: tuple[str, ...]
    options: Mapping[str, Any] = field(repr=False)

    def open(self, frame: DataFrame, location: Place | None, opening: Opening) -> Write:
        """Check the columns and the topic, and return the function that writes a batch.

        Raises:
            InvalidInputError: a column or the topic does not exist or cannot be used.
        """
        self.check(frame)
        return partial(_write, self.ready(frame, makes=opening.makes), location)

    def stream(self, frame: DataFrame) -> DataStreamWriter:
        """Check columns and topic, and return Spark's writer for the real-time trigger.

        Raises:
            InvalidInputError: a column or the topic does not exist or cannot be used.
        """
        self.check(frame)
        writer = self.ready(frame).records(frame).writeStream.format("kafka")
        return writer.options(**self.all_options)

    @property
    def has_format(self) -> bool:
        """Whether key or value has a format of a schema registry."""
        return isinstance(self.key, Format) or isinstance(self.value, Format)

    def ready(self, frame: DataFrame, *, makes: bool = True) -> _TopicTarget:
        """Return this with the ids of the schemas, which formats register if they are new.

        With makes=False, as in a dry run, nothing is registered.

        Raises:
            InvalidInputError: as `Format.ready`.
        """
        columns = (self.partition, self.headers, self.to)
        without = [name for name in columns if name]
        key = self.key
        value = self.value
        if isinstance(value, Format):
            value = value.ready(frame, self.topic, "value", without, makes=makes)
        if isinstance(key, Format):
            key = key.ready(frame, self.topic, "key", makes=makes)
        return replace(self, key=key, value=value)

    @property
    def all_options(self) -> dict[str, Any]:
        """All options of Spark's writer: the user's, brokers, and the topic of all rows.

        The topic is left out if each row can have one of its own.
        """
        options = {**self.options, "kafka.bootstrap.servers": self.servers}
        if not self.to:
            options["topic"] = self.topic
        return options

    def records(self, frame: DataFrame, **extra_columns: Column) -> DataFrame:
        """Return rows as records: the columns of Spark's writer, and `more` columns."""
        columns = {"value": self.value_column, "key": self.key_column, **extra_columns}
        if self.partition:
            columns["partition"] = column(self.partition).cast("int")
        if self.headers:
            columns["headers"] = column(self.headers).cast(_HEADERS)
        if self.to:
            topic = column(self.to).cast("string")
            columns["topic"] = F.coalesce(topic, F.lit(self.topic))
        return frame.select(*(value.alias(name) for name, value in columns.items()))

    @property
    def key_column(self) -> Column:
        """The records' key (binary); null without a key column."""
        if isinstance(self.key, Records):
            return self.key.column()
        if not isinstance(self.key, str):
            return F.lit(None).cast("binary")
        # The first cast leaves bytes unchanged
        return column(self.key).cast("string").cast("binary")

    @property
    def value_column(self) -> Column:
        """The records' value (binary); without a value column, the whole row as JSON."""
        if isinstance(self.value, Records):
            return self.value.column()
        if not isinstance(self.value, str):
            return F.to_json(F.struct("*"), JSON).cast("binary")
        return column(self.value).cast("binary")

    @property
    def id_column(self) -> Column:
        """An MD5 hash (string) of the `row_id` columns, or of key and value without `row_id`."""
        if self.row_id:
            return F.md5(F.to_json(F.struct(*map(column, self.row_id)), JSON))
        parts = [self.key_column, self.value_column]
        # Hash the lengths, too: key "a" with value "bc" must differ from key "ab" with
        # value "c".
        lengths = [F.coalesce(F.octet_length(part), F.lit(-1)) for part in parts]
        texts = [length.cast("string") for length in lengths]
        before = F.concat_ws(" ", *texts, F.lit("")).cast("binary")
        bare = [F.coalesce(part, F.lit(b"")) for part in parts]
        return F.md5(F.concat(before, *bare))

    def check(self, frame: DataFrame) -> None:
        """Refuse a topic or columns that do not exist, or cannot be used in a record.

        Columns can become the key, the value, or fields of JSON in the value.

        Raises:
            InvalidInputError: the topic or a column does not exist, its type has no
                plain bytes, or two columns have the same name, as the session compares
                them, and the value is the row as JSON.
        """
        call = "column of sinks.kafka()"
        kinds = {field.name: field.dataType for field in frame.schema}
        columns = [self.key, self.value, self.partition, self.headers, self.to]
        columns += self.row_id
        names = [name for name in columns if isinstance(name, str)]
        reject_unknown(call, [name for name in names if name], kinds)
        value = self.value
        if value and isinstance(value, str) and not isinstance(kinds[value], _BYTES):
            raise InvalidInputError(
                f"sinks.kafka(): value {value} is"
                f" {kinds[value].simpleString()}, not a string or binary; leave"
                " value out to write the whole row as JSON, or make it a text with"
                " F.to_json"
            )
        key = self.key
        if (
            key
            and isinstance(key, str)
            and not isinstance(kinds[key], (*_BYTES, *_TEXTS))
        ):
            raise InvalidInputError(
                f"sinks.kafka(): key {key} is {kinds[key].simpleString()},"
                " whose bytes are not plain; make it a text: frame.withColumn('key',"
                " …cast('string')) or F.to_json"
            )
        if self.value is None or self.row_id:
            refuse_former_patterns("sinks.kafka()", frame.sparkSession)
        if self.value is None:
            compared = as_compared(frame.sparkSession, frame.columns)
            refuse_twice("sinks.kafka(): column", compared)
        _packages.check_session(frame.sparkSession, ("kafka",))
        # Without the topic Spark fails in the first batch, after a minute. On Connect a
        # test read, as of a source, needs a permission that a writer may lack.
        if brokers.can_ask(frame.sparkSession):
            options = {name: str(value) for name, value in self.all_options.items()}
            with brokers.client(frame.sparkSession, options) as client:
                check_topics(client, self.servers, [self.topic])


def _write(
    target: _TopicTarget, location: Place | None, batch: DataFrame, batch_id: int
) -> None:
    """Write a batch with headers by which a reader can drop repeats."""
    records = target.records(batch, **{_ID: target.id_column})
    if not target.row_id:
        records = _with_distinct_ids(records, by="key" if target.key else _ID)
    ids = {
        _QUERY: F.lit(id_of_batch(batch, location)),
        _BATCH: F.lit(str(batch_id)),
        _ROW: F.col(_ID),
    }
    pairs = []
    for name, text in ids.items():
        value = text.cast("binary").alias("value")
        pairs.append(F.struct(F.lit(name).alias("key"), value))
    headers = F.array(*pairs)
    if target.headers:
        headers = F.concat(headers, F.coalesce("headers", F.array().cast(_HEADERS)))
    complete = records.withColumn("headers", headers).drop(_ID, _AT)
    complete.write.format("kafka").options(**target.all_options).save()


def _with_distinct_ids(records: DataFrame, by: str) -> DataFrame:
    """Append a number to each record's id, so that equal records have different ids.

    Equal records have the same key and value.

    The shuffle brings all records of a key into one task; they are sorted back into
    their order in the batch, which Kafka keeps.

    Args:
        records: the records, with the column `_id`.
        by: the column to shuffle by: "key", or "_id" for records without a key.
    """
    placed = records.withColumn(_AT, F.monotonically_increasing_id()).repartition(by)
    # With `by` in it the window needs no second shuffle
    keys = [_ID] if by == _ID else [by, _ID]
    # `row_number` wants an order; that of equal records does not matter
    equal = Window.partitionBy(*keys).orderBy(_ID)
    number = F.row_number().over(equal)
    numbered = placed.withColumn(_ID, F.concat_ws("-", _ID, number))
    return numbered.sortWithinPartitions(_AT)
