"""The verbs of the physicist: simulate a reading room, recalibrate, activate and roll back."""

from __future__ import annotations

import typer

app = typer.Typer()
