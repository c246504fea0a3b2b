"""Benchmarks that print ratios against a peer in the same run. `python -m benchmarks` writes docs/benchmarks.md."""
