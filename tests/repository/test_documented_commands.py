"""Every command line that the README gives is run by a test, or listed with the reason why it is not."""

from __future__ import annotations

import os
import subprocess
from collections import Counter

import pytest

from tests.support.documented_commands import BY_MAKE, INSTALLS, NOT_RUN, REPOSITORY, commands_of

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def unaccounted(text: str) -> tuple[Counter[str], Counter[str]]:
    """What a page gives and no test runs or lists, and what tests run or list and the page does not give."""
    given, known = Counter(commands_of(text)), Counter([*BY_MAKE, *INSTALLS, *NOT_RUN])
    return given - known, known - given


def test_every_command_of_the_readme_is_run_or_listed_with_a_reason():
    """`INSTALLS` are run by test_wheel.py."""
    assert unaccounted(README) == (Counter(), Counter())
    assert all(NOT_RUN.values())
    assert [command for command in commands_of(README) if command in INSTALLS] == list(INSTALLS)


@pytest.mark.parametrize("block", ["```sh\nmake everything   # all of it\n```\n", "```\nmake \\\n everything\n```\n"])
def test_a_command_that_is_new_in_the_readme_is_missed(block: str):
    ((command, _),) = unaccounted(README + block)[0].items()
    assert command.split() == ["make", "everything"]


def test_a_command_that_the_readme_no_longer_gives_is_not_kept():
    assert unaccounted(README.replace("make demo ", "make show "))[1] == Counter(["make demo"])


@pytest.mark.parametrize("command", BY_MAKE)
def test_a_target_of_make_ends_with_its_program(command: str):
    own = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }  # these may be run by make
    done = subprocess.run([*command.split(), "-n"], cwd=REPOSITORY, env=own, capture_output=True, text=True, check=True)
    assert BY_MAKE[command] in done.stdout.splitlines()[-1]
