"""Build the site of the documentation in build/site/.

It has the pages of docs/, and a reference of the docstrings. `make docs` runs it. A
link or anchor that leads nowhere, or a page outside of the menu, ends it with 1. Its
search answers questions, also where the site is opened as a file. For agents the site
has each page as Markdown, too, and llms.txt, a list of all pages.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit import connectors

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = [
    name for name in connectors.systems() if (ROOT / "docs" / f"{name}.md").exists()
]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
MENU = {
    "Start": [
        *(
            "index",
            "readme",
            "install",
            "start",
            "testing",
            "wrong",
            "words",
            "beside",
            "versions",
        ),
    ],
    "Guides": [
        *(
            "files",
            "bad-lines",
            "contract",
            "watermarks",
            "postgresql",
            "kafka-to-delta",
            "kafka-to-iceberg",
        ),
        *(
            "kafka-to-kafka",
            "schema-registry",
            "many-targets",
            "joins",
            "session-windows",
            "days",
            "silence",
            "model",
            "pipelines",
            "job-and-pipeline",
            "exactly-once",
        ),
        *(
            "change-a-job",
            "find-out",
            "change-what-you-read",
            "do-it-again",
            "tuning",
            "secrets",
            "service",
            "container",
            "airflow",
        ),
        *(
            "from-pyspark",
            "production",
            "clusters",
            "monitoring",
            "checkpoints",
            "server",
            "json",
            "skill",
        ),
    ],
    "Jobs and systems": ["jobs", *SYSTEMS, "flume"],
    "Promises and faults": ["promises", "faults", "upstream", "security"],
    "Performance": ["performance"],
    "How it is built": ["architecture", "contributing", "code_of_conduct", "changelog"],
}
# In the order in which a new user needs them; the first is the package itself.
ROOMS = (
    *(
        "",
        "sources",
        "sinks",
        "quarantine",
        "windows",
        "schemas",
        "formats",
        "joins",
        "state",
        "models",
        "testing",
    ),
    *(
        "checkpoints",
        "monitoring",
        "verdicts",
        "progress",
        "errors",
        "display",
        "feeds",
        "dstreams",
    ),
    "jobflags",
)
# Tables of figures have eight columns: the theme gives each column too much for a
# screen of 1280. There a box of code holds 88 characters; help, settings and values of
# constants, which nobody copies as they stand, are wrapped.
STYLE = """\
.md-typeset table:not([class]) :is(th, td) { padding: .6em .8em; }
.md-typeset table:not([class]) th code { word-break: normal; }
@media (min-width: 60em) { .md-typeset table:not([class]) th { min-width: 0; } }
.md-typeset td:first-child a code { word-break: normal; }
.md-typeset pre > code { font-size: .8em; }
:is(.language-text, .language-properties, .doc) pre > code { white-space: pre-wrap; }
"""
# The theme fetches this from elsewhere for a site that is opened as a file.
FETCHED = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*>')
# Nobody who asks a question looks for what has changed.
NOT_SEARCHED = ("changelog.html",)
# The page for an address that is not there is shown at that address, in whatever folder
# of a host the site lies: the folder above it that has the site's style is the site's.
BASE = """\
<script>
  let folder = location.pathname
  let asked
  do {
    folder = folder.replace(/[^/]*[/]?$/, "")
    asked = new XMLHttpRequest()
    asked.open("HEAD", folder + "site.css", false)
    asked.send()
  } while (asked.status !== 200 && folder.length > 1)
  const base = document.createElement("base")
  base.href = folder
  document.head.append(base)
</script>
"""
_MANY = 5  # names of a room, from which on its page begins with a table of them
_LINK = re.compile(r"(\]\()(?!https?:)([^)#\s]*)")


def pages() -> None:
    """Write the pages that there are, with links as they lie beside each other on the site."""
    docs = ROOT / "docs"
    linked = ROOT.glob("examples/**/*.conf")
    for path in [
        *ROOT.glob("*.md"),
        *docs.glob("*.*"),
        *docs.glob("*/**/*.md"),
        *linked,
    ]:
        name = path.name.lower()
        if path.suffix != ".md":
            shutil.copy(path, SOURCE / name)
            continue
        text = path.read_text("utf-8")
        (SOURCE / name).write_text(
            _LINK.sub(lambda link: link[1] + _on_site(link[2]), text), "utf-8"
        )


def _on_site(target: str) -> str:
    name = target.rpartition("/")[2]
    return name.lower() if name.endswith(".md") else name


def reference() -> list[str]:
    """Write a page for each room of the package, with all of its public names; return the pages."""
    (SOURCE / "reference").mkdir()
    written = []
    for room in ROOMS:
        module = importlib.import_module(f"sparkstream_kit.{room}".rstrip("."))
        names = [
            name
            for name in module.__all__
            if not inspect.ismodule(getattr(module, name))
        ]
        # Which says what the room may import
        level = r"\A(Thin|Start and run|Extra): (.)"
        text = re.sub(
            level, lambda found: found[2].upper(), inspect.getdoc(module) or ""
        )
        paragraphs = text.split("\n\n")
        parts = [f"# {room or 'sparkstream_kit'}\n", *map(_paragraph, paragraphs)]
        where = {name: _defined(module, name) for name in names}
        if len(names) >= _MANY:
            parts += ["| name | what it is for |", "| --- | --- |"]
            parts += [_row(name, getattr(module, name), where[name]) for name in names]
            parts.append("")
        parts += [f"::: {each}\n" for each in where.values()]
        page = f"reference/{room or 'package'}.md"
        (SOURCE / page).write_text("\n".join(parts), "utf-8")
        written.append(page)
    return written


def _defined(module: ModuleType, name: str) -> str:
    """Return the name by which the reference finds what a module calls so."""
    found = getattr(module, name)
    if callable(found) and hasattr(found, "__qualname__"):
        return f"{found.__module__}.{found.__qualname__}"
    return f"{module.__name__}.{name}"


def _row(name: str, found: object, where: str) -> str:
    """Return a row of a page's table: a name, and the first line of its docstring."""
    first = ""
    if callable(found):
        first = (inspect.getdoc(found) or "").partition("\n")[0]
    return f"| [`{name}`](#{where}) | {first.replace('|', chr(92) + '|')} |"


