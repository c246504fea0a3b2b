"""`guard.npz` of a bundle: arrays and nothing else. Its digest stands in the card, so it is verified before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prioritizer.scope.image_kind import Classifiers, ImageKind, Usual
from prioritizer.scope.layout_features import Layout
from prioritizer.scope.out_of_distribution import Guards, Likeness, Population

HALVED = ("population_directions", "kind_usual_directions")
"""Kept in half precision: they are most of the file."""
NUMBERS = ("middle", "limit", "furthest", "rest", "false_alarms")
Arrays = Mapping[str, NDArray[Any]]


def write(guards: Guards, target: Path) -> None:
    """The two guards as one file. What it says is what `read` gives back: call that for every figure told of the guards."""
    kind = guards.image_kind
    flat = {f"population_{name}": value for name, value in _parts(guards.population).items()}
    flat |= {f"kind_{name}": value for name, value in _parts(kind).items() if name in NUMBERS}
    flat |= {f"kind_classifiers_{name}": value for name, value in _parts(kind.classifiers).items()}
    flat |= {f"kind_usual_{name}": value for name, value in _parts(kind.usual).items()}
    arrays = {name: np.asarray(value) for name, value in flat.items()}
    np.savez_compressed(target, **{name: value.astype(np.float16) if name in HALVED else value for name, value in arrays.items()})  # type: ignore[arg-type]


def read(path: Path) -> Guards | Likeness:
    """The guards in a file; the one guard of a bundle made before there were two."""
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return _guards(found) if "kind_limit" in found else _one(found)


def _parts(one: object) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in fields(one)}  # type: ignore[arg-type]


def _guards(found: Arrays) -> Guards:
    kind = {name: float(found[f"kind_{name}"]) for name in ("middle", "limit", "furthest")}
    population = _below(found, "population_")
    return Guards(
        image_kind=ImageKind(
            classifiers=Classifiers(**_below(found, "kind_classifiers_")),
            usual=Usual(**_below(found, "kind_usual_")),
            **kind,
        ),
        population=Population(
            # Of a bundle made before groups were of one class: its sites.
            groups=tuple(str(group) for group in found.get("population_groups", found.get("population_sites", ()))),
            rest=float(found["population_rest"]),
            false_alarms=float(found["population_false_alarms"]),
            **{name: population[name] for name in ("centres", "spread", "directions", "variances", "limits")},
        ),
    )


def _below(found: Arrays, prefix: str) -> dict[str, NDArray[np.float32]]:
    """The arrays whose names begin so, float32, by the rest of their names; texts are left out."""
    numbers = {name: value for name, value in found.items() if value.dtype.kind == "f"}
    return {name[len(prefix) :]: value.astype(np.float32) for name, value in numbers.items() if name.startswith(prefix)}


def _one(found: Arrays) -> Likeness:
    whole = {name: value.astype(np.float32) for name, value in found.items()}
    inside, joined = (float(limit) for limit in found["limits"])
    outside, laid = ((float(mean), float(spread)) for mean, spread in found["usual"])
    return Likeness(
        **{name: whole[name] for name in ("centre", "spread", "directions", "variances")},
        layout=Layout(**{name: whole[f"layout_{name}"] for name in ("centre", "directions", "weights", "means", "roots")}),
        usual=(outside, laid),
        limits=(inside, joined),
        false_alarms=float(whole["false_alarms"]),
    )
