"""Checkpoints that tests write by hand, file by file in Spark's formats: no query has to run."""

import json

from sparkstream_kit.checkpoints.logs import InputFile, Logs, log_text
from sparkstream_kit.profiles import STATE_STORE

OF_HADOOP = (
    "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"
)
SCHEMA = '{"type":"struct","fields":[]}'  # how the schema of a state ends


def write(root, files):
    """Write the files of a folder, given by their names."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def plan(*offsets, time=0, **conf):
    """Return the text of `offsets/N`; an int is an entry of a file source's log."""
    query = {"batchWatermarkMs": 0, "batchTimestampMs": time, "conf": conf}
    lines = [
        f'{{"logOffset":{offset}}}' if isinstance(offset, int) else offset
        for offset in offsets
    ]
    return "\n".join(["v1", json.dumps(query), *lines])


def commit(watermark=0, ids=None):
    """Return the text of `commits/N`; `ids` are those of the files of state format v2."""
    text = {"nextBatchWatermarkMs": watermark}
    if ids is None:
        return f"v1\n{json.dumps(text)}"
    return f"v2\n{json.dumps(text | {'stateUniqueIds': ids})}"


def entry(number, uri, time=0):
    """Return the text of an entry of a file source's log with one file."""
    return log_text([InputFile(number, time, uri)])


def operator(name, *stores):
    """Return the text of the metadata of a stateful operator."""
    described = {
        "operatorInfo": {"operatorId": 0, "operatorName": name},
        "stateStoreInfo": [
            {"storeName": store, "numColsPrefixKey": 0, "numPartitions": 9}
            for store in stores
        ],
    }
    return f"v1\n{json.dumps(described)}"


def batches(root, number):
    """Write a checkpoint of batches that are committed, each of which has read a file."""
    files = {"metadata": '{"id":"7"}'}
    for batch in range(number):
        files[f"offsets/{batch}"] = plan(batch, **{STATE_STORE: OF_HADOOP})
        files[f"commits/{batch}"] = commit()
        files[f"sources/0/{batch}"] = entry(batch, f"s3a://in/{batch}.csv")
    return Logs(write(root, files))


def with_state(root, number):
    """Write a checkpoint as `batches` does, with a state of one partition in `state/0`."""
    logs = batches(root, number)
    files = {
        "state/0/_metadata/metadata": operator("stateStoreSave", "default"),
        "state/0/0/_metadata/schema": SCHEMA,
    }
    files |= {f"state/0/0/{batch + 1}.delta": "rows" for batch in range(number)}
    write(root, files)
    return logs
