#!/usr/bin/env bash
# Fetches the servers that the tests run against, and keeps them in the user's cache folder.
#
#   scripts/systems.sh [NAME…]     all of them by default
#
# NAME has a list of jars in scripts/systems/pom-NAME.xml, for Maven, or a list of Node.js's packages in
# scripts/systems/NAME/package-lock.json, for npm. They are then in
# ${XDG_CACHE_HOME:-~/.cache}/sparkstream-kit/systems/NAME.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sparkstream-kit/systems

install() { # a program, and Debian's packages that have it
    command -v "$1" >/dev/null ||
        apt_install "$1 is needed to fetch what the tests of systems run, and was not found" "${@:2}"
}

jars() {
    install mvn maven
    local goal=copy-dependencies archive
    ! grep -q '<artifactItems>' "$1" || goal=copy # an archive that has all its jars
    # A repository of its own: Spark's Ivy looks into Maven's, and stumbles over what is half there.
    mvn --batch-mode --quiet --strict-checksums -Dmaven.repo.local="$cache/maven" -f "$1" \
        "dependency:$goal" -DincludeScope=runtime -DoutputDirectory="$2" >"$log" 2>&1 ||
        die "Maven failed: $(grep -m1 '^\[ERROR\]' "$log")"
    for archive in "$2"/*.tar.gz; do
        [ ! -f "$archive" ] || { tar -xzf "$archive" -C "$2" && rm "$archive"; }
    done
}

packages() { # of the versions in the lock file, each with the checksum there; no code of theirs runs
    install npm nodejs npm
    cp "$(dirname "$1")/package.json" "$1" "$2"
    npm ci --prefix "$2" --ignore-scripts --omit=optional --no-audit --no-fund >"$log" 2>&1 ||
        die "npm failed: $(grep -m1 -E '^npm (ERR!|error)' "$log")"
}

fetch() { # into a folder of its own first: what was cut off is fetched anew
    local name=$1 how=jars list=scripts/systems/pom-$1.xml stamp
    [ -f "$list" ] || { how=packages list=scripts/systems/$name/package-lock.json; }
    [ -f "$list" ] || die "unknown system $name; known: $(known | xargs)"
    stamp=$(sha256sum <"$list")
    [ "$(cat "$cache/$name/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    say "fetching the $how of $name"
    rm -rf "${cache:?}/$name" "$cache/.$name"
    mkdir -p "$cache/.$name"
    $how "$list" "$cache/.$name"
    echo "$stamp" >"$cache/.$name/stamp"
    mv "$cache/.$name" "$cache/$name"
}

known() {
    printf '%s\n' scripts/systems/pom-*.xml scripts/systems/*/package-lock.json |
        sed 's,.*/pom-\(.*\)\.xml,\1,; s,.*/\(.*\)/package-lock.json,\1,'
}

mkdir -p "$cache"
exec 9<"$cache" && flock 9 # two at once: the second waits
[ $# -gt 0 ] || mapfile -t all < <(known)
for name in "${@:-${all[@]}}"; do
    fetch "$name"
done
