"""What is tried again waits longer each time, and behind what is new."""

from __future__ import annotations

from pathlib import Path

from prioritizer.retries import Retries


def test_each_wait_is_twice_the_one_before_to_a_limit_and_begins_anew_for_a_name_that_was_gone():
    at = [0.0]
    retries, path = Retries(5.0, 60.0, now=lambda: at[0]), Path("a.dcm")
    assert [retries.later("a.dcm") for _ in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert retries.due([path]) == []
    at[0] = 60.0
    assert retries.due([path]) == [path]
    assert (retries.due([]), len(retries)) == ([], 0)
    assert retries.later("a.dcm") == 5.0


def test_new_ones_come_first_and_the_longest_due_of_the_others_next():
    at = [0.0]
    retries = Retries(5.0, 60.0, now=lambda: at[0])
    retries.later("b")
    at[0] = 1.0
    retries.later("a")
    at[0] = 9.0
    assert retries.due(Path(name) for name in "abc") == [Path("c"), Path("b"), Path("a")]
