"""A schema registry, which knows the schemas of a topic's records by their ids.

`client` has `Registry`, which users make by `schemas.registry`, and what a registry
gives. It is no source and no sink: the parsers of `quarantine` and the sinks ask it.
"""
