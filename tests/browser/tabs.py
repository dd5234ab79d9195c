"""A tab of a real browser, as tests look at it."""

import json
from contextlib import contextmanager


class Tab:
    """A page in the browser, and what it has asked for and complained of since it was opened."""

    def __init__(self, browser, until):
        self.browser, self._until = browser, until
        for kind in ("browser", "performance"):
            self.logged(kind)  # what was before

    def logged(self, kind):
        """Return what the browser has logged since the last look.

        `kind` is `browser` for its console, or `performance`.
        """
        return list(self.browser.get_log(kind))

    def run(self, script, *args):
        """Run a script in the page and return its result."""
        return self.browser.execute_script(script, *args)

    def texts(self, selector):
        """Return the texts of the elements, as they are shown."""
        return list(
            self.run(
                "return [...document.querySelectorAll(arguments[0])].map(each =>"
                " each.innerText)",
                selector,
            )
        )

    def until(self, selector, holds):
        """Wait until something holds of the texts of elements, and return them."""
        found: list[str] = []

        def look():
            found[:] = self.texts(selector)
            return holds(found)

        self._until(look)
        return found

    def emulate(self, width, scheme="light"):
        """Be a screen of this width, for somebody who likes it light or dark."""
        size = {
            "width": width,
            "height": 900,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        }
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": features}
        )


@contextmanager
def nothing_else(tab, port):
    """Fail if the page in the block asks another server or has an error in its console."""
    yield
    asked = [
        json.loads(each["message"])["message"] for each in tab.logged("performance")
    ]
    urls = {
        each["params"]["request"]["url"]
        for each in asked
        if each["method"] == "Network.requestWillBeSent"
    }
    own = {f"http://127.0.0.1:{port}/", "about:blank", "data:"}
    assert f"http://127.0.0.1:{port}/events" in urls
    assert {url for url in urls if not url.startswith(tuple(own))} == set()
    assert [each["message"] for each in tab.logged("browser")] == []
