"""Topics of Kafka, as `sources.kafka` and `sinks.kafka`.

Both are thin layers over Spark's own Kafka connector. `source` asks the brokers about the topics before a
query starts; `sink` adds headers with which a reader can drop repeated records.
"""

__all__: list[str] = []
