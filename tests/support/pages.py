"""Pages of the documentation as tests: blocks run as for a reader, from top to bottom."""

import re
import sys

from conftest import process

_BLOCK = re.compile(r"```(\w+)(?: title=\"([\w./]+)\")?\n(.*?)```", re.DOTALL)
_MEASURED = re.compile(
    r"[\d,.]+ rows?/s|after [\d.]+ s|\d+\.\d s|since [\d-]+ [\d:]+ UTC"
)
_FOLDER = "/home/ann/shop"  # the folder of the reader, as pages show it
# Runs a block of bash in the folder of the last one.
_SHELL = r"""
import os, pathlib, subprocess, tempfile

def shell(code):
    with tempfile.NamedTemporaryFile("r") as folder:
        bash = ["bash", "-euo", "pipefail", "-c"]
        subprocess.run([*bash, f"{code}\npwd >{folder.name}"], check=True)
        os.chdir(folder.read().strip())
"""


def unfolded(shown):
    """Return what a page shows, in the lines that are printed.

    A line that would not fit its box goes on in the next one, after four spaces.
    """
    return re.sub(r"\n {4}(?=\S)", " ", shown)


def run_page(page, folder, replaced=()):
    """Run a page in a folder: its `bash` and `python` blocks in their order.

    What its `text` blocks say must be printed; `unfolded` says how long lines are shown.
    A block with a title becomes a file of
    that name, where the blocks before have gone with `cd`. All `python` blocks without
    one are one process. `replaced` are pairs: what the page says and what it is on this
    machine, such as a server's address.
    """
    script, shown = [_SHELL], []
    text = page.read_text("utf-8").replace(_FOLDER, str(folder))
    for old, new in replaced:
        assert old in text, old
        text = text.replace(old, new)
    for kind, title, code in _BLOCK.findall(text):
        if title:
            assert f"`{title}`" in text, (
                "say which file it is: GitHub does not show a block's title"
            )
            script.append(f"pathlib.Path({title!r}).write_text({code!r})")
        elif kind == "bash":
            script.append(f"shell({code!r})")
        elif kind == "python":
            script.append(code)
        elif kind == "text":
            shown.append(unfolded(code))
    done = process([sys.executable, "-u", "-c", "\n".join(script)], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    rest = _MEASURED.sub("…", done.stdout)
    for text in shown:
        wanted = _MEASURED.sub("…", text)
        assert wanted in rest, (
            f"{page.name} shows\n{wanted}\nand prints\n{rest}\n{done.stderr}"
        )
        rest = rest.partition(wanted)[2]
