"""Benchmarks are run by hand: here it is seen that what they import is there under that name."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_imports(name: str):
    assert importlib.import_module(f"benchmarks.{name}").__doc__
