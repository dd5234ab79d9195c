"""Draw docs/demo.svg: the live table of `make demo`, as a real terminal last shows it.

A font's block characters can be of another width than its letters. So each run of text
is set at its own column and to its own width, and the bars are drawn as rectangles, an
eighth of a column exact.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from html import escape
from pathlib import Path

import pyte

ROOT = Path(__file__).parent.parent
# From 100 on the table has small charts, which this script cannot draw
ROWS, COLUMNS = 24, 96
# Of a character, of a line, around them, and above them
WIDTH, HEIGHT, MARGIN, TITLE = 8.4, 19, 18, 34
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
EIGHTHS = " ▏▎▍▌▋▊▉█"
SHOW_CURSOR = b"\x1b[?25h"  # rich hides the cursor while the live table stands


def main() -> int:
    """Run the demo in a terminal of its own, and draw the last screen of its live table."""
    output, code = record([sys.executable, "scripts/demo.py"])
    live, end, _ = output.partition(SHOW_CURSOR)
    if code or not end:
        sys.stderr.write(output.decode())
        print(
            f"scripts/demo.py ended with code {code}; docs/demo.svg is as before",
            file=sys.stderr,
        )
        return 1
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(live)
    lines = [line.rstrip() for line in screen.display]
    # What stands above the table names a temporary folder, another one each time.
    table = lines[
        next(i for i, line in enumerate(lines) if re.match("query +batch", line)) :
    ]
    svg = draw("\n".join(table).rstrip().split("\n"), title="make demo")
    (ROOT / "docs" / "demo.svg").write_text(svg, encoding="utf-8")
    return 0


def record(command: list[str]) -> tuple[bytes, int]:
    """Return what a command wrote to its terminal, and its exit code."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (ROWS, COLUMNS))
    env = {
        k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**env, "TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    output = b""
    try:
        while chunk := os.read(ours, 65536):
            output += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    finally:
        os.close(ours)
    return output, process.wait()


def draw(lines: list[str], title: str) -> str:
    """Return a picture of a terminal window."""
    width, height = (
        round(max(map(len, lines)) * WIDTH + 2 * MARGIN),
        TITLE + len(lines) * HEIGHT + MARGIN,
    )
    dots = "".join(
        f'<circle cx="{MARGIN + 2 + 18 * i}" cy="17" r="5.5" fill="{colour}"/>'
        for i, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    body = "\n".join(
        draw_line(line, TITLE + i * HEIGHT) for i, line in enumerate(lines) if line
    )
    size = f'width="{width}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}>
<title>{escape(title)}</title>
<rect {size} rx="8" fill="#1b1f27"/>
{dots}
<g font-family="{FONTS}" font-size="14" fill="#d6dbe4">
<text x="{width / 2:g}" y="22" text-anchor="middle" fill="#8b93a1">{escape(title)}</text>
{body}
</g>
</svg>
"""


def draw_line(line: str, top: float) -> str:
    """Return a line's words as text, and its bar as a rectangle."""
    words, bars = "", ""
    for run in re.finditer(
        f"[{EIGHTHS[1:]}]+|[^ {EIGHTHS[1:]}]+(?: [^ {EIGHTHS[1:]}]+)*", line
    ):
        x = f"{MARGIN + run.start() * WIDTH:.1f}"
        if run[0][0] in EIGHTHS:
            length = sum(EIGHTHS.index(block) for block in run[0]) / 8 * WIDTH
            bars += (
                f'<rect x="{x}" y="{top + 3}" width="{length:.1f}"'
                f' height="{HEIGHT - 6}" fill="#4f9cf9"/>'
            )
        else:
            length = len(run[0]) * WIDTH
            words += (
                f'<tspan x="{x}" textLength="{length:.1f}">{escape(run[0])}</tspan>'
            )
    return f'{bars}<text xml:space="preserve" y="{top + 14}">{words}</text>'


if __name__ == "__main__":
    sys.exit(main())
