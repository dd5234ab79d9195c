"""Start and run: what ends a run, and which signal goes where.

A run ends by an event of a query, a limit, a stop file or a signal; `waiting` has the
`Inbox` in which all of these arrive. SIGINT (Ctrl-C) and SIGTERM stop a run:

- The signal reaches Python during `run`: `waiting.signals_posted_to` posts it to the
  inbox. The batch in flight commits, and `run` returns. A second signal, more than a
  second after the first, goes to the former handler, which ends the run at once.
- It reaches Python outside of `run`, in a job: before the run nothing has to commit, so
  `exits` ends the job at once, with exit code 0. A second signal ends the process, with
  130 or 143. Outside of a job Python's own handlers apply.
- It reaches the JVM, as it does under spark-submit and with Ctrl-C: `shutdown` has a
  hook in the JVM that asks the run to stop, and holds the JVM until the batch has
  committed and the job has ended.
- It reaches a Spark Connect server: its queries fail, and the job ends with one line.

In another thread than the main one Python hears no signals; a stop file ends a run
there. After SIGKILL the next start replays the batch that was planned.
"""
