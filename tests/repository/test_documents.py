"""Documents say what the program does: they are compared with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from prioritizer.cli.app import app
from prioritizer.daemon import alarms
from prioritizer.dicom import conformance
from prioritizer.dicom.standard import contexts

ROOT = Path(__file__).resolve().parents[2]


def test_the_conformance_statement_is_the_one_this_version_writes() -> None:
    assert (ROOT / "docs" / "conformance.md").read_text() == conformance.statement()


def test_the_conformance_statement_names_every_class_and_syntax_that_is_accepted() -> None:
    text = conformance.statement()
    accepted = contexts.accepted_contexts([syntax.uid for syntax in contexts.TRANSFER_SYNTAXES])
    named = set(accepted) | {uid for syntaxes in accepted.values() for uid in syntaxes}
    assert {uid for uid in named if uid not in text} == set()


def verbs_of(group: typer.Typer, prefix: str = "") -> Iterator[str]:
    """Every verb of the command line that its help names, those of a named group with the name before them."""
    listed = [command for command in group.registered_commands if command.callback and not command.hidden]
    yield from (prefix + (command.name or command.callback.__name__) for command in listed)
    for inner in (inner for inner in group.registered_groups if inner.hidden is not True):
        assert inner.typer_instance is not None
        yield from verbs_of(inner.typer_instance, f"{prefix}{inner.name} " if isinstance(inner.name, str) else prefix)


def test_the_readme_names_every_verb() -> None:
    verbs = set(verbs_of(app))
    assert {"train", "data describe"} <= verbs
    readme = (ROOT / "README.md").read_text() + (ROOT / "docs" / "conformance.md").read_text()
    assert {verb for verb in verbs if f"`{verb}" not in readme and f"prioritizer {verb}" not in readme} == set()


def test_the_operating_page_names_every_alarm() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    assert {alarm for alarm in alarms.NAMES if f"`{alarm}`" not in text} == set()


def test_every_link_in_the_documents_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = [(page, target) for page in pages for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text())]
    missing = [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert missing == []


def test_the_exit_codes_of_the_readme_are_those_of_the_command_line() -> None:
    from prioritizer.cli.exit_codes import EXIT_CODES

    readme = (ROOT / "README.md").read_text()
    assert {code for _, code in EXIT_CODES} == {3, 4, 5, 6}
    for words in ("3 not found", "4 not allowed in this state", "5 the configuration has faults", "6 not available now"):
        assert words in " ".join(readme.split())


def test_every_error_code_has_a_line_in_the_error_page() -> None:
    from prioritizer import errors
    from prioritizer.inference.sandbox import ChildDied

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PrioritizerError)]
    codes = {kind.code for kind in (*kinds, ChildDied)} - {errors.PrioritizerError.code}
    text = (ROOT / "docs" / "errors.md").read_text()
    assert {code for code in codes | {"PRI-1002", "PRI-9999"} if code not in text} == set()


def test_the_map_of_the_code_names_every_folder_and_nothing_that_is_not_there() -> None:
    text, package = (ROOT / "docs" / "architecture.md").read_text(), ROOT / "prioritizer"
    named = {name for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py|[a-z_]+\.py)`", text) if not name.startswith("tests/")}
    assert {name for name in named if not (package / name).is_file()} == set()
    tree = text.split("## Folders")[1].split("##")[0]
    listed, above = set(), ""
    for line in tree.splitlines():
        if found := re.match(r"( +)([a-z_]+)/", line):
            above = above if len(found[1]) > 4 else found[2]
            listed.add(found[2] if len(found[1]) == 4 else f"{above}/{found[2]}")
    folders = {str(init.parent.relative_to(package)) for init in package.rglob("__init__.py")} - {"."}
    assert listed == folders


def test_every_picture_of_a_document_is_there_and_none_is_kept_that_no_document_shows() -> None:
    folder = ROOT / "docs" / "screenshots"
    shown = {
        name
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for name in re.findall(r"screenshots/([a-z-]+\.\w+)", page.read_text())
    }
    assert {path.name for path in folder.iterdir()} == shown
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
