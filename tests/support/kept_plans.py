"""The plans of batches as sinks keep them: packed into one line."""

import base64
import json
import zlib

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