def _paragraph(text: str) -> str:
    """Return a paragraph of a module's docstring; of calls alone as code."""
    calls = all(
        re.match(r"(from \w|\w[\w.]*( = |\())", line) for line in text.splitlines()
    )
    return f"```python\n{text}\n```\n" if calls else f"{text}\n"


def settings() -> str:
    """Write a page with each profile, which says what its lines are for; return the page."""
    parts = [
        "# Settings\n",
        "[How a profile is chosen](../install.md#settings), and what wins over it.\n",
    ]
    parts += [
        f"## {path.stem}\n\n```properties\n{path.read_text('utf-8').strip()}\n```\n"
        for path in sorted((ROOT / "conf").glob("*.conf"))
    ]
    (SOURCE / "reference" / "settings.md").write_text("\n".join(parts), "utf-8")
    return "reference/settings.md"


def flags() -> str:
    """Write a page with the help of each job; return the page."""
    parts = ["# The flags of the jobs\n"]
    for path in sorted((ROOT / "jobs").glob("*.py")):
        done = subprocess.run(
            [sys.executable, path, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "88"},
        )
        parts.append(f"## {path.stem}\n\n```text\n{done.stdout.strip()}\n```\n")
    (SOURCE / "reference" / "flags.md").write_text("\n".join(parts), "utf-8")
    return "reference/flags.md"


def commands() -> str:
    """Write a page with the help of each command; return the page."""
    import typer

    from sparkstream_kit.cli.app import app

    parts = ["# The command line\n"]

    def add(command: object, words: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "sparkstream_kit", *words, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "88", "PATH": ""},
        )
        parts.append(
            f"## sparkstream {' '.join(words)}\n\n```text\n{done.stdout.strip()}\n```\n"
        )
        for name, inner in getattr(command, "commands", {}).items():
            add(inner, [*words, name])

    for name, command in getattr(typer.main.get_command(app), "commands", {}).items():
        add(command, [name])
    (SOURCE / "reference" / "commands.md").write_text("\n".join(parts), "utf-8")
    return "reference/commands.md"


def llms(menu: dict[str, list[str]]) -> str:
    """Return llms.txt: the pages of each part of the menu, with a title and a first sentence."""
    parts = ["# sparkstream-kit\n", f"> {_begins('readme.md')[1]}"]
    for title, names in menu.items():
        parts.append(f"\n## {title}\n")
        for name in names:
            heading, sentence = _begins(name)
            shown = (
                name.replace(".md", ".html") if name.startswith("reference/") else name
            )
            parts.append(f"- [{heading}]({shown}): {sentence}")
    return "\n".join(parts) + "\n"


