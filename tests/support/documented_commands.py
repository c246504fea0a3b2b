"""The command lines that documents give people to type, and what the tests make of each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHELLS = ("sh", "bash", "shell", "console", "")
"""Marks of a fenced block whose lines are typed."""
BY_MAKE = {
    "make run": "prioritizer serve --config config/demo.toml",
    "make demo": "prioritizer demo --config config/demo.toml",
    "make test": "python -m pytest",
}
"""A target of make, and the end of what it would do: run by tests/system, or this very run."""
INSTALLS = (
    "pip wheel --no-deps --wheel-dir . .",
    'python3 -m venv /opt/prioritizer && /opt/prioritizer/bin/pip install "$(ls prioritizer-*.whl)[postgres]"',
    "mkdir -p /etc/prioritizer",
    "/opt/prioritizer/bin/prioritizer init /etc/prioritizer/prioritizer.toml",
    "/opt/prioritizer/bin/prioritizer check --config /etc/prioritizer/prioritizer.toml",
)
"""In the order of the README; run below a folder in place of the root."""
NOT_RUN = {
    "cp systemd/prioritizer.service /etc/systemd/system/ && systemctl enable --now prioritizer": (
        "needs root and a running systemd; tests/system/test_service.py runs the unit's command and has systemd-analyze verify the unit"
    ),
}


def commands_of(text: str) -> list[str]:
    """The lines of every block of a page that is typed into a shell, without comments; a line that goes on is one with the next."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language in SHELLS:
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for each in lines if (line := re.sub(r"(^|\s+)#.*$", "", each).strip())]
    return found


def run_below(root: Path, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`, with `root` in place of /: nothing of the machine is touched, no answer is given to a question."""
    for place in ("/opt/", "/etc/"):
        command = re.sub(rf"(?<![\w.]){place}", f"{root}{place}", command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PRIORITIZER"))}
    environment |= {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", ""))),
        "PIP_CONSTRAINT": str(REPOSITORY / "constraints.txt"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
