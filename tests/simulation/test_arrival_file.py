"""Real arrivals for a simulation, out of a CSV file whose every fault is named."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from prioritizer.errors import ConfigError
from prioritizer.simulation.arrival_file import read_arrivals


def written(folder: Path, text: str) -> Path:
    path = folder / "arrivals.csv"
    path.write_text(text)
    return path


def test_a_file_of_minutes_gives_arrivals_in_order_and_nothing_that_it_does_not_say(tmp_path: Path) -> None:
    found = read_arrivals(written(tmp_path, "arrived_at\n30\n0\n12.5\n"))
    assert found.known.arrived.tolist() == [0, 12.5, 30]
    assert (found.known.stat, found.known.labels, found.known.probabilities, found.reading_seen) == (None, None, None, ())


def test_every_column_travels_with_its_study(tmp_path: Path) -> None:
    text = "arrived_at,stat,label,probability,reading_minutes\n10,yes,1,0.9,4\n5,0,,,\n"
    found = read_arrivals(written(tmp_path, text))
    assert found.known.stat is not None
    assert found.known.labels is not None
    assert found.known.probabilities is not None
    assert found.known.stat.tolist() == [False, True]
    assert np.array_equal(found.known.labels, [math.nan, 1], equal_nan=True)
    assert np.array_equal(found.known.probabilities, [math.nan, 0.9], equal_nan=True)
    assert found.reading_seen == (4.0,)


def test_moments_are_minutes_from_the_midnight_before_the_first(tmp_path: Path) -> None:
    first = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    rows = [(first + timedelta(minutes=90)).isoformat(), first.isoformat()]
    local = first.astimezone()
    expected = local.hour * 60 + local.minute
    assert read_arrivals(written(tmp_path, "arrived_at\n" + "\n".join(rows))).known.arrived.tolist() == [expected, expected + 90]


def test_every_line_at_fault_is_named_with_the_mend(tmp_path: Path) -> None:
    text = "arrived_at,stat,probability,label\nnoon,1,0.5,1\n10,maybe,0.5,1\n11,1,1.5,1\n12,0,0.5,pneumonia\n"
    with pytest.raises(ConfigError) as caught:
        read_arrivals(written(tmp_path, text))
    said = str(caught.value).splitlines()
    assert [line.split(": ")[0].rsplit(" ", 2)[-2:] for line in said] == [["line", str(number)] for number in (2, 3, 4, 5)]
    assert "write 2026-11-22T08:30 or minutes" in said[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when\n1\n", "has no column arrived_at"),
        ("arrived_at\n", "holds no arrivals"),
        ("arrived_at\n1\n2026-11-22T08:30\n", "use one of them"),
        ("arrived_at,patient\n1,x\n", "unknown column patient"),
        ("arrived_at\n-5\n", "minutes from the first midnight"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_arrivals(written(tmp_path, text))


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_arrivals(tmp_path / "none.csv")


def test_of_many_faults_the_first_twenty_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_arrivals(written(tmp_path, "arrived_at\n" + "x\n" * 50))
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1] == "and 30 more lines"
