"""The maps from logits to probabilities that can be fitted: temperature, Platt and isotonic."""

from __future__ import annotations

from prioritizer.calibration.maps import Calibration, fit_isotonic
from prioritizer.statistics.logistic import Float64, fit_platt, fit_temperature


def fitted_map(method: str, logits: Float64, labels: Float64) -> Calibration:
    """A map of the named method for these logits and labels."""
    slope, intercept = 1.0, 0.0
    if method == "temperature":
        slope = fit_temperature(logits, labels)
    elif method == "platt":
        slope, intercept = fit_platt(logits, labels)
    knots = fit_isotonic(logits, labels) if method == "isotonic" else ()
    n, events = len(labels), int(labels.sum())
    return Calibration(
        id=method,
        method=method,
        slope=slope,
        intercept=intercept,
        knots=knots,
        t_high=1.0,
        t_low=0.0,
        n=n,
        events=events,
    )
