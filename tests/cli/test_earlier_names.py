"""Verbs by the names that they had before 0.2 do what they did, say the new name, and are gone with 0.3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from prioritizer import __version__
from prioritizer.cli.app import app
from prioritizer.cli.earlier_names import ENDS_WITH

RENAMED = {
    ("say", "1.2.3", "present"): "finding",
    ("read", "1.2.3"): "mark-read",
    ("board",): "dashboard",
    ("rules", "show"): "overrides",
    ("rules", "back"): "overrides",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with a ledger that holds nothing."""
    folder = tmp_path_factory.mktemp("site")
    file = folder / "prioritizer.toml"
    file.write_text(f'[store]\ndata = "{folder / "data"}"\n')
    assert run("migrate", config=file).exit_code == 0
    return file


def run(*arguments: str, config: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)], env={"COLUMNS": "200"})


@pytest.mark.parametrize("arguments", RENAMED)
def test_an_earlier_name_does_the_same_and_says_the_new_one_on_standard_error(arguments: tuple[str, ...], config: Path):
    new = RENAMED[arguments]
    rest = tuple("rollback" if one == "back" else one for one in arguments[1:])
    earlier, now = run(*arguments, config=config), run(new, *rest, config=config)
    assert (earlier.exit_code, earlier.stdout) == (now.exit_code, now.stdout)
    group = arguments[0] == "rules"
    old, called = (" ".join(arguments), " ".join((new, *rest))) if group else (arguments[0], new)
    said = f"`prioritizer {old}` is called `prioritizer {called}` now; the earlier name ends with {ENDS_WITH}"
    assert said in earlier.stderr
    assert said not in now.stderr


def test_the_help_of_an_earlier_group_says_the_new_name_and_lists_the_verbs_of_now():
    text = CliRunner().invoke(app, ["rules", "--help"], env={"COLUMNS": "200"}).stdout
    assert "Called `prioritizer overrides` now" in text
    assert "rollback" in text
    assert "│ back " not in text


def test_what_reads_json_of_an_earlier_name_goes_on_reading(config: Path):
    assert json.loads(run("rules", "show", "--json", config=config).stdout)
    assert json.loads(run("board", "--json", config=config).stdout)


def test_the_help_names_the_verbs_of_now_alone():
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    named = {line.split()[1] for line in text.splitlines() if line.startswith("│ ") and len(line.split()) > 1}
    assert named >= {"finding", "mark-read", "dashboard", "overrides"}
    assert not named & {"say", "read", "board", "rules"}


def test_earlier_names_are_gone_with_the_release_that_was_named():
    now, end = ([int(part) for part in version.split(".")[:2]] for version in (__version__, ENDS_WITH))
    assert now < end, "remove cli/earlier_names.py and what uses it"
