"""Delta Lake: `sources.delta` and `sinks.delta`.

`source` reads the rows that are added to a table, or its changes; `sink` writes
batches. `writers` has what both of the sink's writers share, and the one that uses
Delta's jars; `rust` has the one that uses deltalake.
"""

from sparkstream_kit.connectors import Connector, System

SYSTEM = System(
    source="replayable",
    sink="exactly once",
    ways=("append", "upsert", "replace"),
    extra="delta",
    libraries=("deltalake", "pandas", "pyarrow"),
    connector=Connector(
        "io.delta:delta-spark_{feature}_2.13:{delta}",
        jars=("delta-spark_", "delta-storage-"),
        # https://docs.delta.io/quick-start/#set-up-apache-spark-with-delta-lake
        settings={
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": (
                "org.apache.spark.sql.delta.catalog.DeltaCatalog"
            ),
            # With the default, two queries of a session could write the same commit of
            # a table on a local path, because its rename replaces an existing file
            # there: https://docs.delta.io/delta-storage/
            "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
        },
    ),
)
