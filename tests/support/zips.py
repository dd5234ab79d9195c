"""The kit of this checkout as a zip, with its profiles, as a wheel has them."""

import zipfile
from pathlib import Path

import sparkstream_kit


def zipped_kit(folder):
    """Make the zip in a folder, and return it."""
    package = Path(sparkstream_kit.__file__).parent
    with zipfile.ZipFile(folder / "kit.zip", "w") as made:
        for file in package.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                made.write(file, file.relative_to(package.parent))
        for file in (package.parent / "conf").glob("*"):
            made.write(file, f"sparkstream_kit/conf/{file.name}")
    return folder / "kit.zip"
