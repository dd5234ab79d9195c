"""Models of scikit-learn: from bytes and to bytes, and what learns in them."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from sparkstream_kit._arguments import said
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, innermost_cause

__all__ = ["last_step", "pickled", "sklearn_model", "unpickled"]


def _joblib() -> Any:
    """Return the library that reads and writes models of scikit-learn."""
    try:
        import joblib
        import sklearn  # noqa: F401 - what the pickles name
    except ImportError as err:
        raise MissingExtraError("a model of scikit-learn", "sklearn") from err
    return joblib


@lru_cache(maxsize=4)  # of each worker of Spark's, which serves many tasks
def unpickled(data: bytes) -> Any:
    """Return the model that the bytes of a file hold; this runs what is pickled in them."""
    return _joblib().load(io.BytesIO(data))


def pickled(model: Any) -> bytes:
    """Return the bytes of a file that holds a model."""
    buffer = io.BytesIO()
    _joblib().dump(model, buffer)
    return buffer.getvalue()


def sklearn_model(file: Path | str) -> Any:
    """Read a model of scikit-learn anew: what is learned to it must not show in another reader's."""
    if not isinstance(file, Path):
        raise InvalidInputError(
            f"{file} is a model of pyspark.ml, which cannot learn; give one of scikit-learn"
        )
    try:
        model = unpickled.__wrapped__(file.read_bytes())
    except MissingExtraError:
        raise
    except Exception as err:
        raise InvalidInputError(
            f"cannot read the model in {file} ({innermost_cause(err)}); write it by models.publish, or by "
            "joblib.dump(model, file)"
        ) from err
    if not hasattr(model, "predict"):
        raise InvalidInputError(
            f"{file} holds {said(model)}, which cannot predict; give a model of scikit-learn"
        )
    return model


def last_step(model: Any) -> tuple[Any, Any]:
    """Return the steps before the last one, None without any, and the last one, which learns."""
    steps, last = (model[:-1], model[-1]) if hasattr(model, "steps") else (None, model)
    if not hasattr(last, "partial_fit"):
        raise InvalidInputError(
            f"{said(last)} has no partial_fit and cannot learn from batches; choose one that has, such as "
            "SGDClassifier"
        )
    return (steps if steps is not None and len(steps) else None), last
