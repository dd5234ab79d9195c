"""What a feeder does where nothing else is said."""

__all__ = ["EVERY", "STALL", "TOKEN"]

TOKEN = "POSTS_TOKEN"  # noqa: S105 - the name of an environment variable
EVERY = 1.0  # seconds from one file to the next
STALL = 30.0  # seconds without anything: X and Mastodon send something every 20 and 15 seconds
