"""Extra: logs of web servers, in the common and combined formats, for `parse_log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark.session import refuse_former_patterns
from sparkstream_kit.quarantine.rows import RAW, is_missing, parsed
from sparkstream_kit.schemas import schema_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_SCHEMA = schema_of(
    host=T.StringType(),
    user=T.StringType(),
    time=T.TimestampType(),
    request=T.StringType(),
    status=T.IntegerType(),
    bytes=T.LongType(),
    referer=T.StringType(),
    agent=T.StringType(),
)
# The columns that `parsed` takes for the values, in the schema's order.
_HOST = "_v0"
_USER = "_v1"
_TIME = "_v2"
_REQUEST = "_v3"
_STATUS = "_v4"
_BYTES = "_v5"
_REFERER = "_v6"
_AGENT = "_v7"

# A line in the common or the combined format, such as
# ::1 - frank [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 2326 "-" "Lynx"
_FIELDS = 7
_LINE = (
    r"(?s)"
    r"^(\S+) "  # the host
    r"\S+ "  # the name that identd found, which is left out
    r"([^\[]*)"  # the user, with a blank after it
    r"\[([^\]]*)\] "  # the time
    # The request may contain quotes. It ends at the first quote that is followed by two
    # words and then by either a quote or the end of the line.
    r'"(.*?)" '
    r"(\S++) "  # the status
    r"(\S++)"  # the bytes
    r'(?: (".*))?\s*$'  # the rest of a combined line
)
# The rest of a combined line, such as "http://x.org/" "Lynx \"2.5\"" "10.0.0.1": the
# referer, the agent, and further fields that are left out.
_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_LAST_TWO = rf'(?s)^{_QUOTED} {_QUOTED}(?: .*")?$'
_TIME_PATTERN = "dd/MMM/yyyy:HH:mm:ss Z"


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
    refuse_former_patterns("parse_log()", lines.sparkSession)
    return parsed(lines, _SCHEMA, _read_log, "log")


def _read_log(frame: DataFrame) -> tuple[DataFrame, Column, Column | None]:
    """Read the values of lines of a log; the result is that of a `Read` of `rows`."""
    # Separate select steps: in a single step Spark would evaluate each expression again
    # for every use. One regular expression finds all fields and separates them by line
    # feeds. A line of text contains no line feed, so only a line in the format splits
    # into this number of parts.
    groups = "\n".join(f"${number}" for number in range(1, _FIELDS + 1))
    parts = F.split(F.regexp_replace(RAW, _LINE, groups), "\n")
    frame = frame.select("*", F.when(F.is_valid_utf8(RAW), parts).alias("_parts"))
    host, user, time, request, status, size, rest = (
        F.get("_parts", F.lit(index)) for index in range(_FIELDS)
    )
    rest = F.rtrim(rest)
    in_two = F.split(F.regexp_replace(rest, _LAST_TWO, "$1\n$2"), "\n")
    last_two = F.when(F.endswith(rest, F.lit('"')), in_two)
    frame = frame.select(
        "*",
        F.try_to_timestamp(time, F.lit(_TIME_PATTERN)).alias(_TIME),
        F.when(status.rlike("^[1-9][0-9]{2}$"), status).cast("int").alias(_STATUS),
        F.when(size.rlike("^[0-9]+$"), size).try_cast("bigint").alias(_BYTES),
        F.when(F.size(last_two) == 2, last_two).alias("_last_two"),  # noqa: PLR2004 - referer and agent
    )
    no_timestamp = is_missing(F.col(_TIME), T.TimestampType())
    reason = (
        F.when(F.col("_parts").isNull(), "not valid UTF-8")
        .when(F.size("_parts") != _FIELDS, "not a log line")
        # There is more text after the bytes, and it is not a referer and an agent.
        .when((rest != "") & F.col("_last_two").isNull(), "not a log line")
        .when(no_timestamp, "time: not a timestamp")
        .when(F.col(_STATUS).isNull(), "status: not a number")
        .when(F.col(_BYTES).isNull() & (size != "-"), "bytes: neither a number nor -")
    )
    texts = {
        _HOST: host,
        _USER: F.trim(user),
        _REQUEST: request,
        _REFERER: F.get("_last_two", F.lit(0)),
        _AGENT: F.get("_last_two", F.lit(1)),
    }
    no_text = F.lit("-")
    values = [F.nullif(text, no_text).alias(name) for name, text in texts.items()]
    return frame.select("*", *values), reason, None
