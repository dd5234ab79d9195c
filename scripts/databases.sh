#!/usr/bin/env bash
# Installs Debian's PostgreSQL and MariaDB where they are missing, for the tests; they start servers of their own.
set -euo pipefail

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; } # never asks for a password
die() { printf 'databases: %s\n' "$*" >&2; exit 2; }

packages=()
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
PATH=$PATH:/usr/sbin command -v mariadbd >/dev/null || packages+=(mariadb-server)
[ ${#packages[@]} != 0 ] || exit 0
need="the tests need ${packages[*]}, not found here"
command -v apt-get >/dev/null || die "$need: install it"
as_root true 2>/dev/null || die "$need: sudo apt-get install --no-install-recommends ${packages[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf 'databases: installing %s with apt\n' "${packages[*]}" >&2
as_root apt-get update >"$log" 2>&1 || true # what is missing then shows at the next step
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" \
    </dev/null >>"$log" 2>&1 || die "$need, and apt-get install failed: $(grep -m1 '^E:' "$log")"
