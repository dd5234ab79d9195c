#!/usr/bin/env bash
# Makes .venv with the pinned packages and this project in it, and finds a Java for Spark (or installs one with apt).
# make runs it before every target: it ends at once when nothing changed. Needs python3 and its venv; no uv.
#
#   scripts/setup.sh         set up
#   scripts/setup.sh pins    work requirements/*.txt out again from pyproject.toml (needs uv)
set -euo pipefail
cd -P "$(dirname "$0")/.."
log=$(mktemp) # what pip and apt say, shown only when it helps
ticker=''             # what says every ten seconds how far pip is
trap 'rm -f "$log"; stop_ticker' EXIT

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

pins() {
    command -v uv >/dev/null || die "make pins needs uv (pip install uv)"
    # In a copy, since uv's lock file names the index that it used; the pins keep names, versions and hashes only.
    local copy
    copy=$(mktemp -d)
    cp pyproject.toml "$copy"
    export_pins() { uv export --quiet --project "$copy" --no-emit-project --no-annotate --no-header "$@"; }
    export_pins --only-group build >requirements/build.txt
    # Without a Java: set-up finds one, and the tests run on it.
    export_pins --all-extras --no-extra java --group dev >requirements/dev.txt
    export_pins --only-group lab >requirements/lab.txt
    export_pins --only-group docs >requirements/docs.txt
    export_pins --only-group release >requirements/release.txt
    rm -r "$copy"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; } # never asks for a password

# ---- the machine

set_up_localhost() { # a bare root has no /etc/hosts, and PySpark's own sockets are bound to "localhost"
    getent hosts localhost >/dev/null && return
    as_root true 2>/dev/null || die "the name localhost is unknown here: add the line '127.0.0.1 localhost' to /etc/hosts"
    say "the name localhost is unknown here: adding it to /etc/hosts"
    echo "127.0.0.1 localhost" | as_root tee -a /etc/hosts >/dev/null
}

java_fits() { # prints the home of the given java if Spark can run on it
    local settings version home
    settings=$("$1" -XshowSettings:properties -version 2>&1) || return 1
    version=$(sed -n 's/^ *java\.specification\.version = //p' <<<"$settings") # 17, or 1.8
    home=$(sed -n 's/^ *java\.home = //p' <<<"$settings")
    [ "${version%%.*}" -ge 17 ] && "$1" --list-modules | grep '^jdk\.incubator\.vector@' >/dev/null && echo "$home"
}

find_java() {
    local java
    for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java)" /usr/lib/jvm/*/bin/java; do
        [ -x "$java" ] && java_fits "$java" && return
    done
    return 1
}

install_java() {
    local need="Java 17 or newer, with its module jdk.incubator.vector, is needed and was not found" package
    command -v apt-get >/dev/null || die "$need: install it, or set JAVA_HOME"
    as_root true 2>/dev/null || die "$need: sudo apt-get install $(java_package)"
    as_root apt-get update >"$log" 2>&1 || true # what is missing then shows at the next step
    package=$(java_package)
    say "installing $package with apt"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" \
        </dev/null >>"$log" 2>&1 || die "$need, and apt-get install $package failed: $(grep -m1 '^E:' "$log")"
}

java_package() { # the newest of the two that this release has
    local version
    for version in 21 17; do
        if apt-cache policy "openjdk-$version-jre-headless" 2>/dev/null | grep 'Candidate: [0-9]' >/dev/null; then
            break
        fi
    done
    echo "openjdk-$version-jre-headless"
}

set_up_java() { # sets java_home
    java_home=$(cat .venv/java_home 2>/dev/null || true)
    if [ -x "$java_home/bin/java" ] && [ "${JAVA_HOME:-$java_home}" -ef "$java_home" ]; then
        return
    fi
    java_home=$(find_java) || { install_java && java_home=$(find_java); } || die "the Java that apt installed cannot run"
    if [ -n "${JAVA_HOME:-}" ] && ! [ "$JAVA_HOME" -ef "$java_home" ]; then
        say "JAVA_HOME=$JAVA_HOME is no Java 17 or newer that Spark can use; using $java_home"
    fi
}

# ---- Python

find_python() { # prints the first one that fits
    local python found=''
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        command -v "$python" >/dev/null || continue
        found=${found:-$("$python" -V 2>&1)}
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || continue
        "$python" -c 'import ensurepip' 2>/dev/null ||
            die "$python cannot make environments: install its venv (Debian: apt-get install python3-venv)"
        command -v "$python"
        return
    done
    die "Python 3.11 to 3.14 is needed, and ${found:-none} was found (another one: make PYTHON=/path/to/python3.12 …)"
}

