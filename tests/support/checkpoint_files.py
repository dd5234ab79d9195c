"""The files of a checkpoint as Spark writes them, for tests in which no query writes them.

A function writes what it is named after, below the folder of the checkpoint, and returns
the file; one that ends in `_text` returns what would be in the file.
"""

import json
from urllib.parse import quote

from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit.checkpoints.logs import Logs

ID = "11111111-1111-4111-8111-111111111111"
AT = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC, in milliseconds since 1970


def put(file, *lines):
    """Write a file of lines, which are texts or bytes, and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = [line if isinstance(line, bytes) else line.encode() for line in lines]
    file.write_bytes(b"\n".join(parts))
    return file


def put_all(root, files):
    """Write files with their contents, given by their names below a folder; return the folder."""
    for name, content in files.items():
        put(root / name, content)
    return root


def metadata(root, query=ID):
    """Write the id of the query."""
    return put(root / "metadata", _json({"id": query}))


def noted(root, **fields):
    """Write the note of a query, and return its fields."""
    note = {"name": "q", "mode": "append", "fingerprint": "", **fields}
    put(root / "sparkstream-kit/query.json", json.dumps(note))
    return note


# --- plans and commits


def plan(root, batch, *offsets, **more):
    """Write the plan of a batch, which `plan_text` describes."""
    return put(root / f"offsets/{batch}", plan_text(*offsets, **more))


def plan_text(*offsets, watermark=0, time=AT, conf=None, version="v1"):
    """Return a plan with the offset of each source; a number is an entry of a log of files."""
    of_query = {
        "batchWatermarkMs": watermark,
        "batchTimestampMs": time,
        "conf": conf or {},
    }
    lines = [until(each) if isinstance(each, int) else each for each in offsets]
    return "\n".join([version, _json(of_query), *lines])


def until(entry):
    """Return the offset of a file source that has read its log up to an entry."""
    return _json({"logOffset": entry})


def commit(root, batch, watermark=0):
    """Write the commit of a batch, with the watermark of the next one."""
    return put(root / f"commits/{batch}", commit_text(watermark))


def commit_text(watermark=0, ids=None):
    """Return a commit; `ids` are those of the files of a state in format v2."""
    of_batch = {"nextBatchWatermarkMs": watermark}
    if ids is None:
        return f"v1\n{_json(of_batch)}"
    return f"v2\n{_json(of_batch | {'stateUniqueIds': ids})}"


# --- logs of file sources


def entry(root, number, *files, log="0", compact=False):
    """Write an entry of the log of a file source, which `log_text` describes."""
    name = f"{number}.compact" if compact else str(number)
    return put(root / "sources" / log / name, log_text(number, *files))


def log_text(number, *files):
    """Return an entry that lists files, each given as for `line`."""
    return "\n".join(["v1", *(line(number, file) for file in files)])


def line(number, file):
    """Return the line of an entry for a file.

    The file is a path or a URI, or a tuple of it, its time if that is not `AT`, and the
    entry that added it if that is an earlier one.
    """
    path, *more = file if isinstance(file, tuple) else (file,)
    time = more[0] if more else AT
    added = more[1] if len(more) > 1 else number
    uri = path if "://" in str(path) else f"file://{quote(str(path), safe='/=')}"
    return _json({"path": uri, "timestamp": time, "batchId": added})


# --- states


def state(root, *versions):
    """Write the rows of versions of a state of one partition."""
    for version in versions:
        put(root / f"state/0/0/{version}.delta", "rows")


def operator_text(name, *stores):
    """Return the metadata of a stateful operator."""
    described = {
        "operatorInfo": {"operatorId": 0, "operatorName": name},
        "stateStoreInfo": [
            {"storeName": store, "numColsPrefixKey": 0, "numPartitions": 9}
            for store in stores
        ],
    }
    return f"v1\n{_json(described)}"


# --- a whole checkpoint


def whole_checkpoint(root, done, folder=None, *, planned=0, watermarks=None, conf=None):
    """Write the checkpoint of a query that has read a file in each batch; return its folder.

    Args:
        root: the folder.
        done: the number of committed batches.
        folder: the folder of the files, which are written, too: `0.txt` and so on. Else
            they are `s3a://in/0.csv` and so on, of the time 0.
        planned: the number of batches after them that are only planned.
        watermarks: the watermark of each batch, and of the one after the last.
        conf: the settings in the plans.
    """
    metadata(root)
    watermarks = watermarks or [0] * (done + planned + 1)
    for number in range(done + planned):
        file, time = f"s3a://in/{number}.csv", 0
        if folder is not None:
            file = put(folder / f"{number}.txt", f"line {number}")
            time = file.stat().st_mtime_ns // 1_000_000
        entry(root, number, (file, time))
        plan(root, number, number, watermark=watermarks[number], time=time, conf=conf)
        if number < done:
            commit(root, number, watermarks[number + 1])
    return root


def place(root):
    """Return a checkpoint as `start` has it."""
    return LocalPlace(str(root), root)


def logs(root):
    """Return the logs of a checkpoint as the guard has them."""
    return Logs(root, place(root))


def _json(content):
    return json.dumps(content, separators=(",", ":"))
