"""Short texts labelled ham or spam, of words with known odds, so that the best possible answer is known."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["messages_rows", "messages_truth"]

_SPAM = 0.3  # of the messages
# How often each word is drawn, in ham and in spam. No other word is ever drawn.
_MESSAGE_WEIGHTS = {
    "home": (9, 1), "dinner": (8, 1), "tomorrow": (8, 2), "thanks": (9, 2), "meeting": (6, 1),
    "train": (5, 1), "love": (7, 2), "ok": (9, 3), "the": (10, 10), "you": (10, 10), "now": (5, 6),
    "call": (5, 8), "free": (2, 9), "win": (1, 9), "prize": (1, 8), "cash": (1, 7), "offer": (1, 7),
    "urgent": (1, 6), "click": (1, 6), "reply": (3, 6),
}  # fmt: skip
_FIRST_MESSAGE = datetime(2024, 1, 1, tzinfo=UTC)


def messages_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make labelled messages, shaped after the SMS spam collection: three in ten are spam.

    Each is a dict of `id` (string), `time` (ISO 8601, UTC, a whole second; times increase), `label` ("ham" or
    "spam") and `text` (4 to 12 words, drawn one by one with odds that depend on the label).

    Args:
        count: how many messages; None never ends.
        seed: the same seed gives the same messages; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in messages_rows(2, seed=1):
        ...     print(row["label"], "|", row["text"])
        ham | thanks love love the you
        ham | train you home love you tomorrow offer free home home
    """
    check(messages_rows, locals())
    numbers = count_to(count)
    odds = {
        "ham": [ham for ham, _ in _MESSAGE_WEIGHTS.values()],
        "spam": [spam for _, spam in _MESSAGE_WEIGHTS.values()],
    }

    def make() -> Iterator[dict[str, Any]]:
        draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
        time = _FIRST_MESSAGE
        for number in numbers:
            time += timedelta(seconds=draw.randrange(1, 10))
            label = "spam" if draw.random() < _SPAM else "ham"
            words = draw.choices(list(_MESSAGE_WEIGHTS), odds[label], k=draw.randrange(4, 13))
            yield {
                "id": f"m-{seed}-{number:07}",
                "time": f"{time:%Y-%m-%dT%H:%M:%SZ}",
                "label": label,
                "text": " ".join(words),
            }

    return Again(make)


def messages_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Give the likelier label of each message by the odds that made it (Bayes' rule), without Spark.

    No model can be right more often than this one, on the average; a model that has learned comes close.

    Returns:
        (id, label) for each message, in their order.

    Example:
        >>> rows = list(messages_rows(1000, seed=1))
        >>> best = messages_truth(rows)
        >>> sum(label == row["label"] for row, (_, label) in zip(rows, best, strict=True))
        970
    """
    totals = [sum(each) for each in zip(*_MESSAGE_WEIGHTS.values(), strict=True)]
    log_odds = {
        word: math.log(spam / totals[1]) - math.log(ham / totals[0])
        for word, (ham, spam) in _MESSAGE_WEIGHTS.items()
    }
    prior = math.log(_SPAM) - math.log(1 - _SPAM)
    return [
        (row["id"], "spam" if prior + sum(map(log_odds.__getitem__, row["text"].split())) > 0 else "ham")
        for row in rows
    ]
