"""Start and run: what ends a run, and which signal goes where."""
