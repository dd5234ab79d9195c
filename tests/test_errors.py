"""The kit's exceptions: their exit codes, their hints and their texts."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparkstream_kit import errors
from sparkstream_kit.checkpoints.logs import DamagedError
from sparkstream_kit.errors import DryRun, InputUnavailable, InvalidInputError, KitError, QueryFailed
from sparkstream_kit.progress import RunSummary


@pytest.mark.parametrize(
    ("error", "code", "also"),
    [
        (KitError("x"), 1, Exception),
        (QueryFailed("totals", "no such shop"), 1, KitError),
        (InvalidInputError("x"), 2, ValueError),
        (errors.MissingExtraError("Avro", "avro"), 2, ImportError),
        (errors.TransientError("x"), 75, InvalidInputError),
        (InputUnavailable("words", "connection refused"), 75, QueryFailed),
    ],
)
def test_each_error_has_its_exit_code_and_is_what_python_calls_it(error, code, also):
    assert error.exit_code == code
    assert isinstance(error, also)


ERRORS = [
    *(kind("x") for kind in (KitError, InvalidInputError, errors.TransientError, DryRun)),
    errors.MissingExtraError("Avro", "avro"),
    *(
        kind("totals", "no such shop", summary=RunSummary("failure", 1.0, ()))
        for kind in (QueryFailed, InputUnavailable, errors.CheckpointDamaged)
    ),
    DamagedError(Path("ckpt/offsets/3"), "is empty", "remove it"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_out_of_another_process(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - as a ProcessPoolExecutor does
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_each_error_is_sent_to_another_process():
    classes = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KitError)
    }
    assert classes <= {type(error) for error in ERRORS}


def test_a_circle_of_causes_has_an_end():
    first, second, of_java = ValueError("one"), ValueError("two"), ValueError("of PySpark")
    vars(first)["_cause"], vars(second)["_cause"] = second, first  # PySpark's own name
    assert errors.innermost_cause(first) in {"ValueError: one", "ValueError: two"}
    java = SimpleNamespace(getMessage=lambda: "no room", getSimpleName=lambda: "IOException")
    java.getClass = java.getCause = lambda: java
    vars(of_java)["_origin"] = java
    assert errors.innermost_cause(of_java) == "IOException: no room"
