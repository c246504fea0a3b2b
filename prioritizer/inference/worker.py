"""The engine inside its own child process, and the handle that the score worker holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer.errors import ModelError, Transient
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Engine, Outputs
from prioritizer.inference.sandbox import ChildDied, Sandbox

SCORE_TIMEOUT_S = 30.0
START_TIMEOUT_S = 120.0

_engine: Engine | ModelError | None = None


def _load(folder: Path, precision: str, threads: int) -> None:
    """Runs when the child starts, and again whenever it is restarted: nothing is scored by an unproved engine."""
    global _engine  # noqa: PLW0603 - the child's one engine
    try:
        engine = Engine(open_bundle(folder), precision=precision, threads=threads)
        bundle_selftest.prove(engine)
        _engine = engine
    except ModelError as error:
        _engine = error


def _proved() -> Engine:
    if _engine is None:
        raise ModelError("the engine was not loaded", "Restart prioritizer")
    if isinstance(_engine, ModelError):
        raise _engine
    return _engine


def _describe() -> tuple[str, str]:
    engine = _proved()
    return engine.name, engine.precision


def _score(picture: NDArray[np.float32]) -> Outputs:
    return _proved().score(picture)


class EngineProcess:
    """A proved engine in a supervised child. Building it waits until the golden inputs matched; raises ModelError."""

    def __init__(self, folder: Path, *, precision: str, threads: int) -> None:
        self._sandbox = Sandbox(1, prepare=_load, arguments=(folder, precision, threads))
        try:
            self.name, self.precision = self._sandbox.run(_describe, START_TIMEOUT_S)
        except (ChildDied, Transient) as error:
            self._sandbox.close()
            how = f"it {error}" if isinstance(error, ChildDied) else str(error)
            raise ModelError(f"the engine did not start: {how}", "Run `prioritizer check`") from error
        except ModelError:
            self._sandbox.close()
            raise

    def score(self, picture: NDArray[np.float32]) -> Outputs:
        """Outputs for one picture float32 (S, S), 0..1. A child that dies is Transient: the next one is proved again."""
        try:
            return self._sandbox.run(_score, SCORE_TIMEOUT_S, picture)
        except ChildDied as error:
            raise Transient(f"the engine {error}") from error

    def close(self) -> None:
        """Stop the child at once."""
        self._sandbox.close()
