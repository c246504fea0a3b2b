"""One file that is no part of any study: in scope or not, what the network says of it. For `score` and for trying a file on the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prioritizer.config.policy import rules_of
from prioritizer.config.settings import Settings
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.read.attributes import instance_of_file
from prioritizer.errors import Unprocessable
from prioritizer.file_scoring.raster import file_input
from prioritizer.inference.bundle import Bundle
from prioritizer.inference.engine import Outputs
from prioritizer.inference.sandbox import ChildDied, Sandbox
from prioritizer.scope import guard_rules, header_rules
from prioritizer.scope.out_of_distribution import Figures
from prioritizer.scope.verdict import NO_RULES, ScopeFinding, ScopeRules, ScopeVerdict

NO_HEADER = ScopeFinding(rule="no-header", sentence="a picture file states neither age nor view; --ignore-scope scores it for evaluation")
UNCHECKED = "scope not checked"


class Network(Protocol):
    """An engine, in this process or in a child."""

    def score(self, picture: NDArray[np.float32]) -> Outputs:
        """What the network says of one picture float32 (S, S), 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileScore:
    """What came of one file. Without `outputs`, `reason` says why."""

    reason: str = ""
    warnings: tuple[str, ...] = ()
    outputs: Outputs | None = None
    unreadable: bool = False
    age_years: float | None = None
    """Of the patient, as far as the file says: which map of the calibration is asked hangs on it."""
    figures: Figures | None = None
    """What the guard says of the picture; None where it never came to that."""


def look_at(
    file: Path,
    bundle: Bundle,
    network: Network,
    sandbox: Sandbox,
    settings: Settings,
    *,
    is_picture: bool,
    ignore_scope: bool,
    ask_guard: bool | None = None,
    local_limit: float | None = None,
) -> FileScore:
    """Judge the scope, let the network see the file, ask the guard. A picture file has no header: it needs `ignore_scope`.

    The guard is asked where the scope is not ignored, or where `ask_guard` says; `local_limit` is that of the calibration in force.
    """
    rules = NO_RULES if ignore_scope else rules_of(settings)
    try:
        verdict, age = _scope(file, bundle, rules, is_picture=is_picture, ignore_scope=ignore_scope)
        if verdict.reason is not None:
            return FileScore(reason=verdict.reason.sentence)
        task = file_input if is_picture else sandboxed.model_input
        seen = sandbox.run(task, settings.model.decode_timeout_s, file, bundle.preprocessing)
        outputs = network.score(seen.picture)
    except (Unprocessable, ChildDied) as error:
        return FileScore(reason=f"unreadable: {error}", unreadable=True)
    guarded = rules_of(settings) if ask_guard else NO_RULES if ask_guard is False else rules
    verdict = guard_rules.with_drawing(verdict, seen.warnings)
    judged = guard_rules.with_guard(verdict, outputs.figures, guarded, local_limit=local_limit)
    if judged.reason is not None:
        return FileScore(reason=judged.reason.sentence, figures=outputs.figures, age_years=age)
    return FileScore(warnings=judged.warnings, outputs=outputs, figures=outputs.figures, age_years=age)


def _scope(file: Path, bundle: Bundle, rules: ScopeRules, *, is_picture: bool, ignore_scope: bool) -> tuple[ScopeVerdict, float | None]:
    """Whether the file is in scope, with the warnings, and the patient's age; where the scope is ignored, that is one of them."""
    if is_picture:
        return ScopeVerdict(reason=None if ignore_scope else NO_HEADER, warnings=(UNCHECKED,)), None
    instance = instance_of_file(file)
    verdict = header_rules.judge(instance, bundle.scope, rules, scores_secondary_capture=True, scores_for_processing=ignore_scope)
    if not ignore_scope:
        return verdict, instance.age_years
    if verdict.reason is not None and verdict.reason.rule == "object-class":
        verdict = ScopeVerdict(reason=None, warnings=instance.rendering_warnings, doubts=instance.rendering_warnings)
    return replace(verdict, warnings=(*verdict.warnings, UNCHECKED)), instance.age_years
