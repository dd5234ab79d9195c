"""Extra: watch a run: in the terminal, on a page, from a scraper, and later from a file."""

__all__: list[str] = []
