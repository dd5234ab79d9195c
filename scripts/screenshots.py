"""Draw docs/page.png and its dark and narrow sisters: the page of a run, in a real browser.

The queries are recorded ones (tests/recorded/progress.jsonl), as if their last batches
had just ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql.streaming.listener import StreamingQueryProgress
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.monitoring.page import Page, Server
from sparkstream_kit.monitoring.pictures import Result, Results, bars

ROOT = Path(__file__).parent.parent
PICTURES = {
    "page": (1280, "light"),
    "page-dark": (1280, "dark"),
    "page-narrow": (390, "light"),
}
RESULT = [
    ("2026-11-21 01:15:50", "Close", "6532"),
    ("2026-11-21 01:15:50", "Look", "6534"),
    ("2026-11-21 01:15:50", "Open", "6534"),
    ("2026-11-21 01:16:00", "Close", "831"),
    ("2026-11-21 01:16:00", "Look", "1484"),
    ("2026-11-21 01:16:00", "Open", "1483"),
]


class Shown(Results):
    """A result that no session has to read."""

    def of(self, name: str, batches: int, *, last: bool) -> Result | None:
        """Return the rows above for the query that counts actions."""
        del last
        if name != "action_windows" or not batches:
            return None
        numeric = [False, False, True]
        return Result(
            "view actions",
            ["start", "action", "count"],
            numeric,
            RESULT,
            bars=bars(numeric, RESULT),
        )


def main() -> int:
    """Draw the three pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", type=Path, default=ROOT / "docs"
    )
    args = parser.parse_args()
    page = Page(recorded(ROOT / "tests/recorded/progress.jsonl"), Shown({}), print)
    with Server(0, page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for name, (width, scheme) in PICTURES.items():
                draw(
                    f"http://127.0.0.1:{server.server_port}/#token={page.token}",
                    args.folder / f"{name}.png",
                    width,
                    scheme,
                )
        finally:
            page.board.end()
            page.end("the run has ended")
            server.shutdown()
            thread.join()
    return 0


def recorded(path: Path) -> Board:
    """Return a board with recorded batches, as if the last had just ended."""
    told = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    last = max(datetime.fromisoformat(each["timestamp"]) for each in told)
    by = datetime.now(UTC) - last
    board = Board()
    for each in told:
        for of, key in ((each, "timestamp"), (each.get("eventTime", {}), "watermark")):
            if key in of and not of[key].startswith("1970"):
                of[key] = (datetime.fromisoformat(of[key]) + by).strftime(
                    "%Y-%m-%dT%H:%M:%S.%fZ"
                )
        board.add(StreamingQueryProgress.fromJson(each))
    return board


def draw(address: str, path: Path, width: int, scheme: str) -> None:
    """Draw the whole page, as a browser of a width and a colour scheme shows it."""
    options = webdriver.ChromeOptions()
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ):
        options.add_argument(word)
    with webdriver.Chrome(
        options, webdriver.ChromeService("/usr/bin/chromedriver")
    ) as browser:
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        size = {
            "width": width,
            "height": 900,
            "deviceScaleFactor": 1,
            "mobile": False,
        }
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(address)
        WebDriverWait(browser, 30).until(
            lambda page: page.find_elements(By.CSS_SELECTOR, "canvas")
        )
        WebDriverWait(browser, 30).until(
            lambda page: page.execute_script(
                "return document.querySelectorAll('.bars b').length"
            )
        )
        size["height"] = browser.execute_script(
            "return document.documentElement.scrollHeight"
        )
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_script(
            "return new Promise(done => requestAnimationFrame(() =>"
            " requestAnimationFrame(done)))"
        )
        browser.save_screenshot(str(path))
    print(path)


if __name__ == "__main__":
    sys.exit(main())
