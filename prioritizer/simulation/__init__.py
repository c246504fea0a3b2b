"""`simulate`, and what a proposed threshold or settings override would have changed."""
