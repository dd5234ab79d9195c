"""Start and run: the only room that touches the JVM or private PySpark, or knows of Spark Connect.

The rest of the kit calls plain functions from here and never asks which kind of session
it has. A change in a private PySpark API, or in a class of Spark's JVM, therefore
affects only the modules of this package.
"""

# Settings by which a server of `sparkstream serve` announces its own folder and the
# folder of its kit.
FOLDER_KEY = "spark.sparkstream.server.folder"
KIT_KEY = "spark.sparkstream.server.kit"
