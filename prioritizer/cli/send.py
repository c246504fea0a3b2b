"""`prioritizer send`: files and folders by C-STORE, one line an object."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track

from prioritizer.cli.init import title_at_host
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.send_files import send_files
from prioritizer.file_scoring.score import files_of


def send_paths(paths: list[Path], to: str, calling: str, *, as_json: bool, out: Console, talk: Console) -> bool:
    """Send every file; True when all were stored."""
    ae_title, host, port = title_at_host(to, with_port=True)
    destination = Destination(name=f"{ae_title}@{host}:{port}", ae_title=ae_title, host=host, port=port, calling_ae=calling)
    files = list(files_of(paths))
    stored: Counter[bool] = Counter()
    outcomes = track(
        send_files(files, destination), total=len(files), description="sending", console=talk, disable=len(files) < 10, transient=True
    )
    for outcome in outcomes:
        stored[outcome.stored] += 1
        if as_json:
            print(json.dumps({"file": str(outcome.path), "stored": outcome.stored, "said": outcome.said}), flush=True)
        else:
            out.print(f"{outcome.path}: {outcome.said}", markup=False, highlight=False, soft_wrap=True)
    talk.print(f"{stored[True]} stored, {stored[False]} not stored")
    return not stored[False]
