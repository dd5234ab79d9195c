"""Checkpoints written by hand, file by file as Spark writes them: for tests without a query."""

import json
from pathlib import Path

from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit.checkpoints.logs import Logs

ID = "11111111-1111-4111-8111-111111111111"


def plan(root, number, *offsets, watermark=0, time=0, conf=None):
    """Write the plan of a batch, given the offset of each source as text."""
    of_query = {
        "batchWatermarkMs": watermark,
        "batchTimestampMs": time,
        "conf": conf or {},
    }
    return put(root / "offsets" / str(number), "v1", json.dumps(of_query), *offsets)


def commit(root, number, watermark=0):
    """Write the commit of a batch, given the watermark of the next one."""
    file = root / "commits" / str(number)
    return put(file, "v1", json.dumps({"nextBatchWatermarkMs": watermark}))


def entry(root, log, number, *files, compact=False):
    """Write an entry of a file source's log; each file has a time, and may have its own entry."""
    lines = []
    for file in files:
        path, time, *own = file
        listed = {
            "path": Path(path).as_uri(),
            "timestamp": time,
            "batchId": own[0] if own else number,
        }
        lines.append(json.dumps(listed, separators=(",", ":")))
    name = f"{number}.compact" if compact else str(number)
    return put(root / "sources" / log / name, "v1", *lines)


def until(number):
    """Return the offset of a file source at the end of an entry, as Spark writes it."""
    return f'{{"logOffset":{number}}}'


def put(file, *lines):
    """Write a file and the folders above it; return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines))
    return file


def of_files(root, folder, done, *, planned=0, watermarks=None, conf=None):
    """Write the checkpoint of a query that has read a file of a folder in each batch.

    Args:
        root: the checkpoint.
        folder: the folder of the files, which are written, too: `0.txt` and so on.
        done: the number of committed batches.
        planned: the number of batches after them that are only planned.
        watermarks: the watermark of each batch, and of the one after the last.
        conf: the settings in the plans.
    """
    put(root / "metadata", json.dumps({"id": ID}))
    watermarks = watermarks or [0] * (done + planned + 1)
    for number in range(done + planned):
        file = put(folder / f"{number}.txt", f"line {number}")
        time = file.stat().st_mtime_ns // 1_000_000
        entry(root, "0", number, (file, time))
        watermark = watermarks[number]
        plan(root, number, until(number), watermark=watermark, time=time, conf=conf)
        if number < done:
            commit(root, number, watermarks[number + 1])
    return root


def place(root):
    """Return a checkpoint as `start` has it."""
    return LocalPlace(str(root), root)


def logs(root):
    """Return the logs of a checkpoint as the guard has them."""
    return Logs(root, place(root))
