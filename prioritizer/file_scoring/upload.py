"""Trying a file on the page: scored by what is in force now, shown once, kept nowhere and ranked nowhere."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from prioritizer.calibration.maps import Calibration
from prioritizer.calibration.operating_point import Trade
from prioritizer.config.settings import Settings
from prioritizer.db.in_force.local_calibration import Local
from prioritizer.dicom.read import sandboxed
from prioritizer.errors import Transient, Unprocessable
from prioritizer.file_result import Point, Tried
from prioritizer.file_scoring.raster import begins_as_picture, file_film
from prioritizer.file_scoring.score_one import Network, look_at
from prioritizer.imaging.display import Shown
from prioritizer.inference.bundle import Bundle
from prioritizer.inference.sandbox import ChildDied, Sandbox

AT_ONCE = 1
"""Files looked at together: trying must never make patients' films wait."""
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTrial:
    """Where files are tried."""

    bundle: Bundle
    network: Network
    sandbox: Sandbox
    settings: Callable[[], Settings]
    calibration: Callable[[], Calibration]
    local: Callable[[], Local]
    """What the site's own calibration makes of an image that is unlike the training data."""
    folder: Path
    turn: threading.Semaphore

    def __call__(self, data: bytes, *, ignore_scope: bool) -> Tried:
        """What AI makes of a file: DICOM, PNG or JPEG. Raises Transient where others are before, Unprocessable where it cannot be read."""
        if not self.turn.acquire(timeout=PATIENCE_S):
            raise Transient("another file is being tried; try again in a moment")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                file = Path(folder) / "file"
                file.write_bytes(data)
                return self._tried(file, is_picture=begins_as_picture(data), ignore_scope=ignore_scope)
        finally:
            self.turn.release()

    def _tried(self, file: Path, *, is_picture: bool, ignore_scope: bool) -> Tried:
        settings = self.settings()
        look = look_at(
            file,
            self.bundle,
            self.network,
            self.sandbox,
            settings,
            is_picture=is_picture,
            ignore_scope=ignore_scope or is_picture,
            ask_guard=not ignore_scope,
            local_limit=self.local().limit,
        )
        if look.unreadable:
            raise Unprocessable("pixels", look.reason)
        try:
            film = self.sandbox.run(file_film if is_picture else sandboxed.film_png, settings.model.decode_timeout_s, file)
        except ChildDied as error:
            raise Unprocessable("pixels", "the image could not be read within the limits of the site") from error
        whole = self.calibration()
        calibration = whole.for_age(look.age_years)
        group = str(whole.group_of(look.age_years)) if whole.groups else ""
        points = trade_points(self.bundle, calibration, group)
        so_far = Tried(film=film, display=windowed(film), t_high=calibration.t_high, points=points)
        if look.outputs is None:
            return replace(so_far, reason=look.reason)
        return replace(
            so_far,
            warnings=look.warnings,
            probability=calibration.probability(float(look.outputs.logit[0])),
            finding=calibration.finding,
            saliency=look.outputs.saliency[0].astype("<f4").tobytes(),
            calibration=calibration.id,
            bundle=f"{self.bundle.name} {self.bundle.digest[:12]}",
        )


def windowed(film: Shown) -> bytes:
    """A film in its own window: PNG, 8 bits. It is our own picture, made in the sandbox."""
    with Image.open(BytesIO(film.png)) as opened:
        packed = np.asarray(opened).astype(np.uint16)
    tones = ((packed[:, :, 0] << 8) | packed[:, :, 1]) / np.float32(65535)
    shares = ((tones - film.low) / max(film.high - film.low, 1e-4)).clip(0.0, 1.0)
    data = BytesIO()
    Image.fromarray(np.rint(shares * 255.0).astype(np.uint8)).save(data, "PNG", compress_level=1)
    return data.getvalue()


def trade_of(bundle: Bundle, group: str = "") -> Trade | None:
    """What the card says of every threshold on its report films, those of an age group where it has a map; None where it says nothing."""
    table = bundle.card.get("trade_on_val_report", {})
    table = table.get(group, {}) if group else table
    if "logit" not in table:
        return None
    return Trade(**{name: np.array(table[name], dtype=np.float64) for name in ("logit", "sensitivity", "specificity")})


def trade_points(bundle: Bundle, calibration: Calibration, group: str = "") -> tuple[Point, ...]:
    """What thresholds would have given on the films the bundle was reported on, by the probability each has here; the one in force too.

    `calibration` is the map for the age group, where there are two.
    """
    trade = trade_of(bundle, group)
    if trade is None:
        return ()
    now = calibration.logit_at(calibration.t_high)
    found = []
    for logit in sorted({*trade.logit.tolist(), now}):
        sensitivity, specificity = trade.at(logit)
        threshold = calibration.t_high if logit == now else calibration.probability(logit)
        found.append(Point(threshold=threshold, sensitivity=sensitivity, specificity=specificity))
    return tuple(found)


def trial_room(settings: Settings) -> Path:
    """Where a file lies while it is looked at. What a killed process left there is deleted."""
    folder = settings.store.data / "tried"
    shutil.rmtree(folder, ignore_errors=True)
    return folder
