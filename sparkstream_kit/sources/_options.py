"""What sources check in their arguments: numbers, times, and options, of which Spark ignores unknown ones.

https://spark.apache.org/docs/latest/sql-data-sources.html and the options that Spark 4.2 registers.
"""

from __future__ import annotations

import difflib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

_log = logging.getLogger(__name__)

_FILES = """basePath cleanSource discardCachedInputRatio fileNameOnly ignoreCorruptFiles ignoreMissingFiles
    latestFirst maxBytesPerTrigger maxCachedFiles maxFileAge maxFilesPerTrigger pathGlobFilter
    recursiveFileLookup sourceArchiveDir"""
_LINES = "compression encoding lineSep"
_VALUES = """charset columnNameOfCorruptRecord dateFormat enableDateTimeParsingFallback inferSchema locale
    mode multiLine samplingRatio singleVariantColumn timeFormat timeZone timestampFormat timestampNTZFormat"""
_KNOWN = {
    "csv": f"""{_FILES} {_LINES} {_VALUES} charToEscapeQuoteEscaping codec columnPruning comment delimiter
        emptyValue enforceSchema escape escapeQuotes extension header ignoreLeadingWhiteSpace
        ignoreTrailingWhiteSpace inputBufferSize maxCharsPerColumn maxColumns nanValue negativeInf nullValue
        positiveInf preferDate quote quoteAll sep unescapedQuoteHandling""",
    # https://docs.delta.io/delta-streaming/
    "delta": """excludeRegex failOnDataLoss ignoreChanges ignoreDeletes maxBytesPerTrigger maxFilesPerTrigger
        readChangeFeed schemaTrackingLocation skipChangeCommits startingTimestamp startingVersion
        withEventTimeOrder""",
    "json": f"""{_FILES} {_LINES} {_VALUES} allowBackslashEscapingAnyCharacter allowComments
        allowNonNumericNumbers allowNumericLeadingZeros allowSingleQuotes allowUnquotedControlChars
        allowUnquotedFieldNames dropFieldIfAllNull ignoreNullFields inferTimestamp prefersDecimal
        primitivesAsString useUnsafeRow""",
    "kafka": """failOnDataLoss fetchOffset.numRetries fetchOffset.retryIntervalMs groupIdPrefix includeHeaders
        maxRecordsPerPartition maxTriggerDelay minOffsetsPerTrigger minPartitions
        startingOffsetsByTimestampStrategy""",
    "orc": f"{_FILES} compression mergeSchema",
    "parquet": f"{_FILES} compression datetimeRebaseMode int96RebaseMode mergeSchema",
    "rate": "numPartitions rampUpTime rowsPerSecond",
    "socket_lines": "host includeTimestamp port",
    "table": _FILES,
    "text": f"{_FILES} {_LINES} wholetext",
}
_NEAR = 0.8


def check(source: str, given: Iterable[str], keywords: Iterable[str]) -> None:
    """Refuse a misspelt option; one that nothing is known of is passed on to Spark, with a warning.

    A name with a dot, such as `fs.s3a.endpoint`, goes to Hadoop or to Kafka's client. A table has the
    options of its own format.

    Args:
        source: the function of `sources`, such as "csv".
        given: the names of the options.
        keywords: the keywords of the function itself.

    Raises:
        InvalidInputError: a name that is nearly one of Spark's or of ours, or an option of another format.

    Example:
        >>> check("csv", ["headr"], ["schema"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown keyword of sources.csv() headr; did you mean header?
    """
    ours = {_plain(name): name for name in keywords}
    sparks = {_plain(name): name for name in _KNOWN[source].split()}
    for name in given:
        if "." in name or name.lower() in sparks:
            continue
        # Who writes an underscore means one of ours, where both have the word.
        known = sparks | ours if "_" in name else ours | sparks
        wrong = f"unknown keyword of sources.{source}() {name}"
        near = difflib.get_close_matches(_plain(name), known, n=1, cutoff=_NEAR)
        if near and known[near[0]] != name:
            raise InvalidInputError(f"{wrong}; did you mean {known[near[0]]}?")
        if source == "table":
            continue
        if others := [other for other, names in _KNOWN.items() if name.lower() in names.lower().split()]:
            raise InvalidInputError(f"{wrong}: it is an option of {' and '.join(others)}")
        _log.warning(
            "sources.%s(): Spark 4.2 has no option %s for it, and ignores what it does not know", source, name
        )


def check_number(name: str, number: int | None) -> None:
    """Refuse a number of rows or files that is less than 1; None is no limit."""
    if number is not None and number < 1:
        raise InvalidInputError(f"{name} must be 1 or more, not {number}")


def moment(starting: datetime) -> float:
    """Return the time at which a source starts, in seconds since 1970; without a time zone it is in UTC.

    Raises:
        InvalidInputError: it is yet to come.
    """
    at = starting if starting.tzinfo else starting.replace(tzinfo=UTC)
    if at > datetime.now(UTC):
        raise InvalidInputError(f"starting is {starting}, which is yet to come; give starting='latest'")
    return at.timestamp()


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
