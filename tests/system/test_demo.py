"""`prioritizer demo`: a modality, a PACS and a list that is re-ordered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prioritizer.db.worklist import rows as worklist_rows
from tests.support.daemons import running_daemon, sections
from tests.support.pacs import free_port


def test_the_demo_shows_a_list_that_the_shipped_bundle_re_orders(tmp_path: Path) -> None:
    pacs = free_port()
    folder, keep = tmp_path / "d", tmp_path / "kept"
    folder.mkdir()
    told = sections(pacs_port=pacs, pacs_title="DEMOPACS", peers=[{"ae_title": "*", "host": "127.0.0.1"}])
    with running_daemon(folder, told) as daemon:
        command = [sys.executable, "-m", "prioritizer", "demo", "--config", str(daemon.config), "--studies", "6"]
        done = subprocess.run(
            [*command, "--pacs-port", str(pacs), "--keep", str(keep)], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rows = worklist_rows.rows(daemon.ledger)
    arrived = sorted(rows, key=lambda row: row.first_received_at)
    assert [row.band for row in arrived] == ["NEUTRAL", "NEUTRAL", "HIGH"] * 2
    assert [arrived.index(row) for row in rows] == [2, 5, 0, 1, 3, 4]
    assert len([one for one in keep.rglob("*") if one.is_file()]) == 6
