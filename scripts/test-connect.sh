#!/usr/bin/env bash
# The tests of what differs on Spark Connect, on a server of their own: functions of a batch, views, listeners,
# stops, files, state, plans. With ALL=1 each test that can run there; further arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/.."

XDG_CACHE_HOME=$(mktemp -d) # beside a server that the user may have
export XDG_CACHE_HOME
port=$(PYTHONPATH=tests python -c "from support import ports; print(ports.free_port())")
trap 'sparkstream serve --stop --port "$port"; rm -rf "$XDG_CACHE_HOME"' EXIT
SPARK_REMOTE=$(sparkstream serve --port "$port" --profile test | sed 's/^export SPARK_REMOTE=//')
export SPARK_REMOTE
all=(
  test_drain.py test_dry_run.py test_joins.py test_runs.py test_schemas.py test_windows.py test_windows_calendar.py
  test_windows_watermark.py
  checkpoints/test_checkpoints_locks.py feeds/test_feeds_disturb.py models sinks/test_sinks.py sinks/test_sinks_gate.py
  sources state testing/test_testing.py
  jobs/test_{action_windows,ad_join,alerts,events_to_postgres,hashtag_trends,log_errors}.py
  jobs/test_{sales_clean,sales_totals,score_posts,socket_wordcount}.py
  monitoring/test_monitoring_{notebook,page,recorder,terminal}.py
  quarantine/test_quarantine_{avro,logs,rules}.py
)
tests=(
  test_drain.py::test_drained_windows_are_those_of_a_batch
  test_drain.py::test_what_comes_after_the_last_batch_is_refused_and_not_lost
  test_dry_run.py::test_{a_sink_makes_nothing,it_goes_on_where_the_checkpoint_stands_and_leaves_it_as_it_is}
  test_dry_run.py::test_{it_refuses_what_spark_itself_refuses,it_says_what_would_run_and_run_ends_with_it}
  test_joins.py::test_{a_stream_and_a_static_frame_get_the_same_columns_of_a_table,two_streams_give_what_a_plain_join_gives_over_a_kill_and_forget_what_is_past}
  test_runs.py::test_{a_batch_from_before_the_run_is_counted,a_failing_query_stops_the_others_and_is_named_with_its_cause}
  test_runs.py::test_{a_failing_udf_is_named_by_its_own_error,a_finished_query_goes_on_from_its_checkpoint}
  test_runs.py::test_{a_finite_input_is_read_to_its_end_and_every_batch_is_reported,a_refused_connection_says_what_to_start}
  test_runs.py::test_{a_query_needs_a_name_a_stream_and_no_namesake,a_query_that_somebody_stops_is_not_the_end_of_its_input}
  test_runs.py::test_{a_signal_ends_the_run_and_the_handlers_are_put_back,a_socket_that_its_peer_closes_is_the_end_of_input}
  test_runs.py::test_a_socket_that_was_read_before_the_run_is_the_end_of_input
  test_runs.py::test_{an_error_in_on_batch_stops_the_query,batches_that_spark_has_forgotten_are_counted_if_their_reader_was_slow}
  test_runs.py::test_{events_that_come_while_a_run_ends_do_not_hold_it,grace_bounds_how_long_a_batch_may_hold_up_the_stop}
  test_runs.py::test_{good_bad_and_header_lines_are_counted_from_what_quarantine_observes,max_batches_ends_the_run}
  test_runs.py::test_{late_rows_of_an_aggregation_are_between_their_groups_and_the_rows_of_the_batch,several_queries_end_together}
  test_runs.py::test_{queries_are_stopped_side_by_side_and_each_once,run_for_ends_an_endless_input}
  test_runs.py::test_rows_in_state_are_counted_once_also_if_a_sort_computes_them_twice
  test_runs.py::test_{the_batch_in_flight_is_committed_before_the_stop,the_summary_counts_what_went_out_what_was_late_and_what_is_kept}
  test_runs.py::test_{what_a_file_source_hides_is_logged_and_in_the_summary,what_spark_cannot_do_in_a_mode_is_one_line_with_the_fix}
  test_windows.py::test_on_a_stream_closed_windows_come_out_flat
  test_windows_calendar.py::test_{a_day_that_the_clock_goes_back_to_stays_open,a_wrong_calendar_says_what_is_wrong}
  test_windows_watermark.py::test_{a_second_watermark_is_refused_at_the_call,windows_close_by_the_rows_of_the_present_alone}
  checkpoints/test_checkpoints_locks.py
  feeds/test_feeds_disturb.py::test_spark_itself_drops_the_late_rows_and_no_others
  jobs/test_action_windows.py::test_as_a_process_of_its_own_it_goes_on_where_it_was
  jobs/test_ad_join.py::test_the_job_writes_each_view_once_over_two_runs
  jobs/test_events_to_postgres.py::test_what_is_wrong_with_a_line_is_said_and_nothing_is_lost
  jobs/test_hashtag_trends.py::test_posts_of_both_networks_count_once_and_what_is_no_post_does_not
  jobs/test_log_errors.py::test_sessions_of_a_host_are_the_truth
  jobs/test_sales_clean.py::test_a_stream_writes_what_the_same_transform_gives_once
  jobs/test_sales_totals.py::test_{a_restart_goes_on_and_bad_lines_stay_counted,wrong_settings_are_one_line_too}
  jobs/test_score_posts.py::test_good_and_bad_lines_are_told_apart
  jobs/test_socket_wordcount.py::test_{a_feed_is_counted_to_its_end_under_spark_submit,a_port_that_nobody_listens_on_is_one_line}
  models/test_models.py::test_{a_model_of_scikit_learn_scores_streams_as_it_scores_here,a_pipeline_of_pyspark_ml_scores_and_says_its_version}
  monitoring/test_monitoring_notebook.py::test_live_starts_a_query_for_{an_aggregation_and_returns_its_rows,other_rows_and_takes_one_that_runs}
  monitoring/test_monitoring_page.py::test_{a_run_is_shown_with_its_result_and_ended_by_the_page,the_rows_of_latest_cost_no_job}
  monitoring/test_monitoring_recorder.py::test_a_recording_gives_the_board_that_the_run_had
  monitoring/test_monitoring_terminal.py::test_a_run_is_shown_on_standard_error
  quarantine/test_quarantine_avro.py::test_{bad_records_keep_their_bytes_and_say_why,good_records_are_rows_with_typed_columns}
  quarantine/test_quarantine_logs.py::test_each_bad_line_is_null_with_its_reason
  quarantine/test_quarantine_rules.py::test_{a_query_fails_before_its_batch_is_written,good_and_bad_rows_of_a_stream_are_apart}
  quarantine/test_quarantine_rules.py::test_the_summary_counts_by_rule_and_says_it_in_words
  sinks/test_sinks.py sinks/test_sinks_gate.py
  sources/test_sources_order.py sources/test_sources_values.py
  sources/test_sources.py::test_{rate_and_table,text_formats_with_a_schema_one_file_a_batch}
  sources/test_sources_names.py::test_a_row_counts_once_whatever_the_names_of_the_files_are
  state/test_state.py::test_once_on_a_static_frame_keeps_the_same_rows
  state/test_state_alerts.py::test_{a_rule_of_a_script_reaches_a_worker_that_does_not_have_the_script,alerts_come_in_event_time_over_kills_and_restarts}
  testing/test_testing.py::test_{a_batch_that_the_step_of_another_query_gave_is_in_the_next_step,a_failed_batch_is_named_and_comes_again}
  testing/test_testing.py::test_{a_restart_goes_on_from_the_checkpoint_also_with_another_frame,each_step_gives_the_batches_of_what_was_added}
  testing/test_testing.py::test_{nothing_is_left_after_a_failure,the_last_batch_comes_again_with_the_same_id_and_rows_to_a_sink_too}
)
[[ -z ${ALL-} ]] || tests=("${all[@]}")
python -m pytest -n 3 -m "not slow or connect" "${tests[@]/#/tests/}" "$@"
