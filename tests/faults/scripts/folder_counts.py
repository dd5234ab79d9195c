"""Running word counts of a watched folder with DStreams, recovered by Spark's own checkpoint.

Run: python folder_counts.py INPUT_DIR CHECKPOINT
"""

import json
import sys

from sparkstream_kit import jobflags


def show(rdd):
    """Print the counts of all words, as one object for each batch."""
    sys.stdout.write(json.dumps(dict(rdd.collect())) + "\n")
    sys.stdout.flush()


@jobflags.exit_codes
def main(argv=None):
    """Run until a signal."""
    folder, checkpoint = sys.argv[1:] if argv is None else argv

    from pyspark.streaming import StreamingContext

    from sparkstream_kit import dstreams, get_session

    def create():
        # A file that landed while nobody watched is found for an hour.
        conf = {
            "spark.streaming.fileStream.minRememberDuration": "1h",
            "spark.master": "local[2]",
        }
        spark = get_session("folder-counts", profile="test", conf=conf)
        ssc = StreamingContext(spark.sparkContext, 1)
        ssc.checkpoint(checkpoint)
        words = (
            ssc.textFileStream(folder).flatMap(str.split).map(lambda word: (word, 1))
        )
        dstreams.running_counts(words).foreachRDD(show)
        return ssc

    ssc = StreamingContext.getOrCreate(checkpoint, create)
    sys.stderr.write(f"ended by: {dstreams.run(ssc)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
