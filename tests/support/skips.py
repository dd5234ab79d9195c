"""The skips that CI allows, by their reasons; any other skip is a failure there.

CI is where CI_NO_SKIPS is set, as in `.ci/run`. A test that was skipped has shown
nothing. A reason is entered here only where the host decides, or where the test is for
another kind of session or another version of Spark.
"""

ALLOWED = (
    # What a host may lack that nothing installs.
    "needs a disk of its own",  # neither root, nor sudo without a password
    "needs a pseudo-terminal",
    "needs actionlint",
    "needs a Docker engine",
    "needs a Java 25.0.3",
    "the published sales log is not in ../shared/data",
    "no IPv6 on this machine",
    "the number of a system call",
    # Of the other kind of session.
    "a JVM of our own prints past pytest",
    "classic only: ",
    "it serves for itself",
    "of Spark Connect alone",
    # Of another version of Spark; ci.yml runs each of them.
    "readStream.name() is in Spark 4.2 and later",
    "Spark has a server of its own that is used again from 4.3 on",
    "this Spark ",
)
