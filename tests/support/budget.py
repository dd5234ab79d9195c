"""The fast tests that take more than 1.5 s on an idle core, each with its reason: `make budget`."""
# ruff: noqa: E501 - a name of a test is as long as it is

_BY_FILE = {
    "checkpoints/test_checkpoints_backlog.py": {
        "test_what_waits_is_what_the_next_run_reads": "the files that wait are counted: three runs",
    },
    "checkpoints/test_checkpoints_evolve.py": {
        "test_a_changed_query_equals_its_batch_computation": "the shortest case of a changed query: four starts",
    },
    "checkpoints/test_checkpoints_guards.py": {
        "test_a_checkpoint_from_before_the_kit_is_adopted_and_that_is_said": "plain PySpark's checkpoint is taken over: two runs",
        "test_the_same_query_goes_on_without_a_word": "query shapes, each built twice",
    },
    "checkpoints/test_checkpoints_locks.py": {
        "test_a_look_at_the_moment_of_a_start_does_not_make_it_fail": "a start beside another process",
    },
    "checkpoints/test_checkpoints_origins.py": {
        "test_a_folder_that_has_moved_is_refused_until_it_is_said_and_then_exact": "the shortest case of a moved folder: four starts",
    },
    "checkpoints/test_named_sources.py": {
        "test_a_query_goes_on_and_its_checkpoint_is_read": "named sources of Spark 4.2: two runs",
        "test_the_order_of_sources_counts_where_the_checkpoint_has_no_names": "two sources: two runs",
    },
    "connectors/test_posts.py": {
        "test_the_raw_post_is_what_the_job_reads": "the job of posts, over HTTP",
        "test_what_came_meanwhile_is_fetched_also_what_ranks_before_it": "what a feeder missed, over HTTP",
    },
    "connectors/test_sinks_delta.py": {
        "test_a_batch_that_comes_again_counts_once": "exactly once of the Delta sink",
        "test_a_crash_between_two_tables_leaves_both_exact": "exactly once of two Delta tables",
        "test_values_of_every_type_come_back": "the types of the Delta sink",
    },
    "connectors/test_sinks_sql.py": {
        "test_a_batch_that_fails_half_way_leaves_nothing": "a transaction of the SQL sink",
        "test_a_column_that_would_round_is_refused_and_a_wider_one_is_not": "the types of the SQL sink, on SQLite",
        "test_a_password_is_in_no_repr_error_plan_or_log": "no password in any text",
        "test_a_reader_never_sees_half_a_batch": "a reader beside a stream",
        "test_every_type_comes_back_as_it_was": "the types of the SQL sink",
    },
    "jobs/test_action_windows.py": {
        "test_more_late_rows_than_allowed_fail_the_job": "`--max-late`: a job from its command line",
    },
    "jobs/test_events_to_postgres.py": {
        "test_what_is_wrong_with_a_line_is_said_and_nothing_is_lost": "the job, on a real PostgreSQL",
    },
    "jobs/test_sales_clean.py": {
        "test_a_stream_writes_what_the_same_transform_gives_once": "the job, held against a batch",
    },
    "models/test_models.py": {
        "test_a_checkpoint_that_is_older_than_the_models_learns_no_batch_twice": "exactly once of the learner",
        "test_a_model_of_scikit_learn_scores_streams_as_it_scores_here": "scores are those of scikit-learn",
    },
    "monitoring/test_monitoring_recorder.py": {
        "test_a_recording_gives_the_board_that_the_run_had": "a recording of a real run",
    },
    "project/test_house.py": {
        "test_imports_run_in_no_circle": "the first that parses the package",
        "test_the_core_imports_no_extra": "the first that parses the package",
    },
    "quarantine/test_quarantine.py": {
        "test_good_rows_and_bad_rows_are_all_lines_whatever_is_selected": "the promise of the quarantine",
    },
    "quarantine/test_quarantine_json.py": {
        "test_a_stream_reads_what_python_reads_and_loses_no_line": "the promise of the quarantine of JSON",
    },
    "sinks/test_sinks.py": {
        "test_any_column_name_will_do": "each sink once with names as users have them",
    },
    "sinks/test_sinks_directories.py": {
        "test_a_second_stream_reads_a_batch_of_several_files_that_comes_again_once": "exactly once of folders",
        "test_no_half_batch_is_ever_seen": "a reader beside a stream",
    },
    "sinks/test_sinks_files.py": {
        "test_a_query_with_as_many_batches_is_another_query_too": "whose folder it is: three runs",
        "test_it_is_so_on_every_file_system": "whose folder it is, on Hadoop's file systems",
    },
    "sinks/test_sinks_gate.py": {
        "test_late_is_what_the_watermarks_of_the_checkpoint_say": "late rows set aside, over a restart",
    },
    "sources/test_sources_names.py": {
        "test_a_row_counts_once_whatever_the_names_of_the_files_are": "each format once with names that need care",
    },
    "sources/test_sources_order.py": {
        "test_files_of_one_time_are_read_by_their_names": "the order of files that were copied at once",
        "test_twenty_days_copied_at_once_lose_no_row": "twenty batches of twenty files",
    },
    "state/test_state_alerts.py": {
        "test_alerts_come_in_event_time_over_kills_and_restarts": "the shortest case of state with timers over a kill",
    },
    "testing/test_testing.py": {
        "test_a_sound_transform_gives_the_same_as_a_batch_run": "`assert_stream_equals_batch`: a stream in several batches",
        "test_wrong_arguments_are_refused": "the first use of a stream in its process",
    },
    "test_drain.py": {
        "test_drained_windows_are_those_of_a_batch": "the promise of a drain",
        "test_what_comes_after_the_last_batch_is_refused_and_not_lost": "the promise of a drain: three runs",
    },
    "test_dstreams.py": {
        "test_run_stops_its_context_also_when_it_raises": "the older API: two contexts in one JVM",
        "test_what_waits_when_a_run_ends_is_told": "the older API: batches of a second",
    },
    "test_joins.py": {
        "test_two_streams_give_what_a_plain_join_gives_over_a_kill_and_forget_what_is_past": "the shortest case of a join over a kill",
    },
    "test_late.py": {
        "test_files_of_days_in_no_order_are_counted_with_a_verdict": "late rows of twenty files",
        "test_rows_that_were_set_aside_are_counted": "late rows set aside",
        "test_the_bounds_hold_and_are_close": "the bounds of late rows, with the truth beside",
    },
    "test_runs.py": {
        "test_a_socket_that_its_peer_closes_is_the_end_of_input": "a real socket",
        "test_good_bad_and_header_lines_are_counted_from_what_quarantine_observes": "the counts of a run",
        "test_run_for_ends_an_endless_input": "`run_for`",
        "test_the_batch_in_flight_is_committed_before_the_stop": "a batch that takes long",
    },
    "test_session.py": {
        "test_a_job_that_a_notebook_calls_leaves_the_notebook_s_session": "a job within a notebook's session",
    },
    "test_windows.py": {
        "test_on_a_stream_closed_windows_come_out_flat": "windows on a stream: several batches",
    },
    "test_windows_watermark.py": {
        "test_windows_close_by_the_rows_of_the_present_alone": "a watermark against files of old dates",
    },
}
OVER = {f"tests/{file}::{test}": why for file, tests in _BY_FILE.items() for test, why in tests.items()}
