"""The SOP Instance UID of a result, derived from what makes it: the same result has the same UID wherever it is built."""

from __future__ import annotations

import hashlib
from uuid import UUID


def result_uid(*parts: str) -> str:
    """A UID of the 2.25 form that is a function of `parts` alone, about as unique as a random one."""
    digest = hashlib.sha256()
    for part in parts:
        text = part.encode("utf-8", "surrogateescape")
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(len(text).to_bytes(8, "big") + text)
    return f"2.25.{UUID(bytes=digest.digest()[:16], version=5).int}"
