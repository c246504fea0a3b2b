"""Commands that documents give are understood by the command line as they are written: verbs, options and kinds of values."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperCommand
from typer.testing import CliRunner

from prioritizer.cli.app import app
from tests.support.documented_commands import REPOSITORY, commands_of

PAGES = sorted(path for path in (REPOSITORY / "docs").glob("*.md") if "prioritizer " in path.read_text(encoding="utf-8"))


def verbs_typed(page: Path) -> list[str]:
    """What stands after `prioritizer` in the lines of a page that are typed: in fenced blocks and in indented ones."""
    text = page.read_text(encoding="utf-8")
    indented = "".join(f"```sh\n{line.strip()}\n```\n" for line in re.findall(r"(?<=\n)    \S.*", text))
    lines = commands_of(text) + commands_of(indented)
    return [found[1] for line in lines if (found := re.search(r"(?:^|-m |/)prioritizer (.*)", line))]


@pytest.fixture(autouse=True)
def invoked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the verbs that would have run: each is found, its options are read, and it is not begun."""
    names: list[str] = []
    monkeypatch.setattr(TyperCommand, "invoke", lambda command, context: names.append(command.name), raising=False)
    return names


@pytest.mark.parametrize(("page", "line"), [(page.name, line) for page in PAGES for line in verbs_typed(page)])
def test_what_a_document_gives_to_type_is_understood(invoked: list[str], page: str, line: str):
    done = CliRunner().invoke(app, shlex.split(line))
    assert done.exit_code == 0, done.output
    assert len(invoked) == 1
    assert invoked[0] in line.split()[:2]


def test_the_pages_that_give_commands_are_looked_at():
    given = {page.name: len(verbs_typed(page)) for page in PAGES}
    assert given["operating.md"] >= 14
    assert given["learning.md"] >= 14


@pytest.mark.parametrize("line", ["simulate --rte 12", "rules suggest --stage pilot", "simulate --rate often", "rules activate"])
def test_what_the_command_line_does_not_know_is_found(invoked: list[str], line: str):
    assert CliRunner().invoke(app, shlex.split(line)).exit_code == 2
    assert invoked == []
