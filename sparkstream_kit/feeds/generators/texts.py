"""What people write: messages that are spam or not, and posts with hashtags."""

from __future__ import annotations

import html
import json
import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.feeds.files import count_to, zipf
from sparkstream_kit.feeds.generators import iso_time, seeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_SPAM = 0.3  # the share of messages that are spam
# The weight of each word in ham and in spam. Messages consist of these words alone.
_MESSAGE_WEIGHTS = {
    "home": (9, 1), "dinner": (8, 1), "tomorrow": (8, 2), "thanks": (9, 2), "meeting": (6, 1),
    "train": (5, 1), "love": (7, 2), "ok": (9, 3), "the": (10, 10), "you": (10, 10), "now": (5, 6),
    "call": (5, 8), "free": (2, 9), "win": (1, 9), "prize": (1, 8), "cash": (1, 7), "offer": (1, 7),
    "urgent": (1, 6), "click": (1, 6), "reply": (3, 6),
}  # fmt: skip


@seeded
def messages_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make messages, each labelled ham or spam.

    The messages resemble the SMS spam collection; three in ten are spam. Each is a dict
    of strings: `id`, `time` (ISO 8601, UTC, a whole second; times increase), `label`
    ("ham" or "spam") and `text` (4 to 12 words, each drawn with odds that depend on the
    label).

    Args:
        count: the number of messages; None for messages without an end.
        seed: the seed of the random choices: the same seed gives the same messages, and
            a smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> for row in messages_rows(2, seed=1):
        ...     print(row["label"], "|", row["text"])
        ham | thanks love love the you
        ham | train you home love you tomorrow offer free home home
    """
    weights = _weights_by_label()
    draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
    time = datetime(2024, 1, 1, tzinfo=UTC)
    for number in count_to(count):
        time += timedelta(seconds=draw.randrange(1, 10))
        label = "spam" if draw.random() < _SPAM else "ham"
        length = draw.randrange(4, 13)
        words = draw.choices(list(_MESSAGE_WEIGHTS), weights[label], k=length)
        yield {
            "id": f"m-{seed}-{number:07}",
            "time": iso_time(time),
            "label": label,
            "text": " ".join(words),
        }


def messages_truth(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Find the more probable label of each message by Bayes' rule, without Spark.

    The function knows the odds from which the words were drawn, so on average no model
    can be right more often. A trained model comes close.

    Args:
        rows: messages of `messages_rows`.

    Returns:
        A tuple (id, label) for each message, in the order of the messages.

    Examples:
        >>> rows = list(messages_rows(1000, seed=1))
        >>> best = messages_truth(rows)
        >>> sum(label == row["label"] for row, (_, label) in zip(rows, best, strict=True))
        970
    """
    weights = _weights_by_label()
    ham_total = sum(weights["ham"])
    spam_total = sum(weights["spam"])
    log_odds = {
        word: math.log(spam / spam_total) - math.log(ham / ham_total)
        for word, (ham, spam) in _MESSAGE_WEIGHTS.items()
    }
    prior = math.log(_SPAM) - math.log(1 - _SPAM)
    labels = []
    for row in rows:
        evidence = sum(log_odds[word] for word in row["text"].split())
        label = "spam" if prior + evidence > 0 else "ham"
        labels.append((row["id"], label))
    return labels


def _weights_by_label() -> dict[str, list[int]]:
    """Return the weights of the words, in their order, in messages of each label."""
    return {
        "ham": [ham for ham, _ in _MESSAGE_WEIGHTS.values()],
        "spam": [spam for _, spam in _MESSAGE_WEIGHTS.values()],
    }


# Tags that are hard to read: scripts with and without case, combining marks, a digit at
# the start, underscores, and a letter (ß) that becomes longer in upper case.
_TAGS = (
    "Spark", "Café", "データ", "Мосты", "हिन्दी", "Straße", "2026goals",
    "live_coding", "Ελλάδα", "Música", "บันทึก", "Kafka", "서울", "ÅNGSTRÖM",
    "Tiếng_Việt", "لندن", "Rust", "Bücher", "open_data", "IoT",
)  # fmt: skip
# Texts that look like a tag but contain none.
_NO_TAGS = (
    "issue #42", "mail me a#b", "C# and F#", "AT&#84;T", "press #️⃣ now",
    "see x.org/#top", "fish & chips",
)  # fmt: skip


