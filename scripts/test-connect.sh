#!/usr/bin/env bash
# The tests of what differs on Spark Connect, which have the mark `connect`, on a server of their own: functions of a
# batch, views, listeners, stops, files, state, plans. With ALL=1 each fast test beside them; further arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/.."

XDG_CACHE_HOME=$(mktemp -d) # beside a server that the user may have
export XDG_CACHE_HOME
port=$(PYTHONPATH=tests python -c "from support import ports; print(ports.free_port())")
trap 'sparkstream serve stop --port "$port"; rm -rf "$XDG_CACHE_HOME"' EXIT
SPARK_REMOTE=$(sparkstream serve start --port "$port" --profile test | sed 's/^export SPARK_REMOTE=//')
export SPARK_REMOTE
mapfile -t files < <(grep -rl 'pytest\.mark\.connect' tests)
python -m pytest -n 2 -m "${ALL:+not slow or }connect" "${files[@]}" "$@"
