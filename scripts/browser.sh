#!/usr/bin/env bash
# Installs Debian's Chromium and its driver where they are missing, for the tests of the page (`make browser`).
set -euo pipefail

found() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; } # never asks for a password
die() { printf 'browser: %s\n' "$*" >&2; exit 2; }

if found; then exit; fi
need="Chromium and its driver are needed for the tests of the page, and were not found"
command -v apt-get >/dev/null || die "$need: install them"
as_root true 2>/dev/null || die "$need: sudo apt-get install --no-install-recommends chromium chromium-driver"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf 'browser: installing Chromium with apt\n' >&2
as_root apt-get update >"$log" 2>&1 || true # what is missing then shows at the next step
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    chromium chromium-driver fonts-dejavu-core </dev/null >>"$log" 2>&1 \
    || die "$need, and apt-get install failed: $(grep -m1 '^E:' "$log")"
found || die "apt has installed Chromium, but there is no chromium or chromedriver on PATH"
