"""Posts over HTTP: a feeder keeps them in a folder, the spool, and a source reads it.

A stream over HTTP cannot be read twice, so Spark alone could not replay a batch of it.
The feeder therefore writes the posts to files first, and Spark's file source reads
these. `wire` has the connection to the server, `spool` the folder, and `source` the
feeder and the public function `sources.posts`.
"""

from sparkstream_kit.connectors import System

SYSTEM = System(source="replayable, once a post is in the spool")
