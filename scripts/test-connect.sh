#!/usr/bin/env bash
# The tests that a session on Spark Connect must pass as well, on a server of their own; further arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/.."

XDG_CACHE_HOME=$(mktemp -d) # beside a server that the user may have
export XDG_CACHE_HOME
port=$(python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
trap 'sparkstream serve --stop --port "$port"; rm -rf "$XDG_CACHE_HOME"' EXIT
SPARK_REMOTE=$(sparkstream serve --port "$port" --profile test | sed 's/^export SPARK_REMOTE=//')
export SPARK_REMOTE
tests=(sources sources_names schemas sinks windows windows_watermark runs checkpoints_locks testing state state_alerts
  sinks_gate sensor_alerts card_alerts sales_totals sales_clean socket_wordcount feeds_disturb hashtag_trends
  events_to_postgres file_totals action_windows log_errors quarantine_avro quarantine_logs joins models ad_join
  score_posts drain dry_run monitoring_page quarantine_rules)
files=("${tests[@]/#/tests/test_}")
files=("${files[@]/%/.py}")
python -m pytest -n 3 -m "not slow or connect" -o faulthandler_timeout=300 "${files[@]}" "$@"
