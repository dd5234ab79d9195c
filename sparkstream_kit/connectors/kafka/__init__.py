"""Topics of Kafka, as `sources.kafka` and `sinks.kafka`."""

__all__: list[str] = []
