"""The only room that touches the JVM or private PySpark, or knows of Spark Connect."""

# What a server of `sparkstream serve` says of itself in its settings: its folder, and the kit that it has.
FOLDER_KEY = "spark.sparkstream.server.folder"
KIT_KEY = "spark.sparkstream.server.kit"
