"""How sure a share is: exact intervals, also where one patient gave several cases.

Several images of one patient are no independent draws. Their number is divided by the design effect (Kish 1965), estimated from how the
hits lie between patients, and the exact interval is that of the effective number (Korn and Graubard 1998).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Clusters = Sequence[tuple[int, int]]
"""(hits, cases) of each patient that has a case."""


def clusters_of(hits: NDArray[np.bool_], patients: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(hits, cases) of each patient; `hits`: bool (N,), `patients`: the patient of each case."""
    found: dict[str, list[int]] = {}
    for hit, patient in zip(hits.tolist(), patients, strict=True):
        counted = found.setdefault(patient, [0, 0])
        counted[0] += hit
        counted[1] += 1
    return tuple((of_patient[0], of_patient[1]) for of_patient in found.values())


def effective_number(clusters: Clusters) -> float:
    """How many independent cases these are worth: their number where the cases of one patient are as different as any two.

    Where they are all alike, it is the number of patients, less where some gave more cases than others.
    """
    sizes = np.array([of for _, of in clusters if of], dtype=np.float64)
    hits = np.array([k for k, of in clusters if of], dtype=np.float64)
    total = float(sizes.sum())
    if total == 0 or len(sizes) == total:
        return total
    # Sum of squared sizes over the number of cases: the size of the patient of an average case.
    size = float((sizes**2).sum()) / total
    return total / (1 + (size - 1) * _correlation(hits, sizes))


def _correlation(hits: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Intraclass correlation (analysis of variance estimator, Donner 1986), 0..1; 1 where all cases are alike."""
    total, patients = float(sizes.sum()), len(sizes)
    share = float(hits.sum()) / total
    if patients < 2 or not 0 < share < 1:
        return 1.0
    means = hits / sizes
    between = float((sizes * (means - share) ** 2).sum()) / (patients - 1)
    within = float((sizes * means * (1 - means)).sum()) / (total - patients)
    size = (total - float((sizes**2).sum()) / total) / (patients - 1)
    spread = between + (size - 1) * within
    return min(max((between - within) / spread, 0.0), 1.0) if spread > 0 else 1.0


def proportion_interval(k: float, n: float, confidence: float = 0.95, clusters: Clusters = ()) -> tuple[float, float]:
    """Exact interval of a share of `k` in `n` (Clopper and Pearson 1934); 0 to 1 where n is 0.

    `clusters`: the same cases by patient; without it each case is taken for a patient of its own.
    """
    if not n:
        return 0.0, 1.0
    worth = effective_number(clusters) / n if clusters else 1.0
    k, n, tail = k * worth, n * worth, (1 - confidence) / 2
    low = 0.0 if k <= 0 else _quantile(tail, k, n - k + 1)
    high = 1.0 if k >= n else _quantile(1 - tail, k + 1, n - k)
    return low, high


def _quantile(share: float, a: float, b: float) -> float:
    """Where the distribution function of Beta(a, b) reaches `share`, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """P(X <= x) for X ~ Beta(a, b), 0 < x < 1: the continued fraction of the incomplete beta function (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    begin = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(begin) / a * _fraction(_coefficients(x, a, b))


def _coefficients(x: float, a: float, b: float) -> Iterable[float]:
    for m in range(1, 500):
        yield -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        yield m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def _fraction(coefficients: Iterable[float]) -> float:
    """1 / (1 + c1 / (1 + c2 / (1 + ...))) by Lentz's method."""
    c, d = 1.0, 0.0
    value = 1.0
    for coefficient in coefficients:
        d = 1 / (1 + coefficient * d)
        c = 1 + coefficient / c
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return 1 / value
