"""The ids of the posts of a URL, in a directory of Parquet for each batch."""

import sys

from sparkstream_kit import jobflags, run, sinks, sources, spark_session, start


@jobflags.exit_codes
def main(argv=None):
    """Run until a signal; with a third argument over what the spool has, and without the feeder."""
    url, folder, *rest = sys.argv[1:] if argv is None else argv
    trigger = {"availableNow": True} if rest else {"processingTime": "0 seconds"}
    with spark_session("posts-ids", profile="test") as spark:
        if rest:
            posts = sources.posts(spark, f"{folder}/spool")
        else:
            posts = sources.posts(
                spark, url, spool=f"{folder}/spool", every=0.2, stall=1
            )
        sink, checkpoint = sinks.batch_files(f"{folder}/ids"), f"{folder}/ckpt"
        print(
            run(
                start(
                    posts.select("id"),
                    sink,
                    name="ids",
                    checkpoint=checkpoint,
                    **trigger,
                )
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
