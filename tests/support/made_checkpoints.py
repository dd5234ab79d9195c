"""Checkpoints and kept plans made by hand, in the form of Spark's own: no query has to run."""

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit.checkpoints.logs import InputFile, log_text

QUERY = "ad7c6d5c-1f2e-4b6a-9c3d-0a1b2c3d4e5f"
DRAINED = 253_402_300_799_000  # the watermark of a batch that ends the input


def packed(**changes):
    """Return a plan as a sink keeps it."""
    plan = {
        "offsets": "",
        "watermark": 0,
        "others": [[None, '{"a": 1, "b": 2}']],
        "logs": {},
    }
    return base64.b64encode(zlib.compress(json.dumps(plan | changes).encode())).decode()


def unpacked(text):
    """Return what a kept plan has, as JSON gives it."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


@dataclass
class MadeCheckpoint:
    """A checkpoint whose files a test writes."""

    folder: Path
    query: str | None = QUERY

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.query is not None:
            self.write("metadata", json.dumps({"id": self.query}))

    @property
    def place(self):
        return LocalPlace(str(self.folder), self.folder)

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def planned(self, batch, *offsets, watermark=0):
        """Write the plan of a batch: the offset of each source, a number for a file source."""
        lines = [
            f'{{"logOffset":{each}}}' if isinstance(each, int) else each
            for each in offsets
        ]
        of_query = {"batchWatermarkMs": watermark, "batchTimestampMs": 7, "conf": {}}
        text = "\n".join(["v1", json.dumps(of_query), *lines])
        return self.write(f"offsets/{batch}", text)

    def committed(self, *batches):
        for batch in batches:
            self.write(f"commits/{batch}", 'v1\n{"nextBatchWatermarkMs":0}')

    def logged(self, entry, *files, log="0", suffix=""):
        """Write an entry of the log of a file source, with the files that it lists."""
        return self.write(f"sources/{log}/{entry}{suffix}", log_text(files))


def landed(folder, name, entry, time=1_700_000_000_000):
    """Write an input file; return it as the log of its source lists it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    return InputFile(entry, time, f"file://{folder}/{name}")
