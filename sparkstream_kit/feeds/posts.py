"""Posts of two networks with known hashtags, as the job `hashtag_trends` reads them."""

from __future__ import annotations

import html
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to, zipf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["posts_line", "posts_rows", "posts_truth"]

_START = datetime(2024, 5, 1, 12, tzinfo=UTC)
# Cased and caseless scripts, marks that are no letters, digits first, an underscore, a letter that grows.
_TAGS = (
    "Spark", "Café", "データ", "Мосты", "हिन्दी", "Straße", "2026goals", "live_coding", "Ελλάδα", "Música",
    "บันทึก", "Kafka", "서울", "ÅNGSTRÖM", "Tiếng_Việt", "لندن", "Rust", "Bücher", "open_data", "IoT",
)  # fmt: skip
# What looks like a tag and is none.
_NO_TAGS = (
    "issue #42", "mail me a#b", "C# and F#", "AT&#84;T", "press #️⃣ now", "see x.org/#top", "fish & chips",
)  # fmt: skip


def posts_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make posts: dicts that `posts_line` writes in the shape of their network.

    id (text, unique in a seed), created_at (ISO 8601 in UTC, at most 4 seconds after the one before), network
    ("x" or "mastodon"), text, and tags: the hashtags in the text as they are counted, each once. In the text
    they stand in any case, some twice, some after the full-width #, beside what only looks like a tag. The
    most frequent tag is another one every ten minutes or so.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> row = list(posts_rows(3, seed=2))[2]
        >>> row["text"], row["tags"]
        ('issue #42 #ÅNGSTRÖM', ['ångström'])
    """
    check(posts_rows, locals())
    numbers, weights = count_to(count), zipf(len(_TAGS))

    def make() -> Iterator[dict[str, Any]]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        moment = _START
        for number in numbers:
            moment += timedelta(seconds=pick(range(5))[0])
            leading = number // 300
            ranks = pick(range(len(_TAGS)), cum_weights=weights, k=pick(range(4))[0])
            tags = [_TAGS[(rank + leading) % len(_TAGS)] for rank in ranks]
            written = [pick("##＃")[0] + pick((tag, tag.upper(), tag.lower()))[0] for tag in tags]  # noqa: RUF001
            yield {
                "id": f"{seed}{number + 1:09}",
                "created_at": f"{moment:%Y-%m-%dT%H:%M:%S.000Z}",
                "network": pick(("x", "mastodon"))[0],
                "text": " ".join([pick(_NO_TAGS)[0], *written]),
                "tags": sorted({tag.upper().lower() for tag in tags}),
            }

    return Again(make)


def posts_line(row: Mapping[str, Any] | str) -> str:
    """Write a post as its network's API gives it, as a line of JSON; a text, such as a bad row, stays.

    The fields are those of a post of the X API v2 with `created_at`, and of a Mastodon status.

    Example:
        >>> row = {"id": "7", "created_at": "2024-05-01T12:00:00.000Z", "text": "hi", "network": "x"}
        >>> posts_line(row)
        '{"data": {"id": "7", "text": "hi", "created_at": "2024-05-01T12:00:00.000Z"}}'
    """
    if isinstance(row, str):
        return row
    post = {"id": row["id"], "text": row["text"], "created_at": row["created_at"]}
    if row["network"] == "x":
        return json.dumps({"data": post}, ensure_ascii=False)
    content = f"<p>{html.escape(post.pop('text'))}</p>"
    status = {**post, "content": content, "tags": [{"name": tag} for tag in row["tags"]]}
    return json.dumps(status, ensure_ascii=False)


def posts_truth(
    rows: Iterable[Mapping[str, Any]], *, n: int = 10, length: int = 600, slide: int = 60
) -> list[tuple[str, str, int]]:
    """Compute the true top tags of posts from `posts_rows` in windows that slide over them, without Spark.

    Args:
        rows: the posts.
        n: how many tags of a window to give.
        length: the windows' length in seconds.
        slide: seconds from one window's start to the next one's.

    Returns:
        (start of the window in ISO 8601, tag, posts with it), by start, the most frequent tag first and equal
        ones by their text.

    Example:
        >>> posts_truth(posts_rows(500, seed=1), n=1, length=600, slide=600)
        [('2024-05-01T12:00:00Z', 'spark', 99), ('2024-05-01T12:10:00Z', 'café', 67)]
    """
    check(posts_truth, locals())
    counts: dict[int, Counter[str]] = {}
    for row in rows:
        second = int(datetime.fromisoformat(row["created_at"]).timestamp())
        for start in range(second - second % slide, second - length, -slide):
            counts.setdefault(start, Counter()).update(row["tags"])
    return [
        (f"{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:%M:%SZ}", tag, posts)
        for start, counter in sorted(counts.items())
        for tag, posts in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:n]
    ]
