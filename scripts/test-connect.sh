#!/usr/bin/env bash
# The tests that a session on Spark Connect must pass as well, on a server of their own; further arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/.."

XDG_CACHE_HOME=$(mktemp -d) # beside a server that the user may have
export XDG_CACHE_HOME
port=$(PYTHONPATH=tests python -c "from support import ports; print(ports.free_port())")
trap 'sparkstream serve --stop --port "$port"; rm -rf "$XDG_CACHE_HOME"' EXIT
SPARK_REMOTE=$(sparkstream serve --port "$port" --profile test | sed 's/^export SPARK_REMOTE=//')
export SPARK_REMOTE
tests=(
  test_drain.py test_dry_run.py test_joins.py test_runs.py test_schemas.py test_windows.py test_windows_watermark.py
  checkpoints/test_checkpoints_locks.py feeds/test_feeds_disturb.py models sinks/test_sinks.py sinks/test_sinks_gate.py
  sources state testing/test_testing.py
  jobs/test_{action_windows,ad_join,card_alerts,events_to_postgres,file_totals,hashtag_trends,log_errors}.py
  jobs/test_{sales_clean,sales_totals,score_posts,sensor_alerts,socket_wordcount}.py
  monitoring/test_monitoring_{notebook,page,recorder,terminal}.py
  quarantine/test_quarantine_{avro,logs,rules}.py
)
python -m pytest -n 3 -m "not slow or connect" -o faulthandler_timeout=300 "${tests[@]/#/tests/}" "$@"
