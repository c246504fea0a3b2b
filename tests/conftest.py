"""Hypothesis explores on a developer's machine and repeats the same examples in CI: a landing does not depend on luck."""

from __future__ import annotations

import os

# Several workers with as many threads each wait for one another, spinning; read before numpy and torch are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("here")
if os.environ.get("CI"):
    settings.load_profile("ci")
