"""Extra: the header of a record that names its schema, in front of its JSON.

Confluent's serializers write a zero byte and the id of the schema in four bytes.
`with_header` takes them off for `parse_json`; a record without them is bad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sparkstream_kit._internal.columns import with_column
from sparkstream_kit.connectors._registry.client import of as registry_of
from sparkstream_kit.quarantine.decoded import HEADER
from sparkstream_kit.quarantine.rows import RAW

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from sparkstream_kit.connectors._registry.client import Registry
    from sparkstream_kit.quarantine.rows import Read

_REST = 2**31 - 1  # of a record, the most bytes that it can have
_RECORD = "_record"  # the whole record, for a moment


def with_header(read: Read, registry: Registry | str | None) -> Read:
    """Return what reads records with a header, of what reads the lines behind it.

    Args:
        read: reads the lines; see `rows.parsed`.
        registry: says whether an id is that of a schema of JSON; None to take any id.

    Raises:
        InvalidInputError: `registry` is no address.
    """
    asked = None if registry is None else registry_of(registry)

    def read_records(frame: DataFrame) -> tuple[DataFrame, Column, Column | None]:
        record = F.col(RAW).cast("binary")
        # A step of its own, so that the line is made once
        with_record = frame.select("*", F.col(RAW).alias(_RECORD))
        line = F.substring(record, HEADER + 1, _REST).cast("string")
        lines, reason, header = read(with_column(with_record, RAW, line))
        whole = F.col(_RECORD).cast("binary")
        why = F.coalesce(_wrong_header(whole, asked), reason)
        found = with_column(lines.select("*", why.alias("_why")), RAW, F.col(_RECORD))
        return found, F.col("_why"), header

    return read_records


def _wrong_header(record: Column, registry: Registry | None) -> Column:
    """Return why the header of a record is wrong; null if it is right."""
    begins = F.hex(F.substring(record, 1, 1)) == F.lit("00")
    is_headed = (F.length(record) >= F.lit(HEADER)) & begins
    reasons = [
        F.when(record.isNull(), F.lit("no value")),
        F.when(~is_headed, F.lit("not JSON with a schema id")),
    ]
    if registry is not None:
        number = F.conv(F.hex(F.substring(record, 2, HEADER - 1)), 16, 10)
        ask = F.udf(_Ask(registry), "string", useArrow=False)
        reasons.append(ask(F.when(is_headed, number)))
    return F.coalesce(*reasons)


class _Ask:
    """Asks a registry in a Python UDF whether an id is that of a schema of JSON.

    Args:
        registry: the registry.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, number: str | None) -> str | None:
        """Return why a schema's id is wrong; None if it is right or is none."""
        if number is None:
            return None
        schema = self._registry.schema(int(number))
        if schema is None:
            return "unknown schema id"
        return None if schema.kind == "JSON" else "a schema that is not JSON"
