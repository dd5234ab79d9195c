#!/usr/bin/env bash
# Installs Debian's PostgreSQL and MariaDB where they are missing, for the tests; they start servers of their own.
set -euo pipefail
. "$(dirname "$0")/apt.sh"

packages=()
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
PATH=$PATH:/usr/sbin command -v mariadbd >/dev/null || packages+=(mariadb-server)
[ ${#packages[@]} = 0 ] || apt_install "the tests need ${packages[*]}, not found here" "${packages[@]}"
