"""Files of a checkpoint that a test writes by hand, as Spark writes them."""

import json

PLANNED = 1_700_000_000_000  # when each batch was planned, in milliseconds since 1970


def write(root, name, *lines):
    """Write a file of lines and return it."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines))
    return file


def identify(root):
    """Write the id of the query."""
    return write(root, "metadata", '{"id":"1f0c4a4e-0000-4000-8000-000000000000"}')


def plan(root, batch, *offsets, watermark=0, version="v1"):
    """Write the plan of a batch; the offsets are those of its sources, as texts."""
    of_query = {
        "batchWatermarkMs": watermark,
        "batchTimestampMs": PLANNED,
        "conf": {"spark.sql.shuffle.partitions": "2"},
    }
    return write(root, f"offsets/{batch}", version, json.dumps(of_query), *offsets)


def commit(root, batch, watermark=0):
    """Write the commit of a batch, with the watermark of the next one."""
    return write(
        root, f"commits/{batch}", "v1", json.dumps({"nextBatchWatermarkMs": watermark})
    )


def until(entry):
    """Return the offset of a file source that has read its log up to an entry."""
    return json.dumps({"logOffset": entry}, separators=(",", ":"))


def line(name, entry, time=PLANNED, folder="/in"):
    """Return the line of a file source's log for a file."""
    return f'{{"path":"file://{folder}/{name}","timestamp":{time},"batchId":{entry}}}'


def log(root, name, *lines, source="0"):
    """Write a file of a file source's log, such as `3` or `9.compact`."""
    return write(root, f"sources/{source}/{name}", "v1", *lines)
