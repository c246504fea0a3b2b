"""Logistic fits of one slope and intercept, and log loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MIN_SLOPE = 0.01
"""No map turns the order of studies round or makes it one tie: where cases ask for less slope than this, they get this."""
MAX_DISTANCE = 30.0
"""Log odds beyond which no case is moved: no site's mix of cases is 1 in 10^13."""


def sigmoid(x: Float64) -> Float64:
    """1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def odds_of(p: Float64) -> Float64:
    """Log odds of probabilities, which are kept 1e-12 away from 0 and 1."""
    inside = np.clip(p, 1e-12, 1 - 1e-12)
    found: Float64 = np.log(inside) - np.log1p(-inside)
    return found


def log_loss(logits: Float64, labels: Float64) -> float:
    """Mean negative log likelihood of labels (0 or 1) under sigmoid(logits), in nats."""
    return float(np.mean(log_losses(logits, labels)))


def log_losses(logits: Float64, labels: Float64) -> Float64:
    """Negative log likelihood of each label under sigmoid(logits), in nats."""
    return np.logaddexp(0.0, logits) - labels * logits


# --- fitting: each takes log odds and labels float64 (N,) ----------------------------------------------------------


def fit_temperature(logits: Float64, labels: Float64) -> float:
    """The slope 1/T that minimises the log loss; Newton on one convex parameter, bracketed to 0.01..100."""
    log_slope = 0.0
    for _ in range(100):
        slope = np.exp(log_slope)
        p = sigmoid(slope * logits)
        gradient = float(np.mean((p - labels) * logits)) * slope
        curvature = float(np.mean(p * (1 - p) * logits**2)) * slope**2 + abs(gradient)
        step = gradient / max(curvature, 1e-12)
        log_slope = float(np.clip(log_slope - np.clip(step, -1, 1), np.log(0.01), np.log(100)))
        if abs(step) < 1e-10:
            break
    return float(np.exp(log_slope))


def fit_intercept(logits: Float64, labels: Float64) -> float:
    """The shift of the log odds after which the mean probability is the share of positives (calibration in the large)."""
    return shift_to(logits, float(np.mean(labels)))


def shift_to(logits: Float64, prevalence: float) -> float:
    """The shift of the log odds after which the mean probability is `prevalence`; needs no labels."""
    low, high = -MAX_DISTANCE - float(logits.max()), MAX_DISTANCE - float(logits.min())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float(np.mean(sigmoid(logits + middle))) < prevalence else (low, middle)
    return (low + high) / 2


def fit_platt(logits: Float64, labels: Float64) -> tuple[float, float]:
    """Slope and intercept by maximum likelihood against Platt's smoothed targets, so that separated classes stay finite."""
    positives = float(labels.sum())
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
    return _logistic(logits, targets, pull=0.0)


def fit_soft(logits: Float64, targets: Float64) -> tuple[float, float]:
    """Slope and intercept by maximum likelihood against targets between 0 and 1."""
    return _logistic(logits, targets, pull=0.0)


SLOPE_SPREAD = 0.3
"""Standard deviation of the slope around the one before, as believed before any local case was seen."""


def fit_shrunk_slope(logits: Float64, labels: Float64) -> tuple[float, float]:
    """Slope and intercept; the slope is pulled towards 1, that is, to the slope before (a normal prior of SLOPE_SPREAD)."""
    return _logistic(logits, labels, pull=1 / SLOPE_SPREAD**2)


def _logistic(x: Float64, targets: Float64, pull: float) -> tuple[float, float]:
    """Minimum of the summed log loss + pull / 2 * (slope - 1)^2 with slope >= MIN_SLOPE; damped Newton on a convex function."""
    design = np.stack([x, np.ones_like(x)], axis=1)

    def loss(at: Float64) -> float:
        return float(np.sum(log_losses(design @ at, targets))) + pull / 2 * float(at[0] - 1) ** 2

    at = np.array([0.0, 0.0])
    for _ in range(200):
        p = sigmoid(design @ at)
        gradient = design.T @ (p - targets) + np.array([pull * (at[0] - 1), 0.0])
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag([pull + 1e-9, 1e-9])
        step = np.linalg.solve(hessian, gradient)
        while loss(at - step) > loss(at) and np.abs(step).max() > 1e-12:
            step = step / 2
        at = at - step
        if np.abs(step).max() < 1e-10:
            break
    if at[0] < MIN_SLOPE:
        return MIN_SLOPE, shift_to(MIN_SLOPE * x, float(np.mean(targets)))
    return float(at[0]), float(np.clip(at[1], -MAX_DISTANCE, MAX_DISTANCE))
