"""Requests: limits, sign-in, and the context that a page is given."""
