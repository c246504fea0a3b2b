"""A reading room as a queueing simulation: values alone."""
