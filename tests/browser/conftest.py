"""The page in a real browser: `make browser`; not a part of `make test`."""

import shutil

import pytest
from browser.tabs import Tab


@pytest.fixture(scope="session")
def chromium():
    """One headless Chromium for the test run, with a log of its requests and its console."""
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("needs Chromium and its driver: bash scripts/browser.sh")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium: pip install selenium"
    )
    options = webdriver.ChromeOptions()
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    ):
        options.add_argument(word)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as browser:
        browser.set_script_timeout(30)
        yield browser


@pytest.fixture
def tab(chromium, until):
    """An empty tab of a wide and light screen."""
    made = Tab(chromium, until)
    made.emulate(1280)
    yield made
    chromium.get("about:blank")
