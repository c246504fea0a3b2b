"""Bytes of a text element to text, by (0008,0005) Specific Character Set, to the end whatever escapes are wrong or missing.

ISO 2022 is followed byte by byte: an escape that is unknown is left out, a byte that no set explains is replaced, and what a sender
forgot to announce is tried with the sets that the file declares. Nothing raises.

Sources: PS3.3 C.12.1.1.2 (defined terms), PS3.5 section 6.1.2.5 (code extension) and annexes H, I, J, K.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ESCAPE: Final = 0x1B
_G0: Final = {
    b"(B": "ascii", b"(J": "shift_jis", b"(I": "kana",
    b"$B": "iso2022_jp", b"$@": "iso2022_jp", b"$(B": "iso2022_jp", b"$(D": "iso2022_jp_2",
}  # fmt: skip
"""Escape to the codec of bytes below 0x80. `kana`: half-width katakana called into the wrong half."""
_G1: Final = {
    b"-A": "latin_1", b"-B": "iso8859_2", b"-C": "iso8859_3", b"-D": "iso8859_4", b"-L": "iso8859_5", b"-G": "iso8859_6",
    b"-F": "iso8859_7", b"-H": "iso8859_8", b"-M": "iso8859_9", b"-b": "iso8859_15", b"-T": "iso8859_11", b")I": "shift_jis",
    b"$)C": "euc_kr", b"$)A": "gb2312", b"$)B": "euc_jp",
}  # fmt: skip
"""Escape to the codec of bytes from 0x80 on."""
_SETS: Final = {
    "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4", "144": "iso8859_5", "127": "iso8859_6",
    "126": "iso8859_7", "138": "iso8859_8", "148": "iso8859_9", "203": "iso8859_15", "166": "iso8859_11", "13": "shift_jis",
    "149": "euc_kr", "58": "gb2312", "87": "iso2022_jp", "159": "iso2022_jp_2", "192": "utf_8", "6": "ascii",
}  # fmt: skip
"""Registration number of a defined term to its codec."""
_WHOLE: Final = {"GB18030": "gb18030", "GBK": "gbk", "UTF8": "utf_8", "ISOIR192": "utf_8", "LATIN1": "latin_1", "ASCII": "ascii"}
"""Terms without code extension whose bytes are decoded in one piece: a backslash may be the half of a character."""
_TWO_BYTES: Final = {"iso2022_jp": b"\x1b$B", "iso2022_jp_2": b"\x1b$(D"}
_DELIMITERS: Final = b"\\^=\r\n\f\t"
_ESCAPE_SEQUENCE: Final = re.compile(rb"\x1b[\x20-\x2f]{1,3}[\x30-\x7e]")


@dataclass(frozen=True, slots=True)
class CharacterSets:
    """The sets that one data set declares: the first holds at the start and after every delimiter, the others are called by escape."""

    whole: str = ""
    """Codec of the whole value; empty where code extension may occur."""
    high: tuple[str, ...] = ()
    """Codecs of bytes from 0x80 on, the initial one first; empty text where the first has none."""


def declared(terms: Sequence[str]) -> CharacterSets:
    """The sets that the values of (0008,0005) Specific Character Set name, in the spellings that devices use."""
    plain = [re.sub(r"[^A-Z0-9]", "", term.upper()) for term in terms]
    for term in plain[:1]:
        if term in _WHOLE:
            return CharacterSets(_WHOLE[term])
    codecs = [_SETS.get(match[1], "") if (match := re.fullmatch(r"(?:ISO)?(?:2022)?(?:IR)?(\d{1,3})", term)) else "" for term in plain]
    return CharacterSets("", tuple(codec if codec not in ("ascii", *_TWO_BYTES) else "" for codec in codecs))


def decode(value: bytes, sets: CharacterSets, *, is_name: bool = False) -> str:
    """The text of one value with all its backslashes; in a person's name ^ and = too end what was called by escape."""
    if sets.whole:
        return value.decode(sets.whole, "replace")
    if not any(sets.high) and ESCAPE not in value:
        return _undeclared(value)
    return _Reading(sets, _DELIMITERS if is_name else b"\\\r\n\f\t").text(value)


def _undeclared(value: bytes) -> str:
    """Bytes of a file that declares the default repertoire only: UTF-8 where they are that, else Latin-1."""
    try:
        return value.decode("utf_8")
    except UnicodeDecodeError:
        return value.decode("latin_1")


class _Reading:
    """One pass over a value with the two halves of ISO 2022."""

    def __init__(self, sets: CharacterSets, delimiters: bytes) -> None:
        self._sets, self._delimiters = sets, frozenset(delimiters)
        self._initial = sets.high[0] if sets.high else ""
        self._low, self._high = "ascii", self._initial

    def text(self, value: bytes) -> str:
        """The whole value."""
        parts, position = list[str](), 0
        while position < len(value):
            escape = _ESCAPE_SEQUENCE.match(value, position)
            if escape:
                self._call(escape[0][1:])
                position = escape.end()
                continue
            end = self._run(value, position) if value[position] != ESCAPE else position + 1
            parts.append(self._decoded(value[position:end]))
            position = end
        return "".join(parts)

    def _call(self, escape: bytes) -> None:
        if escape in _G0:
            self._low = _G0[escape]
        elif escape in _G1:
            self._high = _G1[escape]

    def _run(self, value: bytes, begin: int) -> int:
        """Past-last byte of what one codec decodes: all below 0x80, or all from there on."""
        high, wide, end = value[begin] >= 0x80, self._low in _TWO_BYTES, begin
        while end < len(value) and value[end] != ESCAPE and (value[end] >= 0x80) is high:
            if not high and not wide and value[end] in self._delimiters:
                self._low, self._high = "ascii", self._initial
                return end + 1
            end += 1
        return end

    def _decoded(self, run: bytes) -> str:
        if run[0] < 0x80:
            if self._low in _TWO_BYTES:
                return (_TWO_BYTES[self._low] + run + b"\x1b(B").decode(self._low, "replace")
            return bytes(byte | 0x80 for byte in run).decode("shift_jis", "replace") if self._low == "kana" else run.decode("ascii")
        if self._high:
            return run.decode(self._high, "replace")
        for codec in (*filter(None, self._sets.high), "utf_8"):
            try:
                return run.decode(codec)
            except UnicodeDecodeError:
                continue
        return run.decode("latin_1")