tick() { # $1: how many packages are asked for
    local last
    while sleep 10 >/dev/null 2>&1; do # which may outlive this loop, and must hold nobody's pipe
        last=$(tail -n 1 "$log")
        case $last in
        Installing*) say "$SECONDS s: installing the packages" ;;
        *) say "$SECONDS s: $(grep -c '^Collecting' "$log" || true) of at most $1 packages found; ${last:0:90}" ;;
        esac
    done
}

# By SIGKILL: at any other signal a ticker that has just begun would run the trap above, and take the log with it.
stop_ticker() { [ -z "$ticker" ] || kill -KILL "$ticker" 2>/dev/null || true; }

pip_install() { # $1: how many packages; pip's output goes to a log: it tells of one lost connection in twenty lines
    local status=0
    : >"$log"
    tick "$1" 9<&- &
    ticker=$!
    disown # no word of its end
    .venv/bin/python -m pip install --no-input --progress-bar off --disable-pip-version-check --no-build-isolation \
        --use-pep517 "${@:2}" >>"$log" 2>&1 || status=$?
    stop_ticker
    [ "$status" != 0 ] || return 0
    if grep -E 'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError' "$log" >/dev/null; then
        die "no network: pip cannot reach its package index"
    fi
    tail -n 40 "$log" >&2
    die "pip failed (its last words are above)"
}

venv_works() { # it was finished, was not moved, and has the Python that PYTHON=… asks for, if it does
    [ ! -e .venv/incomplete ] && .venv/bin/python -c 'import pip' 2>/dev/null &&
        grep -F "$PWD/.venv" .venv/bin/activate >/dev/null &&
        [ "$(.venv/bin/python -V)" = "$("${PYTHON:-.venv/bin/python}" -V 2>/dev/null)" ]
}

make_venv() {
    say "making .venv with $("$1" -V) and the pinned packages (PySpark is a download of 450 MB)"
    rm -rf .venv
    mkdir .venv
    touch .venv/incomplete
    "$1" -m venv .venv >"$log" 2>&1 || die "$1 -m venv failed: $(tail -n 1 "$log")"
}

install_packages() {
    touch .venv/incomplete # until the end: an environment that was interrupted is made anew
    local file
    for file in requirements/build.txt requirements/dev.txt; do
        pip_install "$(grep -c '^[^ #]' $file)" --require-hashes -r $file
    done
    pip_install 1 --no-deps --editable .
    rm .venv/incomplete
}

warm() { # each of Spark's starts is then a third shorter; without it all works as well
    say "running a few small streams, so that Spark starts faster from now on"
    JAVA_HOME=$java_home .venv/bin/sparkstream warm >"$log" 2>&1 || say "no faster start: $(tail -n 1 "$log")"
}

write_spark_env() { # what Spark must find in its environment, read by .venv/bin/activate
    {
        echo "# Written by scripts/setup.sh."
        printf "export JAVA_HOME='%s'\n" "$java_home"
        echo "unset SPARK_HOME  # this environment has a Spark of its own"
        # shellcheck disable=SC2016  # expanded when it is read
        {
            echo '# Without a locale the JVM prints ? for every letter that is not ASCII.'
            echo 'case "${LC_ALL:-${LC_CTYPE:-${LANG:-C}}}" in C | POSIX) export LC_ALL=C.UTF-8 ;; esac'
            echo '# Spark does not start on a host that cannot resolve its own name, unless it is given an address.'
            echo 'getent hosts "$(uname -n)" >/dev/null || export SPARK_LOCAL_IP="${SPARK_LOCAL_IP:-127.0.0.1}"'
        }
    } >.venv/bin/spark-env
    # shellcheck disable=SC2016
    grep -q spark-env .venv/bin/activate || echo '. "$VIRTUAL_ENV/bin/spark-env"' >>.venv/bin/activate
    echo "$java_home" >.venv/java_home
}

main() {
    local stamp python='' java_home
    [ "${1:-}" != pins ] || { pins; return; }
    exec 9<scripts/setup.sh && flock 9 # two makes at once: the second waits
    stamp=$(cat requirements/*.txt pyproject.toml scripts/setup.sh | sha256sum)
    venv_works || python=$(find_python)
    set_up_java
    set_up_localhost
    if [ -n "$python" ]; then
        make_venv "$python"
    elif [ "$stamp $java_home" = "$(cat .venv/stamp 2>/dev/null)" ]; then
        return
    fi
    install_packages
    write_spark_env
    warm
    echo "$stamp $java_home" >.venv/stamp
    say "ready"
}

main "$@"
