"""Pages and figures over HTTP, read from `db`."""
