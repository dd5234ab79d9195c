#!/usr/bin/env bash
# Installs what `make smoke` has built into empty environments, with the oldest and with the newest packages that it allows,
# and does there what a new user does: a project, its job, its tests.
set -euo pipefail
cd -P "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python -m venv "$work/uv"
"$work/uv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/release.txt
for resolution in lowest-direct highest; do
    "$work/uv/bin/uv" pip compile --quiet --resolution "$resolution" --extra cli --extra testing \
        --output-file "$work/$resolution.txt" pyproject.toml
    for built in "$PWD"/dist/*.whl "$PWD"/dist/*.tar.gz; do
        printf '\n== %s, %s\n' "${built##*/}" "$resolution"
        env=$work/$resolution-${built##*.}
        python -m venv "$env"
        "$work/uv/bin/uv" pip install --quiet --python "$env/bin/python" --constraint "$work/$resolution.txt" \
            "sparkstream-kit[cli,testing] @ file://$built"
        (
            export PATH=$env/bin:$PATH
            python -m pip list --disable-pip-version-check 2>/dev/null | grep -E '^(pyspark|typer|rich|pandas|pyarrow|pytest) '
            bash scripts/first-steps.sh "$work/of-${env##*/}"
        )
    done
done
