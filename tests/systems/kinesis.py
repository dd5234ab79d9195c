"""A server of Kinesis's protocol for the tests and for `make kinesis`: kinesalite, on a free port.

It keeps its streams in memory, also while it is away for those who call it.
"""

import itertools
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from faults.drivers import until
from support.ports import free_ports
from systems.conftest import AWS_LOGIN, ROOT, jars
from systems.daemons import Daemon, listens

REGION = "us-east-1"
_MOST = 500  # records that Kinesis takes at once


class Server:
    """A running server.

    Attributes:
        url: its address.
        client: boto3's client for it.
    """

    def __init__(self):
        self._home = Path(tempfile.mkdtemp(prefix="sparkstream-kinesis-"))
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._port, self._control = port, self._home / "control"
        script = ROOT / "scripts" / "systems" / "kinesis" / "server.js"
        command = [
            "node",
            str(script),
            str(jars("kinesis")),
            str(port),
            str(self._control),
        ]
        self._daemon = Daemon("kinesalite", command, self._home / "log")
        self._names = itertools.count()
        keys = {
            "aws_access_key_id": AWS_LOGIN["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": AWS_LOGIN["AWS_SECRET_ACCESS_KEY"],
        }
        self.client: Any = boto3.client(
            "kinesis",
            endpoint_url=self.url,
            region_name=REGION,
            config=Config(read_timeout=10),
            **keys,
        )

    def start(self):
        """Start it, and wait until it answers."""
        self._daemon.start()
        self._daemon.until(lambda: listens(self._port))

    def stop(self):
        """End it; its streams go with it."""
        self._daemon.stop(signal.SIGKILL)
        shutil.rmtree(self._home, ignore_errors=True)

    def go(self):
        """Go away: connections are cut and refused; the streams stay in memory."""
        os.kill(self._daemon.pid, signal.SIGUSR2)
        until(lambda: not self._listens(), self._daemon.log)

    def come(self):
        """Come back, if it is away."""
        if not self._listens():
            os.kill(self._daemon.pid, signal.SIGUSR2)
            until(self._listens, self._daemon.log)

    def _listens(self):
        try:
            return listens(self._port)
        except OSError:
            return False

    def control(self, **told):
        """Tell the server something; without a word, to be as it was."""
        file = self._home / "control.new"
        file.write_text(json.dumps(told))
        file.replace(self._control)

    def throttled(self):
        """Return how many requests it has throttled."""
        file = self._control.with_suffix(".throttled")
        return file.stat().st_size if file.exists() else 0

    def stream(self, shards=1):
        """Make a stream; return its name."""
        name = f"stream-{next(self._names)}"
        self.create(name, shards)
        return name

    def create(self, name, shards=1):
        """Make a stream of this name."""
        self.client.create_stream(StreamName=name, ShardCount=shards)
        self._settled(name)

    def delete(self, name):
        """Delete a stream, and wait until it is gone."""
        self.client.delete_stream(StreamName=name)
        until(
            lambda: name not in self.client.list_streams()["StreamNames"],
            lambda: f"{name} is there",
        )

    def put(self, stream, lines):
        """Write records, each by its partition key and its text."""
        records = ({"PartitionKey": key, "Data": text.encode()} for key, text in lines)
        while some := list(itertools.islice(records, _MOST)):
            answer = self.client.put_records(StreamName=stream, Records=some)
            assert answer["FailedRecordCount"] == 0, answer

    def open_shards(self, stream):
        """Return the open shards, by their keys."""
        found = self.client.list_shards(StreamName=stream)["Shards"]
        opened = [
            each
            for each in found
            if "EndingSequenceNumber" not in each["SequenceNumberRange"]
        ]
        return sorted(
            opened, key=lambda each: int(each["HashKeyRange"]["StartingHashKey"])
        )

    def split(self, stream):
        """Split the open shard with the most keys in two."""

        def size(shard):
            return int(shard["HashKeyRange"]["EndingHashKey"]) - int(
                shard["HashKeyRange"]["StartingHashKey"]
            )

        shard = max(self.open_shards(stream), key=size)
        middle = int(shard["HashKeyRange"]["StartingHashKey"]) + size(shard) // 2
        self.client.split_shard(
            StreamName=stream,
            ShardToSplit=shard["ShardId"],
            NewStartingHashKey=str(middle),
        )
        self._settled(stream)

    def merge(self, stream):
        """Merge the first two open shards into one."""
        first, second = self.open_shards(stream)[:2]
        self.client.merge_shards(
            StreamName=stream,
            ShardToMerge=first["ShardId"],
            AdjacentShardToMerge=second["ShardId"],
        )
        self._settled(stream)

    def _settled(self, stream):
        def status():
            said = self.client.describe_stream_summary(StreamName=stream)
            return str(said["StreamDescriptionSummary"]["StreamStatus"])

        until(lambda: status() == "ACTIVE", lambda: f"{stream} is {status()}")
