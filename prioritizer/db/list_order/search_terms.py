"""What a study is found by: the words of one search box, made alike when a study is stored and when it is looked for.

A study has a few terms: its UID, accession number and patient ID, whole and in parts, and every part of the patient's name. A typed
word finds the terms that begin with it, so one index serves any number of studies and nobody needs to know which field is meant.
"""

from __future__ import annotations

import re
import unicodedata

MIN_LENGTH = 3
"""Fewer characters begin too many words: a shorter one is looked for as a whole."""
MAX_LENGTH = 80
MAX_WORDS = 6
_PARTS = re.compile(r"[^\w.]+")


def plain(text: str) -> str:
    """Without case and accents: what two people type for one name."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in split if not unicodedata.combining(sign))


def words_of(text: str) -> list[str]:
    """The words of a text, in order, each once."""
    return list(dict.fromkeys(word.strip("._")[:MAX_LENGTH] for word in _PARTS.split(plain(text)) if word.strip("._")))


def terms_of(*, study_uid: str, patient_id: str, patient_name: str, accession_number: str) -> frozenset[str]:
    """What a study is found by."""
    found = set(words_of(patient_name.replace("^", " ").replace("=", " ")))
    for number in (study_uid, patient_id, accession_number):
        found.update(words_of(number))
        found.add(plain(number).strip()[:MAX_LENGTH])
    return frozenset(found - {""})


def searched_words(text: str) -> list[str]:
    """The words to look for; empty where there is none. All of them must be found in a study."""
    return words_of(text)[:MAX_WORDS]
