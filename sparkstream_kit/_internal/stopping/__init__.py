"""Start and run: what ends a run, and which signal goes where.

A run ends by an event of a query, a limit, a stop file or a signal. `waiting` has the
`Inbox` in which all of these arrive. Of signals, SIGINT (Ctrl-C) and SIGTERM stop:

- to Python, during `run`: `waiting.signals_posted_to` posts it to the run's inbox. The
  batch in flight is committed, and the run returns. A second signal goes to the handler
  that was there before, so it ends the run at once.
- to Python, before and after `run`, in a job: `exits` ends the job, with exit code 130
  or 143. In a notebook, `run` alone handles signals.
- to the JVM, classic: under spark-submit the JVM is the parent, and Ctrl-C reaches the
  whole process group. `shutdown` has a hook that posts the signal to the run's inbox
  and holds the JVM until the batch is committed and the job has ended.
- to a Spark Connect server: the server ends, and the run's query fails. `exits` says so
  in one line.
- SIGKILL: nothing can be done, and nothing has to be: the checkpoint has the batch that
  was planned, and the sink's ledger knows what is written.

In another thread than the main one Python hears no signals: a stop file ends a run there.
"""
