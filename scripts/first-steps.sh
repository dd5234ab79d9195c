#!/usr/bin/env bash
# What a new user does with an installed kit: a project of their own, its job, its tests. In the folder that is given, with
# the commands of the environment that comes first on PATH.
set -euo pipefail
mkdir "$1" && cd "$1"
sparkstream --version
sparkstream new totals
cd totals
python totals.py data out --available-now
python -m pytest -q
