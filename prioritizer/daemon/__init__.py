"""`serve`: the daemon, its workers and scheduled jobs."""
