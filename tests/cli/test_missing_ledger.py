"""A verb that only asks makes no ledger where none is: an empty one would look like a ledger that was lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prioritizer.cli.app import app


@pytest.mark.parametrize(
    "verb", [("worklist",), ("status",), ("identity", "list"), ("rebuild",), ("audit",), ("calibration", "list"), ("doctor",), ("check",)]
)
def test_asking_where_no_ledger_is_makes_none_and_says_where_it_should_be(tmp_path: Path, verb: tuple[str, ...]):
    config = tmp_path / "prioritizer.toml"
    config.write_text(f'[store]\ndata = "{tmp_path / "data"}"\n')
    done = CliRunner().invoke(app, [*verb, "--config", str(config)])
    ledger = tmp_path / "data" / "ledger.sqlite3"
    assert not ledger.exists()
    assert str(ledger) in "".join(done.output.split("\n"))
    assert (done.exit_code != 0) or verb == ("check",)
