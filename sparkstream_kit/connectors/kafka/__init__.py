"""Topics of Kafka, as `sources.kafka` and `sinks.kafka`.

Both are thin layers over Spark's own Kafka connector. `source` asks the brokers about
the topics before a query starts; `sink` adds headers with which a reader can drop
repeated records. `transactions` is the sink that writes exactly once, by a producer of
its own.
"""

from sparkstream_kit.connectors import Connector, System

SYSTEM = System(
    source="replayable",
    sink=(
        "at least once; exactly once with exactly_once=True, or for a reader that drops"
        " repeats"
    ),
    extra="kafka",
    libraries=("confluent_kafka", "pandas", "pyarrow"),
    connector=Connector(
        "org.apache.spark:spark-sql-kafka-0-10_2.13:{spark}",
        jars=(
            "spark-sql-kafka-0-10_2.13-",
            "spark-token-provider-kafka-0-10_2.13-",
            "kafka-clients-",
            "commons-pool2-",
        ),
    ),
    watched_by="brokers",
    failures={
        "failOnDataLoss|KafkaIllegalState|UnknownTopicOrPartition|OffsetOutOfRange": (
            "Kafka no longer has a topic or records that were still to be read"
        ),
        r"kafka\S*TimeoutException": (
            "no Kafka broker has answered; start it, and then the query again"
        ),
    },
)
