"""The site of the documentation: its search, opened as a file, and its page for lost links."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT
from support.questions import QUESTIONS

SITE = ROOT / "build" / "site"
# The search lives in a shadow of the page
_FOUND = """
const shadow = [...document.body.children].find((each) => each.shadowRoot)
const links = shadow ? [...shadow.shadowRoot.querySelectorAll("a")] : []
return links.map((each) => each.href)
"""


@pytest.fixture(scope="module")
def site():
    """Return the folder of the site that `make docs` has built."""
    if not (SITE / "starts-search.js").exists():
        pytest.skip("needs the site: make docs")
    return SITE


def pages(links):
    """Return the names of the pages, each once."""
    return [*dict.fromkeys(link.partition("?")[0].rpartition("/")[2] for link in links)]


def ask(tab, until, question, page=None):
    """Ask the search, and wait for results; for those with a page among the first three.

    The links have the words of the question before the answer comes, which on a slow
    machine is later: the results are then those of the question before.
    """
    words = question.replace(" ", "+").rstrip("?")
    field = """
        const shadow = [...document.body.children].find((each) => each.shadowRoot)
        const field = shadow.shadowRoot.querySelector("input")
        field.value = arguments[0]
        field.dispatchEvent(new Event("input", {bubbles: true}))
    """
    tab.run(field, question)
    links: list[str] = []

    def answered():
        links[:] = tab.run(_FOUND)
        if not links or not all(f"h={words}" in link for link in links):
            return False
        return page is None or page in pages(links[:3])

    until(answered)


@pytest.fixture
def search(site, tab, until):
    """The search, opened as somebody does who has the site as a folder."""
    tab.browser.get((site / "index.html").as_uri())
    until(lambda: tab.texts(".md-search__button"))
    tab.run("document.querySelector('.md-search__button').click()")
    until(
        lambda: tab.run(
            "return [...document.body.children].some((each) =>"
            " each.shadowRoot?.querySelector('input'))"
        )
    )
    return tab


def test_the_search_of_the_opened_file_finds_the_page_for_each_question(search, until):
    for question, page in QUESTIONS.items():
        ask(search, until, question, page)
    assert [each["message"] for each in search.logged("browser")] == []


def test_words_that_are_all_common_are_searched_for(search, until):
    ask(search, until, "from")


@pytest.fixture
def hosted(site, tmp_path):
    """The address of a host that has the site in a folder, with its page for missing addresses."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Stay quiet."""

        def send_error(self, code, *_):
            self.send_response(code)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write((site / "404.html").read_bytes())

    (tmp_path / "kit").symlink_to(site)
    handler = partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/kit"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("missing", ["none.html", "reference/none.html", "a/b/none"])
def test_a_missing_page_has_its_style_and_leads_back(hosted, tab, until, missing):
    tab.browser.get(f"{hosted}/{missing}")
    until(lambda: tab.run("return document.readyState") == "complete")
    styles = tab.run("return [...document.styleSheets].map((each) => each.href)")
    assert f"{hosted}/site.css" in styles
    links = tab.run(
        "return [...document.querySelectorAll('.md-tabs a')].map((each) => each.href)"
    )
    assert f"{hosted}/index.html" in links


def test_code_fits_its_box(site, tab):
    cut = """
        return [...document.querySelectorAll("pre code")]
          .filter((each) => each.scrollWidth > each.clientWidth + 1)
          .map((each) => each.innerText.slice(0, 80))
    """
    wrong = {}
    for page in sorted(site.rglob("*.html")):
        tab.browser.get(page.as_uri())
        if found := tab.run(cut):
            wrong[page.name] = found
    assert wrong == {}
