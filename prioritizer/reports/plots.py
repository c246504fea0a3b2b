"""Curves, bands, bars and histograms as SVG text: one look, colours told apart by the colour-blind, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7b5aa6", "#8a6d00", "#444444")
"""Okabe and Ito's palette, its pale members darkened for white ground."""
LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "prioritizer",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A named line. `low` and `high` are its band, drawn pale; `marker` draws the points, for few of them."""

    name: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    marker: str = ""
    dashed: bool = False


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of `width` x `height` inches in the look of all reports; no window, no global state left behind."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element without XML prologue or date, so that it stands inside HTML and repeats exactly."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def lines(
    curves: Sequence[Curve],
    *,
    x: str,
    y: str,
    diagonal: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    vertical: float | None = None,
    size: tuple[float, float] = (4.6, 3.6),
) -> str:
    """Curves over named axes; `diagonal` draws the line of chance or of perfect calibration, `vertical` a threshold."""
    with drawing(*size) as (figure, axes):
        if diagonal:
            axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=":")
        for curve, colour in zip(curves, _colours(len(curves)), strict=True):
            style = "--" if curve.dashed else "-"
            axes.plot(curve.x, curve.y, style, color=colour, label=curve.name, marker=curve.marker or None, markersize=4, linewidth=1.6)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(np.asarray(curve.x), np.asarray(curve.low), np.asarray(curve.high), color=colour, alpha=0.18, linewidth=0)
        if vertical is not None:
            axes.axvline(vertical, color="#444444", linewidth=1, linestyle="--")
        axes.set(xlabel=x, ylabel=y, **({"xlim": x_range} if x_range else {}), **({"ylim": y_range} if y_range else {}))
        if len(curves) > 1 or diagonal:
            axes.legend(loc="best")
        return as_svg(figure)


def histograms(
    samples: Sequence[tuple[str, NDArray[np.float64]]],
    *,
    x: str,
    bins: int = 25,
    x_range: tuple[float, float] | None = None,
    vertical: float | None = None,
    size: tuple[float, float] = (4.6, 3.0),
) -> str:
    """Shares of each sample over one axis, as outlines that do not hide each other."""
    with drawing(*size) as (figure, axes):
        every = np.concatenate([values for _, values in samples]) if samples else np.zeros(1)
        edges = np.histogram_bin_edges(every, bins=bins, range=x_range).tolist()
        for (name, values), colour in zip(samples, _colours(len(samples)), strict=True):
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                axes.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.25, color=colour)
                axes.hist(values, edges, weights=weights, histtype="step", color=colour, label=f"{name} (n = {len(values)})", linewidth=1.5)
        if vertical is not None:
            axes.axvline(vertical, color="#444444", linewidth=1, linestyle="--")
        axes.set(xlabel=x, ylabel="share")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)  # above the axes, where it hides no bar
        return as_svg(figure)


def bars(groups: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], *, y: str, size: tuple[float, float] = (5.6, 3.2)) -> str:
    """One cluster of bars a group, one colour a series."""
    with drawing(*size) as (figure, axes):
        width = 0.8 / max(len(series), 1)
        for index, ((name, values), colour) in enumerate(zip(series, _colours(len(series)), strict=True)):
            axes.bar(np.arange(len(groups)) + (index - (len(series) - 1) / 2) * width, values, width, label=name, color=colour)
        axes.set_xticks(np.arange(len(groups)), groups, rotation=0 if len(groups) < 8 else 45)
        axes.set(ylabel=y)
        axes.grid(visible=False, axis="x")
        if len(series) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)  # above the axes, where it hides no bar
        return as_svg(figure)


def intervals(
    rows: Sequence[tuple[str, float, float, float]], *, x: str, x_range: tuple[float, float] | None = None, vertical: float | None = None
) -> str:
    """One line a row, the first on top: its name, its value as a point and its interval as a bar."""
    with drawing(6.4, 0.9 + 0.24 * len(rows)) as (figure, axes):
        places = np.arange(len(rows))[::-1]
        for place, (_, value, low, high) in zip(places, rows, strict=True):
            axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
            axes.plot([value], [place], "o", color=COLOURS[0], markersize=5)
        if vertical is not None:
            axes.axvline(vertical, color="#444444", linewidth=1, linestyle="--")
        axes.set_yticks(places, [name for name, *_ in rows])
        axes.set(xlabel=x, ylim=(-0.7, len(rows) - 0.3), **({"xlim": x_range} if x_range else {}))
        return as_svg(figure)


def matrix(counts: NDArray[np.int64], *, rows: tuple[str, ...], columns: tuple[str, ...], x: str, y: str) -> str:
    """Counts in a grid, each written into its cell."""
    with drawing(3.2, 2.8) as (figure, axes):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.55 else "black")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(visible=False)
        return as_svg(figure)


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
