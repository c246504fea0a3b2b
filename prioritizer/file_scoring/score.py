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

from prioritizer.calibration.maps import Calibration
from prioritizer.config.settings import Settings
from prioritizer.daemon.without_ledger import NO_LEDGER, in_force_at
from prioritizer.db.in_force import local_calibration
from prioritizer.db.in_force.calibration import PolicyInForce
from prioritizer.dicom.read import sandboxed
from prioritizer.errors import ConfigError, NotFound, Unprocessable
from prioritizer.file_scoring.raster import file_display
from prioritizer.file_scoring.score_one import look_at
from prioritizer.imaging.heatmap import overlay_picture
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.inference.sandbox import ChildDied, Sandbox
from prioritizer.learning.cohorts.labels import is_picture
from prioritizer.ranking import deadlines
from prioritizer.ranking.deadlines import Standing
from prioritizer.study import AIState

MAX_DISTANCE = 1e6


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
    image_kind: float | None = None
    """Above 1 the guard refuses it as no frontal chest radiograph; None where the file was not drawn, or is out of scope by its header."""
    out_of_distribution: float | None = None
    """Above 1 it is of another population or device than the training data."""


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
    bundle_selftest.prove(engine)
    limit = settings.model.decode_memory_mib << 20
    sandbox = Sandbox(1, memory_bytes=limit, prepare=sandboxed.warm_up)
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
        for name in ("image_kind", "out_of_distribution"):
            # JSON has no infinity.
            told[name] = None if told[name] is None else min(told[name], MAX_DISTANCE)
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
    rules: PolicyInForce,
    engine: Engine,
    sandbox: Sandbox,
    settings: Settings,
    *,
    ignore_scope: bool,
    overlay: Path | None,
) -> Answer:
    calibration = rules.calibration or bundle.calibration
    look = look_at(
        file,
        bundle,
        engine,
        sandbox,
        settings,
        is_picture=is_picture(file),
        ignore_scope=ignore_scope,
        local_limit=local_calibration.of(rules).limit,
    )
    kind, population = (None, None) if look.figures is None else (look.figures.image_kind, look.figures.out_of_distribution)
    if look.outputs is None:
        return Answer(file=str(file), state="not_scored", reason=look.reason, image_kind=kind, out_of_distribution=population)
    outputs, warnings = look.outputs, look.warnings
    if overlay is not None:
        show = file_display if is_picture(file) else sandboxed.display_picture
        try:
            display = sandbox.run(show, settings.model.decode_timeout_s, file)
        except (Unprocessable, ChildDied) as error:
            return Answer(file=str(file), state="not_scored", reason=f"unreadable: {error}")
        _write_overlay(overlay, display, outputs.saliency[0], bundle, calibration.for_age(look.age_years))
    logit = float(outputs.logit[0])
    calibration = calibration.for_age(look.age_years)
    probability = calibration.probability(logit)
    standing = Standing(
        study_uid="", first_received_at=datetime.now(UTC), ai_state=AIState.SCORED, risk=probability, age_years=look.age_years
    )
    band = deadlines.band_of(standing, rules.policy.ranking)
    return Answer(
        file=str(file), state="scored", logit=logit, probability=probability, band=str(band), warnings=warnings, calibration=calibration.id,
        image_kind=kind, out_of_distribution=population,
    )  # fmt: skip


def _write_overlay(
    target: Path, picture: NDArray[np.uint8], saliency: NDArray[np.float32], bundle: Bundle, calibration: Calibration
) -> None:
    lines = [bundle.title, f"bundle {bundle.name} {bundle.digest[:12]}", f"calibration {calibration.id}"]
    padded = bundle.preprocessing.resize == "pad"
    Image.fromarray(overlay_picture(picture, saliency, bundle.saliency_scale, lines, padded=padded)).save(target)
