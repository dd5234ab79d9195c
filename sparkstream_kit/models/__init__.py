"""Models that score streams, each by its version: pipelines of `pyspark.ml` and models of scikit-learn.

A model is a folder that a `pyspark.ml.PipelineModel` was saved to, or a file that `joblib.dump` has written,
as scikit-learn's guide "Model persistence" has it for models of one's own. Such a file is a pickle: it runs
code when it is read, so read none from a place that you do not trust, and read it with the versions of
Python and scikit-learn that wrote it.

Models that change stand in a folder of versions, which `publish` makes:

models/spam/1            a folder of pyspark.ml, or 1.joblib
models/spam/2            the next version; versions never change
models/spam/current      the name of the version in use

With a fixed version use `score`. Where the version may change while a query runs, `scorer` keeps the version
of each batch beside the checkpoint. `learner` makes a new version of each batch.
"""

from sparkstream_kit.models.learning import learner
from sparkstream_kit.models.scoring import score, scorer
from sparkstream_kit.models.versions import publish, switch

__all__ = ["learner", "publish", "score", "scorer", "switch"]
