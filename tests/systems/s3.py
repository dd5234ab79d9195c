"""A server of S3's protocol on this machine; its objects are in memory until it ends."""

import sys

import boto3
from botocore.config import Config
from support.ports import free_ports
from systems.daemons import Daemon, listens

BUCKET = "kit"
# Two layers of this server answer "100 Continue" (moto 9975). Hadoop's client for large
# uploads, such as a snapshot of the state, takes the second answer for the end.
SERVER = """import sys, moto.server, werkzeug.serving
werkzeug.serving.WSGIRequestHandler.handle_expect_100 = lambda handler: True
moto.server.main(sys.argv[1:])"""


class S3:
    """The server, with one bucket.

    Attributes:
        url: of the bucket, as Spark has it.
        settings: what Spark needs to reach the server, as arguments of `spark-submit`.
    """

    def __init__(self, folder, jars):
        [self._port] = free_ports(1)
        self.url = f"s3a://{BUCKET}"
        self._address = f"http://127.0.0.1:{self._port}"
        command = [
            sys.executable,
            "-c",
            SERVER,
            "-H",
            "127.0.0.1",
            "-p",
            str(self._port),
        ]
        self._server = Daemon("S3", command, folder / "s3.log")
        hadoop = {
            "access.key": "an-access-key",
            "secret.key": "a-secret-key",
            "endpoint": self._address,
            "endpoint.region": "eu-central-1",
            "path.style.access": "true",
        }
        self.settings: tuple[str, ...] = (
            "--jars",
            ",".join(map(str, sorted(jars.glob("*.jar")))),
        )
        for key, value in hadoop.items():
            self.settings += ("--conf", f"spark.hadoop.fs.s3a.{key}={value}")

    def start(self):
        """Start the server and make the bucket."""
        self._server.start()
        self._server.until(lambda: listens(self._port))
        self._client().create_bucket(
            Bucket=BUCKET,
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )

    def stop(self):
        """Stop the server."""
        self._server.stop()

    def put(self, path, content):
        """Write an object, which is there as a whole or not at all."""
        self._client().put_object(Bucket=BUCKET, Key=path.lstrip("/"), Body=content)

    def remove(self, path):
        """Remove an object."""
        self._client().delete_object(Bucket=BUCKET, Key=path.lstrip("/"))

    def names(self, folder):
        """Return the names of the objects in a folder."""
        below = folder.strip("/") + "/"
        pages = (
            self._client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=BUCKET, Prefix=below)
        )
        keys = [
            found["Key"].removeprefix(below)
            for page in pages
            for found in page.get("Contents", ())
        ]
        return sorted({key.partition("/")[0] for key in keys if key})

    def _client(self):
        return boto3.client(
            "s3",
            endpoint_url=self._address,
            region_name="eu-central-1",
            aws_access_key_id="an-access-key",
            aws_secret_access_key="a-secret-key",  # noqa: S106 - the server asks for none
            config=Config(retries={"mode": "standard"}),
        )
