"""`prioritizer score`: files to probabilities without a daemon, through the same pixels, scope, engine and calibration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from prioritizer import eligibility, pixels, ranking
from prioritizer.applying import NO_LEDGER, in_force_at
from prioritizer.calibration import Calibration
from prioritizer.config import Settings
from prioritizer.db.in_force import InForce
from prioritizer.dicom import develop
from prioritizer.dicom.attributes import instance_of_file
from prioritizer.eligibility import Finding, Rules, Strictness, Verdict
from prioritizer.errors import ConfigError, NotFound, Unprocessable
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.inference.sandbox import ChildDied, Sandbox
from prioritizer.learning.pictures import UNREADABLE, grey_of
from prioritizer.overlay import overlay_picture
from prioritizer.ranking import Standing
from prioritizer.stations import rules_of
from prioritizer.study import AIState

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
NO_HEADER = Finding(rule="no-header", sentence="a picture file states neither age nor view; --ignore-scope scores it for evaluation")
ALL_OFF = Rules(**dict.fromkeys(Rules.__dataclass_fields__, Strictness.OFF))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is printed of one file."""

    file: str
    state: str
    """`scored` or `not_scored`."""
    calibration: str | None = None
    """The id of the calibration that made the probability."""
    reason: str = ""
    logit: float | None = None
    probability: float | None = None
    band: str | None = None
    warnings: tuple[str, ...] = ()


def score_files(
    paths: list[Path],
    settings: Settings,
    *,
    overlay: Path | None,
    ignore_scope: bool,
    as_json: bool,
    out: Console,
    talk: Console,
) -> int:
    """Score every file and print an answer each; returns how many could not be read at all."""
    files = list(files_of(paths))
    if overlay is not None and len(files) != 1:
        raise ConfigError((f"--overlay writes one picture; {len(files)} files were given",))
    bundle = open_bundle(settings.model.bundle)
    rules, why_own = in_force_at(settings, bundle)
    if why_own and why_own != NO_LEDGER:
        talk.print(f"with the bundle's own calibration: {why_own}", markup=False, highlight=False, soft_wrap=True)
    engine = Engine(bundle, precision=settings.model.precision, threads=settings.model.threads)
    engine.prove()
    limit = settings.model.decode_memory_mib << 20
    sandbox = Sandbox(1, memory_bytes=limit, prepare=develop.warm_up)
    unread = 0
    try:
        one_by_one = track(files, description="scoring", console=talk, disable=len(files) < 10, transient=True)
        for file in one_by_one:
            answer = _score_one(file, bundle, rules, engine, sandbox, settings, ignore_scope=ignore_scope, overlay=overlay)
            unread += answer.state == "not_scored" and answer.reason.startswith("unreadable")
            _print(answer, as_json, out)
    finally:
        sandbox.close()
    return unread


def files_of(paths: list[Path]) -> Iterator[Path]:
    """The files themselves, and every file below the folders, in name order."""
    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file())
        elif path.is_file():
            yield path
        else:
            raise NotFound(f"{path}: no such file or folder")


def _print(answer: Answer, as_json: bool, out: Console) -> None:
    if as_json:
        told: dict[str, Any] = {name: getattr(answer, name) for name in Answer.__dataclass_fields__}
        print(json.dumps(told), flush=True)
        return
    if answer.state == "scored":
        warned = f"  ({'; '.join(answer.warnings)})" if answer.warnings else ""
        said = f"{answer.file}: probability {answer.probability:.4f}, logit {answer.logit:+.4f}, band {answer.band}{warned}"
    else:
        said = f"{answer.file}: not scored: {answer.reason}"
    out.print(said, markup=False, highlight=False, soft_wrap=True)


def _score_one(
    file: Path,
    bundle: Bundle,
    rules: InForce,
    engine: Engine,
    sandbox: Sandbox,
    settings: Settings,
    *,
    ignore_scope: bool,
    overlay: Path | None,
) -> Answer:
    is_picture = file.suffix.lower() in PICTURE_SUFFIXES
    calibration = rules.calibration or bundle.calibration
    timeout = settings.model.decode_timeout_s
    try:
        reason, warnings = _scope(file, bundle, settings, is_picture=is_picture, ignore_scope=ignore_scope)
        if reason:
            return Answer(file=str(file), state="not_scored", reason=reason)
        task = file_picture if is_picture else develop.model_picture
        outputs = engine.score_picture(sandbox.run(task, timeout, file, bundle.preprocessing))
        unlike = eligibility.with_likeness(
            Verdict(reason=None), float(outputs.distance[0]), ALL_OFF if ignore_scope else rules_of(settings)
        )
        if unlike.reason is not None:
            return Answer(file=str(file), state="not_scored", reason=unlike.reason.sentence)
        warnings = (*warnings, *unlike.warnings)
        if overlay is not None:
            show = file_display if is_picture else develop.display_picture
            _write_overlay(overlay, sandbox.run(show, timeout, file), outputs.saliency[0], bundle, calibration)
    except (Unprocessable, ChildDied) as error:
        return Answer(file=str(file), state="not_scored", reason=f"unreadable: {error}")
    logit = float(outputs.logit[0])
    probability = calibration.probability(logit)
    standing = Standing(study_uid="", first_received_at=datetime.now(UTC), ai_state=AIState.SCORED, risk=probability)
    band = ranking.band_of(standing, rules.policy)
    return Answer(
        file=str(file), state="scored", logit=logit, probability=probability, band=str(band), warnings=warnings, calibration=calibration.id
    )


def _scope(file: Path, bundle: Bundle, settings: Settings, *, is_picture: bool, ignore_scope: bool) -> tuple[str, tuple[str, ...]]:
    """The reason why the file is out of scope, or empty, and the warnings."""
    if is_picture:
        return ("" if ignore_scope else NO_HEADER.sentence), ("scope not checked",)
    rules = ALL_OFF if ignore_scope else rules_of(settings)
    verdict = eligibility.judge(instance_of_file(file), bundle.scope, rules, scores_secondary_capture=True)
    if verdict.reason is not None and not (ignore_scope and verdict.reason.rule == "object-class"):
        return verdict.reason.sentence, ()
    return "", (*verdict.warnings, "scope not checked") if ignore_scope else verdict.warnings


def _write_overlay(
    target: Path, picture: NDArray[np.uint8], saliency: NDArray[np.float32], bundle: Bundle, calibration: Calibration
) -> None:
    lines = [bundle.title, f"bundle {bundle.name} {bundle.digest[:12]}", f"calibration {calibration.id}"]
    padded = bundle.preprocessing.resize == "pad"
    Image.fromarray(overlay_picture(picture, saliency, bundle.saliency_scale, lines, padded=padded)).save(target)


def _grey(file: Path) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], pixels.GreyScale]:
    """The grey values of a picture file as training reads them. Raises Unprocessable."""
    try:
        with Image.open(file) as opened:
            return grey_of(opened)
    except UNREADABLE as error:
        raise Unprocessable("picture", "it is no readable PNG or JPEG") from error


def file_picture(file: Path, spec: pixels.Preprocessing) -> NDArray[np.float32]:
    """What the network sees of a picture file: float32 (size, size), 0..1. Runs in the sandbox."""
    return pixels.square_picture(*_grey(file), spec)


def file_display(file: Path) -> NDArray[np.uint8]:
    """What people see of a picture file: uint8 (rows, columns). Runs in the sandbox."""
    return pixels.display_picture(*_grey(file), develop.DISPLAY_SIDE)
