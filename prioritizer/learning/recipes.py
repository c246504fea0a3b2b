"""A training recipe: one TOML file, one frozen dataclass, every field with unit and reason."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from prioritizer.errors import ConfigError
from prioritizer.pixels import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained. Rates are per step, angles in degrees, shifts as a share of the side."""

    architecture: str = "densenet121"
    """Any timm name that ends in global average pooling and one linear layer."""
    seed: int = 20261122
    epochs: int = 10
    """Fixed beforehand: nothing is selected on a split that is reported."""
    batch_size: int = 32
    """Images a step."""
    learning_rate: float = 1e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-2
    rotation: float = 5.0
    """Degrees, either way."""
    shift: float = 0.05
    """Share of the side, either way."""
    scale: float = 0.08
    """Share, either way."""
    brightness: float = 0.15
    """Added to the picture (0..1), either way."""
    contrast: float = 0.2
    """Share, either way, about mid-grey."""
    size: int = 224
    resize: str = "squash"
    mean: float = 0.5
    std: float = 0.25

    @property
    def preprocessing(self) -> Preprocessing:
        """What the network will be fed, in training and in service."""
        return Preprocessing(
            id=f"grey-{self.resize}-{self.size}-v1",
            size=self.size,
            resize=self.resize,
            mean=(self.mean,) * 3,
            std=(self.std,) * 3,
        )


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file; an unknown key or a wrong type is an error that names the nearest key."""
    known: dict[str, type] = {field.name: type(field.default) for field in fields(Recipe)}
    faults, values = [], {}
    for key, value in tomllib.loads(path.read_text(encoding="utf-8")).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            faults.append(f"{path}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        elif not isinstance(value, known[key]) and not (known[key] is float and isinstance(value, int)):
            faults.append(f"{path}: {key} must be {known[key].__name__}, not {type(value).__name__}")
        else:
            values[key] = known[key](value)
    if faults:
        raise ConfigError(tuple(faults))
    return Recipe(**values)