@seeded
def posts_rows(count: int | None, *, seed: int) -> Iterator[dict[str, Any]]:
    """Make posts of two networks.

    Each post is a dict that `posts_line` formats as its network does: id (a string,
    unique within a seed), created_at (ISO 8601 in UTC, at most 4 seconds after the one
    before), network ("x" or "mastodon"), text, and tags, the sorted list of hashtags in
    the text, each once, as they are counted: in upper case and then in lower case, so
    that ß is "ss". In the text, the hashtags are in any case, some appear twice, some
    begin with the full-width #, and each text also contains something that only looks
    like a tag. About every ten minutes, another tag becomes the most frequent one.

    Args:
        count: the number of rows; None for rows without an end.
        seed: the seed of the random choices: the same seed gives the same rows, and a
            smaller count the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> row = list(posts_rows(3, seed=2))[2]
        >>> row["text"], row["tags"]
        ('issue #42 #ÅNGSTRÖM', ['ångström'])
    """
    weights = zipf(len(_TAGS))
    pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    for number in count_to(count):
        moment += timedelta(seconds=pick(range(5))[0])
        leading = number // 300  # the tag that is the most frequent one now
        tags_in_post = pick(range(4))[0]
        ranks = pick(range(len(_TAGS)), cum_weights=weights, k=tags_in_post)
        tags = [_TAGS[(rank + leading) % len(_TAGS)] for rank in ranks]
        hashtags = []
        for tag in tags:
            sign = pick("##＃")[0]  # noqa: RUF001 - the full-width sign
            hashtags.append(sign + pick((tag, tag.upper(), tag.lower()))[0])
        network = pick(("x", "mastodon"))[0]
        words = [pick(_NO_TAGS)[0], *hashtags]
        yield {
            "id": f"{seed}{number + 1:09}",
            "created_at": f"{moment:%Y-%m-%dT%H:%M:%S.000Z}",
            "network": network,
            "text": " ".join(words),
            "tags": sorted({tag.upper().lower() for tag in tags}),
        }


def posts_line(row: Mapping[str, Any] | str) -> str:
    """Format a post of `posts_rows` as a line of JSON, as its network's API returns it.

    The fields are those of a post of the X API v2 with `created_at`, or of a Mastodon
    status. A row that is a string, such as a bad row of `disturb`, is returned
    unchanged.

    Examples:
        >>> time = "2024-05-01T12:00:00.000Z"
        >>> row = {"id": "7", "created_at": time, "text": "hi", "network": "x"}
        >>> posts_line(row)
        '{"data": {"id": "7", "text": "hi", "created_at": "2024-05-01T12:00:00.000Z"}}'
    """
    if isinstance(row, str):
        return row
    if row["network"] == "x":
        post = {"id": row["id"], "text": row["text"], "created_at": row["created_at"]}
        return json.dumps({"data": post}, ensure_ascii=False)
    status = {
        "id": row["id"],
        "created_at": row["created_at"],
        "content": f"<p>{html.escape(row['text'])}</p>",
        "tags": [{"name": tag} for tag in row["tags"]],
    }
    return json.dumps(status, ensure_ascii=False)


def posts_truth(
    rows: Iterable[Mapping[str, Any]],
    *,
    n: int = 10,
    length: int = 600,
    slide: int = 60,
) -> list[tuple[str, str, int]]:
    """Compute the true top tags of posts from `posts_rows` in sliding windows, without Spark.

    Args:
        rows: posts of `posts_rows`, in any order.
        n: the number of tags to return for each window.
        length: the length of a window in seconds.
        slide: the seconds from the start of one window to the next.

    Returns:
        A tuple (start of the window in ISO 8601, tag, number of posts with the tag) for
        each of the top tags, sorted by start; within a window, the most frequent tag
        comes first, and equally frequent tags are sorted by their text.

    Examples:
        >>> posts_truth(posts_rows(500, seed=1), n=1, length=600, slide=600)
        [('2024-05-01T12:00:00Z', 'spark', 99), ('2024-05-01T12:10:00Z', 'café', 67)]
    """
    check(posts_truth, locals())
    counts: dict[int, Counter[str]] = {}
    for row in rows:
        second = int(datetime.fromisoformat(row["created_at"]).timestamp())
        newest_start = second - second % slide
        for start in range(newest_start, second - length, -slide):
            counts.setdefault(start, Counter()).update(row["tags"])
    results = []
    for start, posts_by_tag in sorted(counts.items()):
        time = iso_time(datetime.fromtimestamp(start, UTC))
        ranking = sorted(posts_by_tag.items(), key=lambda item: (-item[1], item[0]))
        for tag, posts in ranking[:n]:
            results.append((time, tag, posts))
    return results