def _begins(page: str) -> tuple[str, str]:
    """Return the title of a page and its first sentence on the subject, without links."""
    aside = r"\A---\n.*?\n---\n|^```.*?^```|^<!--.*?-->|!?\[([^]]*)\]\([^)]*\)"
    text = re.sub(
        aside, r"\1", (SOURCE / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    blocks = [" ".join(block.split()) for block in text.split("\n\n") if block.strip()]
    prose = (block for block in blocks if block[0] not in "#|-<:")
    sentences = [
        each for block in prose for each in re.split(r"(?<=\.) (?=[A-Z`])", block)
    ]
    aside = r"^([a-z]|It needs)|\b(is|was|were) (run|executed|used)\b"
    title = blocks[0].lstrip("# ")
    return title, next(
        (each for each in sentences if not re.search(aside, each)), title
    )


def configuration(menu: dict[str, list[str]]) -> str:
    """Return the configuration of the builder."""
    nav = ",\n".join(f'  {{ "{title}" = {names} }}' for title, names in menu.items())
    return f"""[project]
site_name = "sparkstream-kit"
site_description = "Spark streams in Python that start fast, stop cleanly and never lose a row \
silently"
docs_dir = "{SOURCE.name}"
site_dir = "{SITE.name}"
extra_css = ["site.css"]
use_directory_urls = false
nav = [
{nav}
]
[project.theme]
font = false
features = [
  "navigation.tabs", "navigation.top", "navigation.footer",
  "search.highlight", "content.code.copy", "toc.follow",
]
[[project.theme.palette]]
media = "(prefers-color-scheme)"
toggle.icon = "lucide/sun-moon"
toggle.name = "As the system is; switch to light"
[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Light; switch to dark"
[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Dark; switch to as the system is"
[project.markdown_extensions]
attr_list = {{}}
tables = {{}}
toc.permalink = true
pymdownx.highlight.pygments_lang_class = true
pymdownx.superfences = {{}}
[project.plugins.search]
[project.plugins.offline]
[project.plugins.mkdocstrings.handlers.python]
paths = ["{ROOT}"]
[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
docstring_section_style = "list"
heading_level = 2
show_root_heading = true
show_root_full_path = false
show_source = false
show_signature_annotations = true
separate_signature = true
line_length = 80
members_order = "source"
filters = ["!^_"]
"""


def searchable() -> None:
    """Make the search answer questions, also where the site is opened as a file."""
    [worker] = (SITE / "assets" / "javascripts" / "workers").glob("search.*.js")
    script = (ROOT / "scripts" / "search.js").read_text("utf-8")
    source = json.dumps(worker.read_text("utf-8"))
    (SITE / "starts-search.js").write_text(script.replace('"SOURCE"', source), "utf-8")
    for path in SITE.rglob("*.html"):
        root = "../" * len(path.relative_to(SITE).parent.parts)
        mine = f'<script src="{root}starts-search.js">'
        text, times = FETCHED.subn(mine, path.read_text("utf-8"))
        if times != 1:
            msg = f"{path}: the theme starts its search in another way"
            raise RuntimeError(msg)
        path.write_text(text, "utf-8")
    index = json.loads((SITE / "search.json").read_text("utf-8"))
    index["items"] = [
        item for item in index["items"] if not item["location"].startswith(NOT_SEARCHED)
    ]
    text = json.dumps(index, ensure_ascii=False)
    (SITE / "search.json").write_text(text, "utf-8")
    (SITE / "search.js").write_text(f"var __index = {text};", "utf-8")


def page_for_missing_addresses() -> None:
    """Let 404.html find its style and its links from the address at which it is shown."""
    path = SITE / "404.html"
    text = path.read_text("utf-8").replace(
        'new URL("/",location)', "new URL(base.href)"
    )
    text = re.sub(r'(?<=href=)"/"', '"index.html"', text).replace(
        '"base":"/"', '"base":"."'
    )
    text = re.sub(r'(?<=")/(?=\w)', "", text)
    path.write_text(text.replace("<head>", f"<head>\n{BASE}", 1), "utf-8")


class _Built(HTMLParser):
    """A page of the site: the names in it that a link can lead to, and its links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names, self.links = {""}, list[str]()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the names and the links of an element."""
        del tag
        self.names |= {value for key, value in attrs if key in ("id", "name") and value}
        self.links += [
            value for key, value in attrs if key in ("href", "src") and value
        ]


def dead_links() -> list[str]:
    """Return the links of the site that lead to no file of it, or to no place in that file."""
    built = {path: _Built(path) for path in SITE.rglob("*.html")}
    dead = []
    for path, page in built.items():
        for link in page.links:
            target, _, name = unquote(link).partition("#")
            base = (
                SITE if target[:1] == "/" else path.parent
            )  # the page for missing addresses begins at the root
            file = (base / target.lstrip("/")).resolve() if target else path
            if re.match(r"[a-z]+:", link) or (
                file in built and name in built[file].names
            ):
                continue
            if file in built or not file.exists():
                dead.append(f"{path.relative_to(SITE)}: {link}")
    return dead


def main() -> int:
    """Build, and hold the menu against the pages."""
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    pages()
    (SOURCE / "site.css").write_text(STYLE, "utf-8")
    menu = {title: [f"{name}.md" for name in names] for title, names in MENU.items()}
    menu["Reference"] = [*reference(), commands(), flags(), settings()]
    there = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.md")}
    listed = {page for part in menu.values() for page in part}
    if there != listed:
        sys.stderr.write(
            f"pages that are not in the menu, or not there: {sorted(there ^ listed)}\n"
        )
        return 1
    config = SOURCE.parent / "zensical.toml"
    config.write_text(configuration(menu), "utf-8")
    build = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--strict",
        "--clean",
        "--config-file",
        str(config),
    ]
    if failed := subprocess.run(build, check=False, cwd=config.parent).returncode:
        return failed
    searchable()
    page_for_missing_addresses()
    if dead := dead_links():
        sys.stderr.write(f"links that lead nowhere: {dead}\n")
        return 1
    for page in SOURCE.glob("*.md"):
        shutil.copy(page, SITE)
    (SITE / "llms.txt").write_text(llms(menu), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
