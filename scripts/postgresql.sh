#!/usr/bin/env bash
# Installs Debian's PostgreSQL where it is missing, for the tests; they start servers of their own from it.
set -euo pipefail

found() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; } # never asks for a password
die() { printf 'postgresql: %s\n' "$*" >&2; exit 2; }

if found; then exit; fi
need="PostgreSQL is needed for the tests, and was not found"
command -v apt-get >/dev/null || die "$need: install it"
as_root true 2>/dev/null || die "$need: sudo apt-get install --no-install-recommends postgresql"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf 'postgresql: installing it with apt\n' >&2
as_root apt-get update >"$log" 2>&1 || true # what is missing then shows at the next step
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql \
    </dev/null >>"$log" 2>&1 || die "$need, and apt-get install failed: $(grep -m1 '^E:' "$log")"
found || die "apt has installed PostgreSQL, but there is no /usr/lib/postgresql/*/bin/postgres"
