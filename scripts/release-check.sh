#!/usr/bin/env bash
# A release without its upload: builds the wheel and the sdist, builds the wheel again from the unpacked sdist, installs it into
# an empty environment, does there what a new user does, and runs a part of the tests in the unpacked sdist. In the end the same
# with the oldest and the newest packages (scripts/smoke.sh), unless QUICK is set.
#
# The empty environment has the wheel alone; what the kit needs is found in the environment of the checkout, by its path.
set -euo pipefail
cd -P "$(dirname "$0")/.."
unset PYTHONPATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One of each kind: the pages for an index, the shape of the package, windows on Spark.
tests=(tests/project/test_release.py tests/project/test_package.py tests/test_windows.py)

step() { printf '\n== %s\n' "$*"; }
die() { printf 'release-check: %s\n' "$*" >&2; exit 1; }

step 'the wheel and the sdist'
rm -rf dist
hatchling build

step 'the wheel again, from the sdist'
tar -xzf dist/*.tar.gz -C "$work"
mv "$work"/sparkstream_kit-* "$work/sdist"
(cd "$work/sdist" && hatchling build -t wheel -d "$work/again")
cmp dist/*.whl "$work"/again/*.whl || die "the sdist builds another wheel than the checkout"

step 'the wheel in an empty environment'
python -m venv "$work/env"
python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$work/pinned.pth"
PATH=$work/env/bin:$PATH
python -m pip install --quiet --disable-pip-version-check --no-index --no-deps dist/*.whl
cp "$work/pinned.pth" "$work"/env/lib/python3*/site-packages/
(cd "$work" && python -c 'import sparkstream_kit as kit; print(kit.__file__)') | grep -F "$work/env/" ||
    die "the environment has another kit than the wheel"
bash scripts/first-steps.sh "$work/first"

step "in the unpacked sdist: ${tests[*]}"
(cd "$work/sdist" && python -m pytest -q -p no:cacheprovider -m "not slow" "${tests[@]}")

[ -n "${QUICK:-}" ] || bash scripts/smoke.sh

step 'done; before a tag a person still has to'
grep -q '^\[project.urls\]' pyproject.toml || echo '- give the address of the repository (CONTRIBUTING.md, "Release")'
! grep -q 'not released yet' CHANGELOG.md || echo '- put the date into CHANGELOG.md'
echo '- sign the tag'
