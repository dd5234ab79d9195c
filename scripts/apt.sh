# shellcheck shell=bash
# Read by the scripts that install what is missing with Debian's apt.

log=$(mktemp) # what apt and others say, shown only when it helps
trap 'rm -f "$log"' EXIT

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { say "$*"; exit 2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; } # never asks for a password

apt_install() { # a line that says what needs the packages, and the packages
    local need=$1
    shift
    command -v apt-get >/dev/null || die "$need: install it"
    as_root true 2>/dev/null || die "$need: sudo apt-get install --no-install-recommends $*"
    say "installing $* with apt"
    as_root apt-get update >"$log" 2>&1 || true # what is missing then shows at the next step
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
        </dev/null >>"$log" 2>&1 || die "$need, and apt-get install failed: $(grep -m1 '^E:' "$log")"
}
