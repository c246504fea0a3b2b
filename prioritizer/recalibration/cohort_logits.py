"""Logits of a cohort through the serving engine and the sandboxed decoder, kept so that a second look costs nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer.config.settings import Settings
from prioritizer.dicom.read import sandboxed
from prioritizer.errors import Unprocessable
from prioritizer.file_scoring.raster import file_picture
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import Bundle, sha256_of
from prioritizer.inference.engine import Engine
from prioritizer.inference.sandbox import ChildDied, Sandbox
from prioritizer.learning.cohorts.labels import is_picture
from prioritizer.scope.out_of_distribution import Figures

THUMBNAIL = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAnswer:
    """What the network said of one file, and a thumbnail by which copies of it are found."""

    sha256: str
    logit: float
    figures: Figures
    """What the bundle's guard says of it."""
    thumbnail: NDArray[np.uint8]
    """Shape (32, 32)."""


class Cache:
    """One JSON line a file, named by bundle, preprocessing and precision; a broken line is a file to be looked at again."""

    def __init__(self, folder: Path, bundle: Bundle, precision: str) -> None:
        self._file = folder / f"logits-{bundle.digest[:16]}-{bundle.preprocessing.id}-{precision}.jsonl"
        self._seen = dict(_read_lines(self._file))

    def get(self, sha256: str) -> NetworkAnswer | None:
        """What is known of the file with these bytes."""
        return self._seen.get(sha256)

    def keep(self, seen: NetworkAnswer) -> None:
        """Know it the next time too."""
        self._seen[seen.sha256] = seen
        self._file.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "sha256": seen.sha256,
            "logit": seen.logit,
            **asdict(seen.figures),
            "thumbnail": base64.b64encode(seen.thumbnail.tobytes()).decode("ascii"),
        }
        with self._file.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")


def _read_lines(file: Path) -> Iterable[tuple[str, NetworkAnswer]]:
    for line in file.read_text(encoding="ascii", errors="replace").splitlines() if file.is_file() else []:
        try:
            told = json.loads(line)
            cells = np.frombuffer(base64.b64decode(told["thumbnail"]), dtype=np.uint8).reshape(THUMBNAIL, THUMBNAIL)
            figures = Figures(**{name: told[name] for name in Figures.__dataclass_fields__})
            yield told["sha256"], NetworkAnswer(sha256=told["sha256"], logit=float(told["logit"]), figures=figures, thumbnail=cells)
        except (ValueError, KeyError, TypeError):
            continue


class Looking:
    """Looks at files one by one; the engine is built and proved when the first file is not in the cache."""

    def __init__(self, bundle: Bundle, settings: Settings, cache: Cache) -> None:
        self._bundle, self._settings, self._cache = bundle, settings, cache
        self._engine: Engine | None = None
        self._sandbox: Sandbox | None = None

    def look(self, file: Path) -> NetworkAnswer:
        """The file's logit and thumbnail. Raises Unprocessable or ChildDied when its pixels cannot be read."""
        try:
            digest = sha256_of(file)
        except OSError as error:
            raise Unprocessable("file", f"the file cannot be opened ({error.strerror})") from error
        known = self._cache.get(digest)
        if known is not None:
            return known
        engine, sandbox = self._ready()
        task = file_picture if is_picture(file) else sandboxed.model_picture
        picture = sandbox.run(task, self._settings.model.decode_timeout_s, file, self._bundle.preprocessing)
        outputs = engine.score(picture)
        logit = float(outputs.logit[0])
        if not np.isfinite(logit):
            raise Unprocessable("logit", f"the network answered {logit}")
        seen = NetworkAnswer(sha256=digest, logit=logit, figures=outputs.figures, thumbnail=thumbnail_of(picture))
        self._cache.keep(seen)
        return seen

    def _ready(self) -> tuple[Engine, Sandbox]:
        if self._engine is None or self._sandbox is None:
            model = self._settings.model
            self._engine = Engine(self._bundle, precision=model.precision, threads=model.threads)
            bundle_selftest.prove(self._engine)
            self._sandbox = Sandbox(1, memory_bytes=model.decode_memory_mib << 20, prepare=sandboxed.warm_up)
        return self._engine, self._sandbox

    def close(self) -> None:
        """Stop the sandbox."""
        if self._sandbox is not None:
            self._sandbox.close()


def thumbnail_of(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture float32 (S, S), 0..1, as uint8 (32, 32): means of its cells."""
    edges = np.linspace(0, len(picture), THUMBNAIL + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(picture, edges, axis=0), edges, axis=1)
    sizes = np.diff(np.append(edges, len(picture)))
    return np.asarray(np.rint(255 * np.clip(sums / np.outer(sizes, sizes), 0, 1)), dtype=np.uint8)


UNREADABLE = (Unprocessable, ChildDied)
