"""Thin: the kit's exceptions, their hints, and the one-line cause of a Spark failure.

Each message says what was wrong, what was given, and how to fix it. The name of an
exception about the caller's arguments or environment ends in `Error`, as Python's own
do. The name of an exception about a query says what happened to the query:
`QueryFailed`. A job ends with the `exit_code` of its exception. The functions below
build messages: `hint` suggests a name, `printable` and `without_secrets` make text safe
to show, and `innermost_cause` finds the cause in an error of Spark.
"""

from __future__ import annotations

import copyreg
import difflib
import re
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "CheckpointDamaged",
    "DryRun",
    "InputUnavailable",
    "InvalidInputError",
    "KitError",
    "MissingExtraError",
    "QueryFailed",
    "TransientError",
    "reject_unknown",
]


# --- exceptions


class KitError(Exception):
    """Base of every error that the kit raises on purpose; the message is for the user.

    Passwords, tokens and keys in the message are hidden, and control characters are
    escaped.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(without_secrets(message), lines=True))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message, not the arguments, from which some classes make the message."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class InvalidInputError(KitError, ValueError):
    """An argument, flag, file or address that cannot be used; a job's exit code is 2."""

    exit_code = 2


class TransientError(InvalidInputError):
    """What may pass: a system that is away, or what another process has locked.

    A system is a database, a broker or a server.

    A job ends with exit code 75 (EX_TEMPFAIL), by which a supervisor knows that a later
    start may succeed.
    """

    exit_code = 75


