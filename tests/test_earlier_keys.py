"""Keys of JSON by their names before 0.2 stand beside the new ones, and are gone with 0.3."""

from __future__ import annotations

from dataclasses import asdict

from prioritizer import __version__
from prioritizer.cli.earlier_names import ENDS_WITH
from prioritizer.db.decisions.activation import Activated
from prioritizer.earlier_keys import EARLIER, with_earlier_keys
from prioritizer.web.api.decisions import TookEffect

DONE = Activated(calibration="local-1", before="own", activation=3, scored_again=7, moved=5, published_again=2)


def test_a_renamed_key_is_there_under_both_names():
    document = with_earlier_keys(asdict(DONE))
    assert {key: document[key] for key in EARLIER.values()} == {"scored_anew": 7, "published_anew": 2}
    assert document.items() >= asdict(DONE).items()


def test_the_api_answers_with_both_and_says_which_one_goes():
    answer = TookEffect(**with_earlier_keys(asdict(DONE))).model_dump()
    assert answer == with_earlier_keys(asdict(DONE))
    properties = TookEffect.model_json_schema()["properties"]
    assert {key for key, shown in properties.items() if shown.get("deprecated")} == set(EARLIER.values())


def test_earlier_keys_are_gone_with_the_release_that_was_named():
    now, end = ([int(part) for part in version.split(".")[:2]] for version in (__version__, ENDS_WITH))
    assert now < end, "remove earlier_keys.py and what uses it"
