"""A spool and a ledger with one study of one image; a file may begin otherwise by a `box` of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tests.support.phantom_spool import Box


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    """One study with one image, received and not yet scored."""
    from tests.support.phantom_spool import received_box

    return received_box(ledger, tmp_path)
