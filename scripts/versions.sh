#!/usr/bin/env bash
# Runs the tests, and kills and damages, on each version of Spark in conf/versions.toml, whatever the development is pinned to.
#
#   scripts/versions.sh [VERSION…]      PYTHON=python3.13 scripts/versions.sh 4.3.0
#   scripts/versions.sh next            the newest of the index, release candidates included
set -euo pipefail
cd -P "$(dirname "$0")/.."

versions=("$@")
[ $# -gt 0 ] || mapfile -t versions < <(sed -n 's/^tested = "\(.*\)"/\1/p' conf/versions.toml)
python=${PYTHON:-python3}
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sparkstream-kit/versions # 450 MB each; remove it at will
mkdir -p "$folder"

# The pins, but for Spark's own, which take the version that is asked for.
others=$folder/others.txt
awk '/^[a-z]/ { spark = /^(pyspark|py4j)==/ } !spark' requirements/dev.txt >"$others"

failed=()
for version in "${versions[@]}"; do
    name=$version-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    printf '\n== PySpark %s, Python %s\n' "$version" "${name##*-}"
    env=$folder/$name
    if [ ! -e "$env/ready" ]; then
        rm -rf "$env"
        "$python" -m venv "$env"
        pip=("$env/bin/python" -m pip install --quiet --disable-pip-version-check)
        "${pip[@]}" --require-hashes -r requirements/build.txt
        "${pip[@]}" --require-hashes -r "$others"
        if [ "$version" = next ]; then
            "${pip[@]}" --pre pyspark # each time anew
        else
            "${pip[@]}" "pyspark==$version"
            touch "$env/ready"
        fi
    fi
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
    # shellcheck disable=SC1091
    (
        . .venv/bin/spark-env
        export PATH=$env/bin:$PATH XDG_CACHE_HOME=$env/cache
        passed=true # bash ignores `set -e` in a list before a ||
        python -m pytest -n 3 --dist loadgroup -m "not slow" || passed=false
        python -m pytest tests/faults -n 2 --dist loadfile -m "not slow" || passed=false
        python -m pytest tests/systems/test_pipelines.py -n 0 -m slow || passed=false
        # On Spark Connect what the function of a batch shows its client: 4.3 changed whose session it has.
        bash scripts/test-connect.sh -n 0 -k "test_sinks and (latest or prints or console or without_the_kit)" || passed=false
        $passed
    ) || failed+=("$name")
done
[ ${#failed[@]} = 0 ] || { printf 'failed on: %s\n' "${failed[*]}" >&2; exit 1; }
