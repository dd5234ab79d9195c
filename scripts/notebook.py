"""Run the notebooks and keep their outputs in their files, for those who only read them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"

if __name__ == "__main__":
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            client = NotebookClient(
                notebook, record_timing=False, resources={"metadata": {"path": folder}}
            )
            client.execute()
        nbformat.write(notebook, path)
