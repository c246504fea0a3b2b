"""Files of others that the pages use are the ones that were looked at."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import prioritizer.web

FOLDER = Path(prioritizer.web.__file__).parent / "static" / "vendor"
ROW = re.compile(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", re.MULTILINE)


def test_every_file_of_others_has_the_digest_of_its_row() -> None:
    told = dict(ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8")))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.iterdir() if path.name != "README.md"}
    assert found
    assert found == told
