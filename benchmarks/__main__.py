"""`python -m benchmarks`, which is `make bench`: runs every benchmark and writes docs/benchmarks.md."""

from __future__ import annotations

import sys

from benchmarks.benchmarks_page import main

sys.exit(main())
