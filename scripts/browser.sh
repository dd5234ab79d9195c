#!/usr/bin/env bash
# Installs Debian's Chromium and its driver where they are missing, for the tests of the page (`make browser`).
set -euo pipefail
. "$(dirname "$0")/apt.sh"

found() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }

if found; then exit; fi
apt_install "Chromium and its driver are needed for the tests of the page, and were not found" \
    chromium chromium-driver fonts-dejavu-core
found || die "apt has installed Chromium, but there is no chromium or chromedriver on PATH"
