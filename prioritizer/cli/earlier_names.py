"""Verbs by the names that they had before 0.2: they answer until 0.3, with a line that says the new name. Not listed in the help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from typing import ParamSpec

import typer

from prioritizer.cli.exit_codes import talk

P = ParamSpec("P")
ENDS_WITH = "0.3"
"""The release that no longer knows them."""


def renamed(old: str, new: str) -> None:
    """One line on standard error, so that what reads standard output goes on reading."""
    said = f"`prioritizer {old}` is called `prioritizer {new}` now; the earlier name ends with {ENDS_WITH}"
    talk.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)


def keep_verb(app: typer.Typer, old: str, new: str, command: Callable[P, None]) -> None:
    """`old` does what `new` does."""

    @wraps(command)
    def earlier(*args: P.args, **kwargs: P.kwargs) -> None:
        renamed(old, new)
        command(*args, **kwargs)

    app.command(old, hidden=True)(earlier)


def keep_group(app: typer.Typer, old: str, new: str, group: typer.Typer, verbs: Mapping[str, str]) -> None:
    """`old VERB` does what `new VERB` does, for every verb that the group has now; `verbs`: earlier names of some of them."""

    def say_new_name(context: typer.Context) -> None:
        asked = context.invoked_subcommand or ""
        renamed(f"{old} {asked}".strip(), f"{new} {verbs.get(asked, asked)}".strip())

    said = f"Called `prioritizer {new}` now; the earlier name ends with {ENDS_WITH}."
    earlier = typer.Typer(no_args_is_help=True, callback=say_new_name, help=said)
    earlier.registered_commands = [copy(command) for command in group.registered_commands]
    now = {command.name or getattr(command.callback, "__name__", ""): command for command in group.registered_commands}
    for name, verb in verbs.items():
        command = copy(now[verb])
        command.name, command.hidden = name, True
        earlier.registered_commands.append(command)
    app.add_typer(earlier, name=old, hidden=True)
