"""What every page's template must keep to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import prioritizer.web

TEMPLATES = sorted((Path(prioritizer.web.__file__).parent / "templates").glob("*.html"))
NAMELESS = re.compile(r'class="(due|why|steps)"|colspan=')


def of_tables(text: str) -> list[str]:
    """The tables that a narrow window draws as one block a row."""
    return [found for found in re.findall(r"<table.*?</table>", text, re.DOTALL) if "figures" not in found.partition(">")[0]]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_cell_says_its_columns_name_where_the_row_is_a_block(path: Path) -> None:
    for table in of_tables(path.read_text()):
        cells = re.findall(r"<td[^>]*>(?!<form|{% if not t.revoked_at|{{ l.study }})", table)
        assert [cell for cell in cells if "data-label" not in cell and not NAMELESS.search(cell)] == []


def test_the_tables_are_found() -> None:
    assert sum(len(of_tables(path.read_text())) for path in TEMPLATES) >= 15
