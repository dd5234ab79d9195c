"""Topics of Kafka: streams in and out."""

__all__: list[str] = []
