"""Extra: logs of web servers, in the common and combined formats, for `parse_log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.quarantine.rows import RAW, is_missing, parsed
from sparkstream_kit.schemas import schema_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_NO_TEXT = {"time": T.TimestampType(), "status": T.IntegerType(), "bytes": T.LongType()}
_COLUMNS = ["host", "user", "time", "request", "status", "bytes", "referer", "agent"]
_SCHEMA = schema_of(**{name: _NO_TEXT.get(name, T.StringType()) for name in _COLUMNS})
_FIELDS = 7
# A request may contain quotes. It ends at the first quote that is followed by two words
# and then by either a quote or the end of the line.
_LINE = r'(?s)^(\S+) \S+ ([^\[]*)\[([^\]]*)\] "(.*?)" (\S++) (\S++)(?: (".*))?\s*$'
_LAST_TWO = r'(?s)^"((?:[^"\\]|\\.)*+)" "((?:[^"\\]|\\.)*+)"(?: .*")?$'
_TIME = "dd/MMM/yyyy:HH:mm:ss Z"


def parse_log(lines: DataFrame) -> DataFrame:
    """Parse a web server's log in the common or combined format; each line is one row.

    A line is bad when it is not valid UTF-8 or not in the format, when its time cannot
    be read, when its status is not a number of three digits, or when its bytes are
    neither "-" nor a number that fits into a bigint. A request may contain quotes.
    Fields after the agent are left out if the last of them is in quotes, such as
    nginx's `$http_x_forwarded_for`; `_raw` has them. The formats are those of Apache
    HTTP Server, "Log Files", section "Access Log".

    Args:
        lines: a DataFrame, streaming or static, whose first column is the line
            (string), such as that of `sources.text`. Its other columns are kept.

    Returns:
        host (string: a name or an address), user (string), time (timestamp), request
        (string), status (int), bytes (bigint), and from a combined line referer and
        agent (string). A field that is "-" is null. Then, as in `parse_csv`, `_reason`,
        such as "status: not a number", `_raw`, `_bytes` and `_file`, and the other
        columns of `lines`. Spark's progress counts the rows, and so does the summary of
        `run`.

    Raises:
        InvalidInputError: `lines` has another column with one of these names.

    Examples:
        In a session::

            requests = quarantine.parse_log(sources.text(spark, "logs/"))
            errors = requests.where("status >= 400")
    """
    check(parse_log, locals())
    return parsed(lines, _SCHEMA, _read_log, "log")


def _read_log(frame: DataFrame) -> tuple[DataFrame, Column, Column | None]:
    # Separate select steps: in a single step Spark would evaluate each expression again
    # for every use. One regular expression finds all fields and separates them by line
    # feeds. A line of text contains no line feed, so only a line in the format splits
    # into this number of parts.
    found = F.regexp_replace(
        RAW, _LINE, "\n".join(f"${number + 1}" for number in range(_FIELDS))
    )
    frame = frame.select(
        "*", F.when(F.is_valid_utf8(RAW), F.split(found, "\n")).alias("_parts")
    )
    host, user, time, request, status, size, rest = (
        F.get("_parts", F.lit(n)) for n in range(_FIELDS)
    )
    last = F.rtrim(rest)
    both = F.split(F.regexp_replace(last, _LAST_TWO, "$1\n$2"), "\n")
    last_two = F.when(F.endswith(last, F.lit('"')), both)
    frame = frame.select(
        "*",
        F.try_to_timestamp(time, F.lit(_TIME)).alias("_v2"),
        F.when(status.rlike("^[1-9][0-9]{2}$"), status).cast("int").alias("_v4"),
        F.when(size.rlike("^[0-9]+$"), size).try_cast("bigint").alias("_v5"),
        F.when(F.size(last_two) == 2, last_two).alias("_last_two"),  # noqa: PLR2004 - referer and agent
    )
    reason = (
        F.when(F.col("_parts").isNull(), "not valid UTF-8")
        .when(F.size("_parts") != _FIELDS, "not a log line")
        # There is more text after the bytes, and it is not a referer and an agent.
        .when((last != "") & F.col("_last_two").isNull(), "not a log line")
        .when(is_missing(F.col("_v2"), T.TimestampType()), "time: not a timestamp")
        .when(F.col("_v4").isNull(), "status: not a number")
        .when(F.col("_v5").isNull() & (size != "-"), "bytes: neither a number nor -")
    )
    texts = {0: host, 1: F.trim(user), 3: request}
    texts |= {6: F.get("_last_two", F.lit(0)), 7: F.get("_last_two", F.lit(1))}
    values = (F.nullif(text, F.lit("-")).alias(f"_v{n}") for n, text in texts.items())
    return frame.select("*", *values), reason, None
