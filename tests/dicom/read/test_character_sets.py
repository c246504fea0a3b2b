"""Names and descriptions are read to the end in every character set, whatever escapes are wrong or missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid

from prioritizer.dicom.read.attributes import instance_of_file
from prioritizer.dicom.read.character_sets import declared, decode
from tests.support.radiograph_files import radiograph

NAMES = {
    # The examples of PS3.5 annexes H, I, J and K.
    "Chinese by escape": (
        "\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东",
    ),
    "Chinese, escapes forgotten": ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\xd5\xc5^\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东"),
    "Chinese, one escape for both": ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
    "Chinese, set not declared": ("ISO_IR 100", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
    "Chinese in GB18030": ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    "Chinese in GBK": ("GBK", "Wang^XiaoDong=王^小東".encode("gbk"), "Wang^XiaoDong=王^小東"),
    "Chinese in UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    "Japanese": (
        "\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "Japanese with katakana": (
        "ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "Japanese without its last escape": ("\\ISO 2022 IR 87", b"Yamada=\x1b$B;3ED", "Yamada=山田"),
    "Japanese supplement": ("\\ISO 2022 IR 87\\ISO 2022 IR 159", b"A=\x1b$(D\x30\x21\x1b(B", "A=丂"),
    "Korean": (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "Cyrillic": ("ISO_IR 144", "Люк^Ф".encode("iso8859_5"), "Люк^Ф"),
    "Greek by escape": ("ISO 2022 IR 100\\ISO 2022 IR 126", b"J\xe9r\xf4me^\x1b-F\xc4\xe9\xef", "Jérôme^Διο"),
    "Western": ("ISO_IR 100", "Müller^Jörg".encode("latin_1"), "Müller^Jörg"),
    "Western in other spelling": ("ISO-IR 100", "Müller^Jörg".encode("latin_1"), "Müller^Jörg"),
    "UTF-8 that nobody declared": ("", "Müller^Jörg".encode(), "Müller^Jörg"),
    "an unknown escape": ("\\ISO 2022 IR 58", b"Zhang\x1b$)Z^Li", "Zhang^Li"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_name_is_read_with_all_its_groups(kind: str, syntax: str, tmp_path: Path):
    terms, raw, name = NAMES[kind]
    (tmp_path / "film.dcm").write_bytes(radiograph(syntax, SpecificCharacterSet=terms, PatientName=raw))
    assert instance_of_file(tmp_path / "film.dcm").patient_name == name


def test_a_description_ends_its_escapes_at_its_backslash_alone(tmp_path: Path):
    raw = b"\x1b$)A\xd5\xc5^\xd0\xa1"
    (tmp_path / "film.dcm").write_bytes(radiograph(SpecificCharacterSet="\\ISO 2022 IR 58", SeriesDescription=raw))
    assert instance_of_file(tmp_path / "film.dcm").series_description == "张^小"


def test_the_half_of_a_character_is_no_backslash(tmp_path: Path):
    name = "張^\u8a31"  # 許: its second byte in GBK and GB18030 is no delimiter here either
    (tmp_path / "film.dcm").write_bytes(radiograph(SpecificCharacterSet="GBK", PatientName=name.encode("gbk")))
    assert instance_of_file(tmp_path / "film.dcm").patient_name == name


@given(st.binary(max_size=80), st.lists(st.text(max_size=16), max_size=4), st.booleans())
def test_any_bytes_in_any_declared_sets_are_text_without_an_escape_sequence_left(value: bytes, terms: list[str], is_name: bool):
    text = decode(value, declared(terms), is_name=is_name)
    assert isinstance(text, str)
    text.encode("utf_8", "surrogatepass")


@given(st.sampled_from(["gb2312", "euc_kr", "iso8859_5", "iso8859_7"]), st.data())
def test_what_was_encoded_with_escapes_comes_back(codec: str, data: st.DataObject):
    term, escape = {
        "gb2312": ("ISO 2022 IR 58", b"\x1b$)A"), "euc_kr": ("ISO 2022 IR 149", b"\x1b$)C"),
        "iso8859_5": ("ISO 2022 IR 144", b"\x1b-L"), "iso8859_7": ("ISO 2022 IR 126", b"\x1b-F"),
    }[codec]  # fmt: skip
    letters = {"gb2312": "张王李小东中", "euc_kr": "홍길동김이박", "iso8859_5": "ЛюкФжд", "iso8859_7": "Διονυσι"}[codec]
    parts = data.draw(st.lists(st.text(alphabet=letters, min_size=1, max_size=5), min_size=1, max_size=4))
    raw = b"^".join(escape + part.encode(codec) for part in parts)
    assert decode(raw, declared(["", term]), is_name=True) == "^".join(parts)
