"""What a face of a run takes a batch: face.py FACE BATCHES PROGRESS.jsonl.

Recorded batches come a hundred a second. Timed are the call in the run's own thread,
and the CPU of this process, in which the page answers; its browser is a process of its
own.
"""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

from pyspark.sql.streaming.listener import StreamingQueryProgress

from sparkstream_kit.monitoring import watching

BROWSER = """
import sys
from http.client import HTTPConnection
to = HTTPConnection("127.0.0.1", int(sys.argv[1]))
to.request("GET", "/events")
for line in to.getresponse():
    print(len(line), flush=True)
"""
FACES: dict[str, dict[str, Any]] = {
    "board": {},
    "lines": {"show": "terminal"},
    "record": {"record": "run.jsonl"},
    "page": {"ui": 0},
    "browser": {"ui": 0},
    "scrape": {"metrics": "127.0.0.1:0"},
}

face, count, recorded = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
told = [json.loads(line) for line in recorded.read_text("utf-8").splitlines()]
told = [each for each in told if each["name"] == "action_windows"]
batches = [
    StreamingQueryProgress.fromJson(told[number % len(told)] | {"batchId": number})
    for number in range(count)
]
times: list[float] = []
scrapes: list[float] = []
with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()) as said:
    asked: dict[str, Any] = {
        key: f"{folder}/{value}" if key == "record" else value
        for key, value in FACES[face].items()
    }
    with watching([], print, **asked) as (tell, _):
        port = (
            said.getvalue().split(":")[3].split("/")[0]
            if {"ui", "metrics"} & {*asked}
            else ""
        )
        browser = None
        if face == "browser":
            browser = subprocess.Popen(
                [sys.executable, "-c", BROWSER, port], stdout=subprocess.PIPE, text=True
            )
            next(iter(browser.stdout or ()))  # it is there
        began, cpu = time.perf_counter(), time.process_time()
        for number, each in enumerate(batches):
            time.sleep(max(0.0, began + number / 100 - time.perf_counter()))
            started = time.perf_counter()
            tell(each)
            times.append((time.perf_counter() - started) * 1e6)
            if face == "scrape" and number % 100 == 0:
                to = HTTPConnection("127.0.0.1", int(port))
                started = time.perf_counter()
                to.request("GET", "/metrics")
                to.getresponse().read()
                scrapes.append((time.perf_counter() - started) * 1e6)
        cpu = (time.process_time() - cpu) / count * 1e6
    if browser is not None:
        browser.communicate()
print(json.dumps({"rows": count, "microseconds": median(scrapes or times), "cpu": cpu}))
