"""`train --set key=value`: what can be changed, and what is said where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prioritizer.errors import ConfigError
from prioritizer.learning.training.recipe_listing import keys_of, purpose_of
from prioritizer.learning.training.recipes import find_recipe, shipped_names


def test_keys_tables_and_phases_can_be_changed() -> None:
    found = find_recipe("two-phase", ["seed=7", "augment.flip = 0.5", "phases.2.epochs=3", "architecture=tf_efficientnet_lite0"])
    assert (found.seed, found.augment.flip, found.architecture) == (7, 0.5, "tf_efficientnet_lite0")
    assert [phase.epochs for phase in found.phases] == [5, 3]
    assert found.augment.rotation == find_recipe("two-phase").augment.rotation


def test_a_table_that_the_file_does_not_have_is_made(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('architecture = "densenet121"\n')
    assert find_recipe(str(tmp_path / "r.toml"), ["picture.size=64"]).picture.size == 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed", "give key=value"),
        ("=3", "give key=value"),
        ("phases.3.epochs=1", "nothing stands at 3; there are 2, the first is 1"),
        ("phases.0.epochs=1", "nothing stands at 0"),
        ("seed.x=1", "nothing stands at x|holds no keys"),
        ("sede=1", "did you mean 'seed'"),
        ("batch_size=none", "batch_size: Input should be a valid integer"),
        ("lung_loss=-1", "lung_loss: Input should be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_changed_is_said(tmp_path: Path, change: str, said: str) -> None:
    (tmp_path / "r.toml").write_text(
        "seed = 1\n[[phases]]\nepochs = 1\nlearning_rate = 1e-3\n[[phases]]\nepochs = 1\nlearning_rate = 1e-3\n"
    )
    with pytest.raises(ConfigError, match=said):
        find_recipe(str(tmp_path / "r.toml"), [change])


def test_every_key_of_every_recipe_has_a_meaning_and_is_taken_by_set() -> None:
    for name in shipped_names():
        assert purpose_of(name)
        found = find_recipe(name)
        for key in keys_of(found):
            assert key.meaning, key.name
            if isinstance(key.value, int | float | str):
                text = str(key.value).lower() if isinstance(key.value, bool) else json.dumps(key.value)
                assert find_recipe(name, [f"{key.name}={text}"]) == found


def test_the_recipes_are_listed_and_shown_by_verbs() -> None:
    from typer.testing import CliRunner

    from prioritizer.cli.app import app

    listed = CliRunner().invoke(app, ["recipes", "list", "--json"])
    assert {one["name"] for one in json.loads(listed.stdout)["recipes"]} == set(shipped_names())
    shown = CliRunner().invoke(app, ["recipes", "show", "two-phase", "--set", "phases.2.epochs=3"])
    assert "phases.2.epochs = 3  (no default)" in shown.stdout
    assert "seed = 20261122  (the default)" in shown.stdout
    assert "batch_size = 32" in CliRunner().invoke(app, ["recipes", "show", "plain"]).stdout
