#!/usr/bin/env bash
# Fetches the jars of the systems that the tests run against, and keeps them in the user's cache folder.
#
#   scripts/systems.sh [NAME…]     each NAME has its list in scripts/systems/pom-NAME.xml; all of them by default
#
# The jars of NAME are then in ${XDG_CACHE_HOME:-~/.cache}/sparkstream-kit/systems/NAME. Needs Maven.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sparkstream-kit/systems
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf 'systems: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; } # never asks for a password

install_maven() {
    local need="Maven is needed to fetch the jars of the systems, and was not found"
    command -v apt-get >/dev/null || die "$need: install it"
    as_root true 2>/dev/null || die "$need: sudo apt-get install --no-install-recommends maven"
    say "installing Maven with apt"
    as_root apt-get update >"$log" 2>&1 || true # what is missing then shows at the next step
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends maven \
        </dev/null >>"$log" 2>&1 || die "$need, and apt-get install failed: $(grep -m1 '^E:' "$log")"
}

fetch() { # into a folder of its own first: what was cut off is fetched anew
    local name=$1 pom=scripts/systems/pom-$1.xml stamp
    [ -f "$pom" ] || die "unknown system $name; known: $(known | xargs)"
    stamp=$(sha256sum <"$pom")
    [ "$(cat "$cache/$name/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    command -v mvn >/dev/null || install_maven
    say "fetching the jars of $name"
    rm -rf "${cache:?}/$name" "$cache/.$name"
    mkdir -p "$cache/.$name"
    # A repository of its own: Spark's Ivy looks into Maven's, and stumbles over what is half there.
    mvn --batch-mode --quiet --strict-checksums -Dmaven.repo.local="$cache/maven" -f "$pom" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/.$name" >"$log" 2>&1 ||
        die "Maven failed: $(grep -m1 '^\[ERROR\]' "$log")"
    echo "$stamp" >"$cache/.$name/stamp"
    mv "$cache/.$name" "$cache/$name"
}

known() { printf '%s\n' scripts/systems/pom-*.xml | sed 's/.*pom-\(.*\)\.xml/\1/'; }

mkdir -p "$cache"
exec 9<"$cache" && flock 9 # two at once: the second waits
[ $# -gt 0 ] || mapfile -t all < <(known)
for name in "${@:-${all[@]}}"; do
    fetch "$name"
done
