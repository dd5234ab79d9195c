"""Start and run: the plumbing that the kit keeps to itself; no user imports from here."""