class MissingExtraError(KitError, ImportError):
    """An optional library is not installed; the message names the `pip install` to run."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional library; run: pip install"
            f" 'sparkstream-kit[{extra}]'"
        )


class DryRun(KitError):  # noqa: N818 - the rule above
    """Raised by a dry run where its queries would start; a job prints what would run.

    A job ends with exit code 0; after a comparison with an earlier version that found a
    difference, with 3.
    """

    exit_code = 0


class QueryFailed(KitError):  # noqa: N818 - the rule above
    """A query or a DStream batch failed; the other queries of its run have been stopped.

    Attributes:
        cause: the innermost error, on one line.
        summary: what the run did until then (a `RunSummary`), or None.
    """

    def __init__(self, name: str, cause: str, summary: object = None) -> None:
        super().__init__(f"{name} failed: {cause}")
        self.cause = without_secrets(cause)
        self.summary = summary


class InputUnavailable(QueryFailed):
    """A query failed because its input does not answer, such as a port on which nothing listens."""

    exit_code = TransientError.exit_code


class CheckpointDamaged(QueryFailed):
    """A query failed at its start because a file of its checkpoint is not as Spark wrote it."""

    exit_code = 2


# --- messages

# Control characters, Unicode line separators, characters that reverse the direction of
# text, and lone surrogates, which cannot be encoded for a terminal.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, lines: bool = False) -> str:
    r"""Escape a text so that no input can control a terminal or forge a line of output.

    All text from the input passes through this function before it is shown in a
    terminal, on a page or in a notebook. The escapes are those of JSON, so text within
    JSON keeps its meaning.

    Args:
        text: any text.
        lines: keep line feeds and tabs, for a text of several lines.

    Examples:
        >>> print(printable("tea\x1b[2J\nink\u202e é☃"))
        tea\u001b[2J\nink\u202e é☃
        >>> print(printable("two\nlines", lines=True))
        two
        lines
    """

    def escape(found: re.Match[str]) -> str:
        character = found[0]
        if lines and character in "\n\t":
            return character
        return _SHORT.get(character, f"\\u{ord(character):04x}")

    return _CONTROLS.sub(escape, text)


# The name of a secret. It may be the end of a longer name, such as `fs.s3a.secret.key`.
_NAMED = (
    r"(?:"
    r"pass(?:word|wd|phrase)|"
    r"pwd|"
    r"(?<![a-z])(?:pass|sig)|"  # a whole word: neither `bypass` nor `design`
    r"token|"
    r"secret(?:[._ -]?key)?|"
    r"signature|"
    r"credential|"
    r"authorization|"
    r"cookie|"
    r"(?:access|account|api|private|encryption)[._ -]?key(?:\.[\w.-]+)?"
    r")"
)
# What stands before a secret. Above each pattern: a text in which it finds `hush`.
_BEFORE = "|".join(
    (
        # --db-password hush
        rf"--[\w.-]*{_NAMED}\s+",
        # token: hush, as a line of YAML; elsewhere a column may have that name
        r"^[ \t-]*token:[ \t]+",
        # .option("password", "hush")
        rf"(?:option|config|set\w*)\(\\*[\"'][\w.-]*{_NAMED}\\*[\"'],\s*",
        # <password>hush</password>
        rf"<[\w.-]*{_NAMED}>",
        # <name>fs.s3a.secret.key</name><value>hush</value>
        rf"{_NAMED}</\w+>\s*<value>",
        # ALTER USER kit PASSWORD 'hush'
        r"(?:password|identified by)\s+(?=[\"'])",
        # password=hush; Map(password -> hush)
        rf"{_NAMED}\\*[\"']?[ \t]*(?:=>?|->)[ \t]*",
        # {"token": "hush"}; password: hush
        rf"{_NAMED}\\*(?:[\"']|(?<!\btoken))[ \t]*:[ \t]*",
    )
)
_SCHEME = r"(?:(?:basic|bearer|digest|token) +)?"  # authorization: Basic hush
# 'hush', up to the same quote or the end of the line; in JSON within JSON it is \"hush\"
_IN_QUOTES = r"(\\*[\"'])(?:(?!\2)(?:\\.|[^\n]))*"
# hush, up to a blank, a quote, or one of & ; < >, without a comma or a bracket behind it
_BARE = r"[^\s&;\"'<>]*[^\s&;\"'<>,.:)\]}]"
# A pattern for each form of a secret, and what is shown in its place. To hide too much
# does no harm.
_SECRETS = {
    # -----BEGIN PRIVATE KEY----- hush -----END PRIVATE KEY-----
    r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)": r"\1***",
    # postgresql://kit:hush@host: up to the last @, although an @ in a password should
    # be written %40. A port before a path is not a password. One slash may be missing: a
    # URL used as a path loses it.
    r"(:/{1,2}[^\s/:@]*:)(?!\d{1,5}[/?#])\S*@": r"\1***@",
    # https://hush@host, and jdbc:oracle:thin:kit/hush@host
    r"(?i)(\bhttps?:/{1,2}|thin:[^\s/:@]*/(?=[^\s/]))[^\s/:@?#]+@": r"\1***@",
    # Bearer hush
    r"(?i)(\bbearer\s+|\bbasic\s+(?=\S*[\d+/=]))[\w.~+/=-]+": r"\1***",
    rf"(?im)((?:{_BEFORE}){_SCHEME})(?:{_IN_QUOTES}|{_BARE})": r"\1\2***",
    # Keys of AWS, tokens of GitHub and JSON Web Tokens have a form of their own.
    r"\b(?:(?:AKIA|ASIA)[A-Z\d]{16}|gh[a-z]_\w{30,}|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*)": (
        "***"
    ),
}


def without_secrets(text: str) -> str:
    """Hide passwords, tokens and keys in a text before it is printed.

    A secret is found by its name, its place in a URL or a header, or its form, as of a
    private key.

    Examples:
        >>> without_secrets("unknown argument postgresql://kit:hush@host/db")
        'unknown argument postgresql://kit:***@host/db'
        >>> without_secrets("sc://host:15002/;token=hush cannot be had")
        'sc://host:15002/;token=*** cannot be had'
    """
    for secret, shown in _SECRETS.items():
        text = re.sub(secret, shown, text)
    return text


def hint(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, as "; did you mean X?"; empty if none is near.

    Examples:
        >>> hint("chekpoint", ["checkpoint", "trigger"])
        '; did you mean checkpoint?'
        >>> hint("zzz", ["checkpoint", "trigger"])
        ''
    """
    lowered = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {lowered[near[0]]}?"
    for word, spelt in lowered.items():
        if len(word) > 3 and name.lower().endswith(word):  # noqa: PLR2004
            return f"; did you mean {spelt}?"
    return ""


def reject_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first of `given` that is not in `known`, naming the nearest known name.

    Args:
        what: what the names are, for the message ("keyword of start()").
        given: the names the caller used.
        known: the names that are allowed.

    Raises:
        InvalidInputError: a name in `given` is not in `known`.

    Examples:
        >>> reject_unknown("trigger", ["realTme"], ["realTime", "availableNow"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown trigger realTme; did you mean realTime?
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = hint(name, names)
            if not near:
                near = f"; known: {', '.join(names)}"
            raise InvalidInputError(f"unknown {what} {name}{near}")


# --- causes: why something in Spark failed, on one line


_NUMBER = re.compile(r"(tiny|small|big)?int|float|double|decimal.*")
_ERROR_CLASS = r"\[[A-Z_][A-Z\d_.]+\]"  # such as [PARSE_SYNTAX_ERROR]
_TRACEBACK = "Traceback (most recent call last):"
_DEEPEST = 100  # the longest chain of causes to follow
_LONGEST = 2000  # characters of one message: a record of the input may be long
# What stands before each error of Java but the first in a text; a line of a plan begins
# with two more blanks.
_INNER = re.compile(r"\n(?:: (?=\S)|Caused by: )")
# What follows a message in the text of an error: a stack, a plan, or the query with an
# arrow below it.
_END = re.compile(
    r"\n\s*(?:at \S|\.\.\. \d+ more|Driver stacktrace:|JVM stacktrace:|"
    r"=== Streaming Query ===|== SQL ==\n|"
    r'== DataFrame ==\n".*" was called from\n(?:java|jdk)\.|\^+\s*$)|;\n',
    re.MULTILINE,
)
# `run` knows errors of Kafka by their whole names.
_PACKAGE = re.compile(
    r"(?<![\w.$])(?!org\.apache\.kafka)(?:[a-z]\w*\.)+(?=[A-Z][\w$]*(?:Error|Exception)\b)"
)
# A file (without the slashes before it), a column or a record that an error of Spark's
# own names.
_THING = re.compile(r"(?<=:/)/*([^\s:].*?)(?=[.,;:)]*(?:\s|$))|(`[^`]+`)|(\[[^\]]+\])")
_CLASS = re.compile(rf"^.*?{_ERROR_CLASS} ")
_STATE = re.compile(r"\.?\s+SQLSTATE: \w+;?")
# Before the expression in SQL that has failed
_FRAGMENT = re.compile(r" == SQL \(.*?\) == ")
_RAISED_IN_SQL = re.compile(r"^[\w.$]+: (?:\(\w+\) )?\[USER_RAISED_EXCEPTION\] ")
# Cut off: the kit's messages need no class name
_OF_THE_KIT = re.compile(r"^sparkstream_kit\.[\w.]+: ")
_MEANS = {  # errors of Spark that do not say what has happened, and what has
    # Spark gives a new Python process ten seconds to call back, and has no setting for
    # that.
    r"Timed out while waiting for the Python worker to connect back": (
        r"\g<0>, as on a busy machine; run it again: a query goes on from its"
        r" checkpoint"
    ),
    # Two drivers share a checkpoint, and the other one has already written this file of
    # it: a plan, a commit or a list of input files. Spark replaces none of them.
    r"\[FAILED_RENAME_PATH\].* to "
    r"\S+/(?:offsets|commits|sources/[^/]+)/\d+(?:\.compact)? as|"
    r"Multiple streaming jobs detected": (
        "another driver is using this checkpoint (a local checkpoint names it in"
        " sparkstream-kit/lock); this one ends"
    ),
    r"assertion failed: Invalid batch: (.*?)(?:,_metadata#\d+)? != (.*?)(?:,_metadata#\d+)?$": (
        r"the input had the columns \1 when the query started, and has \2 now: the name"
        r" of a folder such as day=01 is a column; start the query again to read it, or"
        r" move that folder out of the input"
    ),
    # An odd number of quotes
    r"Malformed CSV record: (?:[^\"]*\"[^\"]*\")*[^\"]*\"[^\"]*$": (
        r"\g<0>; multiLine=True reads values with line feeds"
    ),
    r".*INT64 .TIMESTAMP.NANOS.*|column: .*, physicalType: INT64, logicalType: timestamp": (
        r"\g<0>; if they are nanoseconds, write with coerce_timestamps='us'; if"
        r" numbers, declare BIGINT"
    ),
    r"CSV header does not conform to the schema.*": (
        r"\g<0>; enforceSchema=True ignores the names in headers"
    ),
    r"Number of column in CSV header .*Header length: 1, .*": (
        r"\g<0>; if a semicolon or a tab separates the names, give sep=';' or sep='\\t'"
    ),
    r"Malformed CSV record: [^,;|\t]*([;|]).*": (
        r"\g<0>; if \1 separates its values, give sep='\1'"
    ),
    r"Malformed CSV record: [^,;|\t]*\t.*": (
        r"\g<0>; if a tab separates its values, give sep='\\t'"
    ),
    r'For input string: "[^"\d\\]+"$': (
        r"\g<0>; if it is the name of a column, give header=True"
    ),
    r'For input string: ".*\\[rn].*"': (
        r"\g<0>; if all lines end with \\r\\n, give lineSep='\\r\\n'; if lines end in"
        r" different ways (\\n, \\r\\n, \\r), give multiLine=False"
    ),
    r"(CSV header|Malformed CSV record).*\\r(?=[\"']|$).*": (
        r"\g<0>; if lines end with \\r\\n, give lineSep='\\r\\n'"
    ),
    r"(Unexpected end-of-input: expected close marker for \w+).*": (
        r"\1; if the file is one array or object over several lines, give"
        r" multiLine=True"
    ),
    r"Unexpected character \('{3}.*": (
        r"\g<0>; allowSingleQuotes=True reads names and texts in single quotes"
    ),
    r"StateStoreCommitValidationFailed: (\[STATE_STORE_COMMIT_VALIDATION_FAILED\]).*": (
        r"\1 the function of the batch has read only a part of it (show, limit, an early"
        r" return); let it write, count or collect the whole batch"
    ),
    r"(?:RuntimeException|FileFormatException): (.* is not a Parquet file|"
    r"Malformed ORC file).*": (
        r"\g<0>; if its rows are CSV or JSON, read it with sources.csv or sources.json;"
        r" else write it again, or move it out of the input"
    ),
    r".*\[FAILED_READ_FILE\.NO_HINT\].*": (
        r"\g<0>; Spark does not say why: the file may be damaged, or have an encoding"
        r" or a compression that Spark does not read; write it again, or move it out of"
        r" the input"
    ),
    r".*_SCHEMA_NOT_COMPATIBLE.*(Existing .*)\. If you want to force .*": (
        r"the state has other columns or types; start on a new checkpoint, with"
        r" continues= this one (\1)"
    ),
    r"FileNotFoundException: (?:file:)?(.*)/_spark_metadata/(\d+)\S* doesn't exist.*": (
        r"folder \1 lacks batch \2 of this query: it was removed, emptied or made again"
        r" while the query wrote to it; restore it, or start anew with another target"
        r" and another checkpoint"
    ),
    # Names that Spark makes anew in each process
    r"(?:NoSuchFileException|FileNotFound(?:Exception|Error)):.*?"
    r"([^\s':]*)/(?:blockmgr|spark)-[\da-f]{8}-[\da-f-]{27}/.*": (
        r"Spark's temporary folder in \1 was emptied while Spark ran, as by a program"
        r" that cleans up /tmp; start a new process, and give Spark a folder that is left"
        r" alone (SPARK_LOCAL_DIRS or spark.local.dir): a query goes on from its checkpoint"
    ),
    r"OutOfMemoryError.*": (
        r"\g<0>; give Spark's JVM more memory (spark-submit --driver-memory 4g, or"
        r" conf={'spark.driver.memory': '4g'} in a new process), or less at once: one"
        r" very long line, and a file that is unpacked as a whole, must fit"
    ),
    r".*Unexpected character '.*' following quoted value.*content parsed=(.*)": (
        r"text follows a value in quotes, behind \1; quarantine.parse_csv sets such lines"
        r" aside; of one column, if lines end in different ways (\\n, \\r\\n, \\r), give"
        r" multiLine=False"
    ),
    r"Unescaped quote character.*content parsed=(.*)": (
        r"a quote within a value in quotes is not doubled, behind \1; escape='\\\\'"
        r" reads quotes with a backslash, and quarantine.parse_csv sets such lines aside"
    ),
}
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_OF_LIBRARIES = re.compile(
    r"/(?:pyspark|py4j|sparkstream_kit|site-packages|dist-packages)(?:/|\.zip)|/lib/python3|^<frozen"
)
_NO_ROOM = re.compile("No space left on device|Disk quota exceeded")
# In the stacks of errors at Spark's temporary files.
_TEMPORARY = re.compile(
    r"DiskBlock|DiskStore|SpillWriter|Spillable|Shuffle\w*(Writer|Resolver)|createTempDir|"
    r"/spark-[\da-f]{8}-[\da-f-]{27}/"  # a folder in it
)
# The names in a header of CSV that differ.
_NAMES = re.compile(r"(?<=\n)Expected: (.*) but found: ([^\n]*)(?=\nCSV file: )")
# A value that is no number or boolean.
_VALUE = re.compile(r'(?<=For input string: ")[^"]*(?=")')
# Spark's advice at a record that does not fit, and the kit's.
_ADVICE = re.compile(
    r"Parse Mode: FAILFAST\. To process malformed records .* as 'PERMISSIVE'"
)
_WAYS_ON = (
    "quarantine.parse_csv and parse_json set such lines aside, mode='PERMISSIVE' reads"
    " NULL instead"
)


def innermost_cause(error: BaseException) -> str:
    """Find why a query or a batch failed, as one line: the innermost cause.

    Brackets after the cause say what it concerns.

    The innermost error often does not name the file or the record. Errors of Spark
    around it do.

    Examples:
        >>> innermost_cause(ValueError("no such shop"))
        'ValueError: no such shop'
    """
    texts = list(_texts(error))
    outermost_first: list[str] = []
    for text in texts:
        outermost_first += _errors_in(text)
    messages = list(dict.fromkeys(reversed(outermost_first)))
    cause = messages[0]
    for message in messages:
        if ": " in message:  # an error of Java may have no message
            cause = message
            break
    line = _in_words(cause)
    place = _raised_at(texts, cause)
    if place:
        line += f" ({place})"
    if _NO_ROOM.search(line):
        line += f"; {_room_for(texts)}"
    reason = cause.partition(": ")[2]
    around = _around(line, [each for each in messages if reason not in each])
    if around:
        line += f" ({around})"
    return _PACKAGE.sub("", line)


def _in_words(cause: str) -> str:
    """Return an error without what says nothing, and with what it means if that is known."""
    line = _RAISED_IN_SQL.sub("", _OF_THE_KIT.sub("", cause))
    for pattern, meaning in _MEANS.items():
        found = re.search(pattern, line)
        if found:
            # Without the numbers of columns, as in amount#12L
            line = re.sub(r"#\d+L?", "", found.expand(meaning))
    return line


def _around(line: str, messages: list[str]) -> str:
    """Return those errors of Spark's own that name a thing of which the line says nothing.

    Args:
        line: the innermost error, as it is shown.
        messages: the errors around it, the innermost first.
    """
    around: list[str] = []
    for message in messages:
        if not _CLASS.match(message):
            continue
        text = _CLASS.sub("", message)
        shown = "; ".join([line, *around])
        # Of each match one group has text: a file, a column or a record
        things = ["".join(groups) for groups in _THING.findall(text)]
        if any(thing not in shown for thing in things):
            around.append(_ADVICE.sub(_WAYS_ON, text.rstrip(".;")))
    return "; ".join(around)


def _raised_at(texts: list[str], cause: str) -> str:
    """Return the function, file and line where a user's function failed; else nothing.

    It is a function of rows, or of a batch. Of a traceback these are the last ones that
    are neither PySpark's nor a library's.
    """
    reason = _on_one_line(cause.partition(": ")[2] or cause)
    # Of the worker, and of the function of a batch that has called it
    for traceback in _tracebacks(texts):
        if reason not in _on_one_line(traceback):
            continue
        frames = _FRAME.findall(traceback)
        own = [frame for frame in frames if not _OF_LIBRARIES.search(frame[0])]
        if own:
            file, number, function = own[-1]
            caller = own[0][2]
            called = "" if caller == function else f", called by {caller}"
            return f"in {function}{called}, {file} line {number}"
    return ""


def _tracebacks(texts: list[str]) -> Iterator[str]:
    """Yield the tracebacks of Python in the texts of an error; the last of a text first."""
    for text in texts:
        yield from reversed(text.split(_TRACEBACK)[1:])


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _room_for(texts: list[str]) -> str:
    """Return where to make room when a disk is full, by the stacks in the texts of an error."""
    temporary = "Spark's temporary folder (spark.local.dir, SPARK_LOCAL_DIRS or TMPDIR)"
    if _TEMPORARY.search("\n".join(texts)):
        return f"make room in {temporary}, or set it to a larger disk"
    return f"make room on the disk of the checkpoint, of the target or of {temporary}"


def _texts(error: BaseException) -> Iterator[str]:
    """Yield the texts of an error and its causes, the outermost first."""
    # PySpark keeps the cause in `_cause`, and the Java exception in `_origin`; py4j in
    # `java_exception`.
    for each in _chain(error, lambda each: getattr(each, "_cause", None)):
        java: Any = getattr(each, "_origin", None)
        if java is None:
            java = getattr(each, "java_exception", None)
        if java is not None:
            for inner in _chain(java, lambda each: each.getCause()):
                yield f"{inner.getClass().getSimpleName()}: {inner.getMessage() or ''}"
            return
        # If PySpark has no class for a Java exception, its text already begins with
        # Java's class name.
        text = str(each)
        if re.match(r"[\w.$]+(Error|Exception)(:|$)", text, re.MULTILINE):
            yield text
        else:
            yield f"{type(each).__name__}: {text}"


def _chain(error: Any, cause: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield an error and its causes; of a circle, each several times."""
    for _ in range(_DEEPEST):
        if error is None:
            return
        yield error
        error = cause(error)


def _errors_in(text: str) -> list[str]:
    r"""Return the errors in a text, outermost first, each on one line without its stack.

    Examples:
        >>> stack = "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\tat y"
        >>> _errors_in(f"PythonException: {stack}")
        ["KeyError: 'a'"]
        >>> _errors_in(
        ...     "Traceback (most recent call last):\npy4j.protocol.Py4JJavaError: o1.save\n"
        ...     ": org.apache.spark.SparkException: failed\n"
        ...     "Caused by: java.io.IOException: No space left"
        ... )[1:]
        ['org.apache.spark.SparkException: failed', 'java.io.IOException: No space left']
    """
    if _TRACEBACK in text:
        text = _below_traceback(text)
    # A blank at the end of a name, or a line end in a value, cannot be seen.
    text = _NAMES.sub(
        lambda found: f"Expected: {found[1]!r} but found: {found[2]!r}", text
    )
    text = _VALUE.sub(
        lambda found: found[0].replace("\r", r"\r").replace("\n", r"\n"), text
    )
    text = re.sub(r"\r(?!\n)", r"\\r", text)
    messages: list[str] = []
    for part in _INNER.split(text):
        lines = [line.strip() for line in _END.split(part, maxsplit=1)[0].splitlines()]
        message = " ".join(filter(None, lines))[:_LONGEST]
        messages.append(_FRAGMENT.sub("; SQL: ", _STATE.sub("", message)))
    return messages


def _below_traceback(text: str) -> str:
    """Return the error that stands below the indented lines of the last traceback."""
    lines = text.rpartition(_TRACEBACK)[2].splitlines()
    below = dropwhile(lambda line: not line.strip() or line[0].isspace(), lines)
    return "\n".join(below)


def said_by_spark(error: Exception) -> str:
    r"""Shorten an error of Spark to its sentence, without error class, SQLSTATE and stack.

    For an error of Java without an error class that is its innermost cause.

    Examples:
        >>> text = "\n[PARSE_SYNTAX_ERROR] Syntax error at 'b'. SQLSTATE: 42601 (line 1)"
        >>> said_by_spark(ValueError(text))
        "Syntax error at 'b' (line 1)"
    """
    name = type(error).__name__
    if hasattr(error, "_origin"):  # the Java exception, whose name is in the text
        name = r"\w+"
    sentence = re.sub(rf"^{name}: ", "", innermost_cause(error))
    return _CLASS.sub("", sentence).rstrip(".;")


def no_timestamp(column: str, kind: str) -> str:
    """Explain that an event-time column is not a timestamp, and how to convert it."""
    name = column
    if not re.fullmatch(r"\w+", column):
        name = "`" + column.replace("`", "``") + "`"
    if _NUMBER.fullmatch(kind):
        made = f"F.timestamp_seconds({name!r})"
    elif kind == "string":
        made = f"F.to_timestamp({name!r})"
    else:
        made = f"F.col({name!r}).cast('timestamp')"
    fix = f"frame.withColumn({column!r}, {made})"
    if kind == "bigint":
        fix += "  # or timestamp_millis"
    return (
        f"event-time column {column} is {kind}, not a timestamp; make it one first:"
        f" {fix}"
    )


def count(number: int, what: str) -> str:
    """Return a number with its noun, as text.

    Args:
        number: the number.
        what: the noun in the singular. Its plural ends with "s", or with "es" after
            "ch".

    Examples:
        >>> count(1, "file"), count(2000, "file"), count(2, "batch")
        ('1 file', '2,000 files', '2 batches')
    """
    ending = "s"
    if number == 1:
        ending = ""
    elif what.endswith("ch"):
        ending = "es"
    return f"{number:,} {what}{ending}"
