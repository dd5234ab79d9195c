#!/usr/bin/env bash
# Runs what depends on Spark's version on the oldest, a middle and the newest one that the package supports.
#
#   scripts/versions.sh [VERSION…]
set -euo pipefail
cd -P "$(dirname "$0")/.."

versions=("$@")
[ $# -gt 0 ] || versions=(4.0.1 4.1.4 4.3.0)
tests=(tests/test_profiles.py tests/test_session.py tests/test_runs.py tests/test_windows.py tests/sources
    tests/connectors/test_sources*.py tests/sinks/test_sinks.py tests/checkpoints tests/quarantine
    tests/testing/test_testing.py)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sparkstream-kit/versions # 450 MB each; remove it at will
mkdir -p "$folder"

# The pins, but for Spark's own, which take the version that is asked for.
others=$folder/others.txt
awk '/^[a-z]/ { spark = /^(pyspark|py4j)==/ } !spark' requirements/dev.txt >"$others"

for version in "${versions[@]}"; do
    printf '\n== PySpark %s\n' "$version"
    env=$folder/$version
    if [ ! -e "$env/ready" ]; then
        rm -rf "$env"
        python3 -m venv "$env"
        pip=("$env/bin/python" -m pip install --quiet --disable-pip-version-check)
        "${pip[@]}" --require-hashes -r requirements/build.txt
        "${pip[@]}" --require-hashes -r "$others"
        "${pip[@]}" "pyspark==$version"
        touch "$env/ready"
    fi
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
    # shellcheck disable=SC1091
    (
        . .venv/bin/spark-env
        export PATH=$env/bin:$PATH
        python -m pytest -n 2 --dist loadgroup "${tests[@]}"
        # On Spark Connect what the function of a batch shows its client: 4.3 changed whose session it has.
        bash scripts/test-connect.sh -n 0 -k "test_sinks and (latest or prints or console or without_the_kit)"
    )
done
