"""What is tried again waits longer each time, and in turn with what is new."""

from __future__ import annotations

from prioritizer.daemon.retry_schedule import Retries


def test_each_wait_is_twice_the_one_before_to_a_limit_and_begins_again_for_what_was_gone():
    at = [0.0]
    retries = Retries[str](5.0, 60.0, now=lambda: at[0])
    assert [retries.later("a") for _ in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert (retries.failures("a"), retries.failures("b")) == (6, 0)
    assert retries.due(["a"]) == []
    at[0] = 60.0
    assert retries.due(["a"]) == ["a"]
    assert (retries.due([]), len(retries)) == ([], 0)
    assert retries.later("a") == 5.0


def test_neither_the_new_nor_what_failed_keeps_the_other_waiting():
    at = [0.0]
    retries = Retries[str](5.0, 60.0, now=lambda: at[0])
    retries.later("b")
    at[0] = 1.0
    retries.later("a")
    at[0] = 9.0
    assert retries.due("abcdef") == ["c", "b", "d", "a", "e", "f"], "the longest due first"
    assert retries.due("abcdef")[0] == "b", "and the other kind begins the next turn"
    assert {retries.due("abcdef")[0] for _ in range(2)} == {"b", "c"}
