"""What a network costs: parameters, time an image beside DenseNet-121 in the same process, memory of a process that holds nothing else."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from prioritizer.errors import Transient

REFERENCE = "densenet121"
ROUNDS, WARM_UP = 12, 2
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Measured with one thread, one picture at a time. Milliseconds are those of this machine and hour; the ratio travels."""

    parameters: int
    ms: float
    """Median."""
    reference_ms: float
    """Median of DenseNet-121 in torch at the same picture size, taken in turns with the other in one process."""
    peak_mib: float
    """Of a process that opened the network and scored one picture, libraries included."""

    @property
    def ratio(self) -> float:
        """Time over that of the reference."""
        return self.ms / self.reference_ms


def cost_of(folder: Path) -> Cost:
    """The cost of a run or bundle, measured in a process of its own. Raises Transient where that process does not answer."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(folder, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        if ours.poll(PATIENCE_S):
            found: Cost = ours.recv()
            return found
    except EOFError as error:
        raise Transient(f"the process that measures the cost of {folder.name} died; --no-cost leaves the measurement out") from error
    finally:
        child.kill()
        child.join()
        ours.close()
    raise Transient(f"the cost of {folder.name} was not measured in {PATIENCE_S:g} s; --no-cost leaves the measurement out")


def _measure(folder: Path, answer: Connection) -> None:
    import torch

    from prioritizer.learning.evaluation.subjects import open_subject
    from prioritizer.learning.training import network

    torch.set_num_threads(1)
    subject = open_subject(folder, threads=1)
    side = subject.spec.size
    picture = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
    subject.score(picture)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reference = network.build(REFERENCE, 1, side).eval()
    images = torch.from_numpy(picture)[:, None].expand(-1, 3, -1, -1).contiguous()

    def ask_reference() -> None:
        with torch.no_grad():
            reference(images)

    mine, theirs = _in_turns(lambda: subject.score(picture), ask_reference)
    answer.send(Cost(parameters=subject.parameters, ms=mine, reference_ms=theirs, peak_mib=peak))


def _in_turns(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Medians in milliseconds; taken in turns so that a busy moment meets both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + WARM_UP):
        for work, found in zip((one, other), times, strict=True):
            start = time.perf_counter()
            work()
            found.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[0][WARM_UP:]), statistics.median(times[1][WARM_UP:])
