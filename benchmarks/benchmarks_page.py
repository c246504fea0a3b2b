"""Run every benchmark and write docs/benchmarks.md; a missed line stays in the table as missed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import decode, engine, intake, line, worklist_pages

TARGET = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("openvino", "numpy", "pydicom", "pynetdicom", "pillow", "torch", "grad-cam", "sqlalchemy")


def _version(command: list[str]) -> str:
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return next(iter((told.stdout or told.stderr).splitlines()), "?").strip()


def _machine() -> str:
    names = [row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


def main() -> int:
    """0 when every line is met."""
    rows: list[dict[str, Any]] = []
    for part in (decode, engine, line, intake, worklist_pages):
        print(f"{part.__name__} ...", file=sys.stderr)
        rows += part.run()
    text = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}. Machine: {_machine()}. Shared and noisy: read the ratios.",
        "",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES) + "; "
        f"{_version(['Orthanc', '--version'])}.",
        "",
        "| what | required | ratio | median | spread | met |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "-" if row.get("ratio") is None else f"{row['ratio']:.2f}"
        difference = f", difference {row['difference']:.1e}" if "difference" in row else ""
        met = "yes" if row["met"] else "**missed**"
        text.append(f"| {row['what']} | {row['required']} | {ratio}{difference} | {row['median']} | {row['spread']} | {met} |")
    TARGET.write_text("\n".join(text) + "\n")
    print("\n".join(text))
    return 0 if all(row["met"] for row in rows) else 1
