"""Build the site of the documentation in build/site/: the pages of docs/, and a reference of the docstrings.

`make docs` runs it. A dead link, or a page outside of the menu, ends it with 1. For agents the site has each
page as Markdown, too, and llms.txt, a list of all pages.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sparkstream_kit import connectors

ROOT = Path(__file__).parent.parent
SYSTEMS = [name for name in connectors.systems() if (ROOT / "docs" / f"{name}.md").exists()]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
MENU = {
    "Start here": ["index", "install", "start", "testing", "wrong", "words", "beside", "versions"],
    "Guides": [
        *("files", "bad-lines", "watermarks", "postgresql", "kafka-to-delta", "kafka-to-kafka"),
        *("many-targets", "joins", "days", "silence", "model", "exactly-once", "change-a-job", "find-out"),
        *("change-what-you-read", "do-it-again", "tuning", "secrets"),
        *("from-pyspark", "production", "clusters", "monitoring", "checkpoints", "server", "json", "skill"),
    ],
    "Jobs and systems": ["jobs", *SYSTEMS, "flume"],
    "Promises and faults": ["promises", "faults", "security"],
    "Performance": ["performance"],
    "How it is built": ["architecture", "contributing", "code_of_conduct", "changelog"],
}
# In the order in which a new user needs them; the first is the package itself.
ROOMS = (
    *("", "sources", "sinks", "quarantine", "windows", "schemas", "joins", "state", "models", "testing"),
    *("checkpoints", "monitoring", "verdicts", "progress", "errors", "display", "feeds", "dstreams"),
    "jobflags",
)
_LINK = re.compile(r"(\]\()(?!https?:)([^)#\s]*)")


def pages() -> None:
    """Write the pages that there are, with links as they lie beside each other on the site."""
    docs = ROOT / "docs"
    for path in [*ROOT.glob("*.md"), *docs.glob("*.*"), *docs.glob("*/**/*.md")]:
        name = "index.md" if path.name == "README.md" else path.name.lower()
        if path.suffix != ".md":
            shutil.copy(path, SOURCE / name)
            continue
        text = path.read_text("utf-8")
        (SOURCE / name).write_text(_LINK.sub(lambda link: link[1] + _on_site(link[2]), text), "utf-8")


def _on_site(target: str) -> str:
    name = target.rpartition("/")[2]
    return "index.md" if name == "README.md" else name.lower() if name.endswith(".md") else name


def reference() -> list[str]:
    """Write a page for each room of the package, with all of its public names; return the pages."""
    (SOURCE / "reference").mkdir()
    written = []
    for room in ROOMS:
        module = importlib.import_module(f"sparkstream_kit.{room}".rstrip("."))
        names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
        paragraphs = (inspect.getdoc(module) or "").split("\n\n")
        parts = [f"# {room or 'sparkstream_kit'}\n", *map(_paragraph, paragraphs)]
        for name in names:
            found = getattr(module, name)
            own = callable(found) and hasattr(found, "__qualname__")
            where = f"{found.__module__}.{found.__qualname__}" if own else f"{module.__name__}.{name}"
            parts.append(f"::: {where}\n")
        page = f"reference/{room or 'package'}.md"
        (SOURCE / page).write_text("\n".join(parts), "utf-8")
        written.append(page)
    return written


def _paragraph(text: str) -> str:
    """Return a paragraph of a module's docstring; of calls alone as code."""
    calls = all(re.match(r"(from \w|\w[\w.]*( = |\())", line) for line in text.splitlines())
    return f"```python\n{text}\n```\n" if calls else f"{text}\n"


def settings() -> str:
    """Write a page with each profile, which says what its lines are for; return the page."""
    parts = ["# Settings\n", "[How a profile is chosen](../install.md#settings), and what wins over it.\n"]
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
            env={"COLUMNS": "100"},
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
            env={"COLUMNS": "100", "PATH": ""},
        )
        parts.append(f"## sparkstream {' '.join(words)}\n\n```text\n{done.stdout.strip()}\n```\n")
        for name, inner in getattr(command, "commands", {}).items():
            add(inner, [*words, name])

    for name, command in getattr(typer.main.get_command(app), "commands", {}).items():
        add(command, [name])
    (SOURCE / "reference" / "commands.md").write_text("\n".join(parts), "utf-8")
    return "reference/commands.md"


def llms(menu: dict[str, list[str]]) -> str:
    """Return llms.txt: the pages of each part of the menu, with a title and a first sentence."""
    parts = ["# sparkstream-kit\n", f"> {_begins('index.md')[1]}"]
    for title, names in menu.items():
        parts.append(f"\n## {title}\n")
        for name in names:
            heading, sentence = _begins(name)
            shown = name.replace(".md", ".html") if name.startswith("reference/") else name
            parts.append(f"- [{heading}]({shown}): {sentence}")
    return "\n".join(parts) + "\n"


def _begins(page: str) -> tuple[str, str]:
    """Return the title of a page and its first sentence on the subject, without links."""
    aside = r"\A---\n.*?\n---\n|^```.*?^```|^<!--.*?-->|!?\[([^]]*)\]\([^)]*\)"
    text = re.sub(aside, r"\1", (SOURCE / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    blocks = [" ".join(block.split()) for block in text.split("\n\n") if block.strip()]
    prose = (block for block in blocks if block[0] not in "#|-<:")
    sentences = [each for block in prose for each in re.split(r"(?<=\.) (?=[A-Z`])", block)]
    aside = r"^([a-z]|It needs)|\b(is|was|were) (run|executed|used)\b"
    title = blocks[0].lstrip("# ")
    return title, next((each for each in sentences if not re.search(aside, each)), title)


def configuration(menu: dict[str, list[str]]) -> str:
    """Return the configuration of the builder."""
    nav = ",\n".join(f'  {{ "{title}" = {names} }}' for title, names in menu.items())
    return f"""[project]
site_name = "sparkstream-kit"
site_description = "Spark streams in Python that start fast, stop cleanly and lose nothing in silence"
docs_dir = "{SOURCE.name}"
site_dir = "{SITE.name}"
use_directory_urls = false
nav = [
{nav}
]
[project.theme]
font = false
features = ["navigation.tabs", "navigation.top", "search.highlight", "content.code.copy", "toc.follow"]
[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Switch to dark mode"
[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Switch to light mode"
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


def main() -> int:
    """Build, and hold the menu against the pages."""
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    pages()
    menu = {title: [f"{name}.md" for name in names] for title, names in MENU.items()}
    menu["Reference"] = [*reference(), commands(), flags(), settings()]
    there = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.md")}
    listed = {page for part in menu.values() for page in part}
    if there != listed:
        sys.stderr.write(f"pages that are not in the menu, or not there: {sorted(there ^ listed)}\n")
        return 1
    config = SOURCE.parent / "zensical.toml"
    config.write_text(configuration(menu), "utf-8")
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    if failed := subprocess.run(build, check=False, cwd=config.parent).returncode:
        return failed
    for page in SOURCE.glob("*.md"):
        shutil.copy(page, SITE)
    (SITE / "llms.txt").write_text(llms(menu), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
