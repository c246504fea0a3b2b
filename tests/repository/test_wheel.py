"""The built wheel in an empty environment outside the checkout: it serves, and holds no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.documented_commands import INSTALLS, run_below

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the environment's programs, made by the lines of the README in a copy of what a release holds."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in (
        "pyproject.toml",
        *tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]["include"],
    ):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, checkout / name)
    for command in INSTALLS[:2]:
        done = run_below(folder, command, checkout)
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(checkout.glob("prioritizer-*.whl"))
    return folder / "opt" / "prioritizer" / "bin"


def run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PRIORITIZER"))}
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_make_a_site_that_check_proves(installed: Path, tmp_path: Path) -> None:
    root = installed.parents[2]
    done = [run_below(root, command, tmp_path) for command in INSTALLS[2:]]
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    written = tomllib.loads((root / "etc" / "prioritizer" / "prioritizer.toml").read_text())
    assert written["listener"]["ae_title"] == "PRIORITIZER"
    assert "self-test" in done[-1].stdout


@pytest.mark.timeout(600)
def test_the_wheel_carries_bundle_template_and_migrations_and_proves_itself(installed: Path, tmp_path: Path) -> None:
    told = run(installed / "prioritizer", "check", "--json", cwd=tmp_path)
    proofs = {proof["what"]: proof for proof in json.loads(told.stdout)}
    assert told.returncode == 0, told.stdout + told.stderr
    assert proofs["self-test"]["ok"]
    assert run(installed / "prioritizer", "migrate", cwd=tmp_path).returncode == 0
    assert run(installed / "prioritizer", "worklist", "--json", cwd=tmp_path).stdout.strip() == "[]"


@pytest.mark.timeout(600)
def test_the_serving_install_holds_no_torch(installed: Path, tmp_path: Path) -> None:
    told = run(
        installed / "python",
        "-c",
        "import importlib.util as u; print(*(u.find_spec(name) is None for name in ('torch', 'timm', 'psycopg')))",
        cwd=tmp_path,
    )
    assert told.stdout.split() == ["True", "True", "False"], "no torch; psycopg as the README's line asks for it"


@pytest.mark.timeout(600)
def test_train_in_a_serving_install_says_what_is_missing(installed: Path, tmp_path: Path) -> None:
    told = run(installed / "prioritizer", "train", str(tmp_path / "run"), "--data", str(tmp_path), cwd=tmp_path)
    assert told.returncode == 5
    assert "prioritizer[train]" in told.stderr


@pytest.mark.timeout(600)
def test_a_physicist_simulates_and_recalibrates_in_a_serving_install(installed: Path, tmp_path: Path) -> None:
    point = ("--rate", "6", "--sensitivity", "0.9", "--specificity", "0.9", "--days", "2", "--replications", "2")
    simulated = run(installed / "prioritizer", "simulate", *point, "--report", "room.html", cwd=tmp_path)
    assert simulated.returncode == 0, simulated.stderr
    assert "<svg" in (tmp_path / "room.html").read_text()
    assert run(installed / "prioritizer", "migrate", cwd=tmp_path).returncode == 0
    shifted = run(installed / "prioritizer", "recalibrate", "--prevalence", "0.2", "--ages", "children", "--json", cwd=tmp_path)
    assert "not installed" not in shifted.stderr
    assert '"candidate"' in shifted.stdout or '"id"' in shifted.stdout, shifted.stdout + shifted.stderr
