"""The SOP classes and transfer syntaxes that prioritizer accepts: one table, from which the conformance statement is checked.

Only strings and tuples stand here, so that the listener starts without loading a DICOM library.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# Both are fixed for the life of the product: made once with uuid4, in the 2.25 form of PS3.5 B.2.
IMPLEMENTATION_CLASS_UID: Final = "2.25.301815123209133155309650875777225887337"
IMPLEMENTATION_VERSION_NAME: Final = "PRIORITIZER_0"
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
"""The default transfer syntax, which every peer has (PS3.5 10.1)."""
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

COMPUTED_RADIOGRAPHY: Final = "1.2.840.10008.5.1.4.1.1.1"
DIGITAL_XRAY_FOR_PRESENTATION: Final = "1.2.840.10008.5.1.4.1.1.1.1"
DIGITAL_XRAY_FOR_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class SopClass:
    """A SOP class by its UID, its name in PS3.4 annex B, and the word a configuration file uses for it."""

    uid: str
    name: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntax:
    """A transfer syntax; `codec` is the slug its pixel decoder goes by, None when the pixels are stored plainly."""

    uid: str
    name: str
    codec: str | None = None
    explicit: bool = True
    big_endian: bool = False
    deflated: bool = False


RADIOGRAPHS: Final = (
    SopClass(uid=COMPUTED_RADIOGRAPHY, name="Computed Radiography Image Storage", word="cr"),
    SopClass(uid=DIGITAL_XRAY_FOR_PRESENTATION, name="Digital X-Ray Image Storage - For Presentation", word="dx"),
    SopClass(uid=DIGITAL_XRAY_FOR_PROCESSING, name="Digital X-Ray Image Storage - For Processing", word="dx-processing"),
)
# Sent along by modalities and PACS routers: acknowledged and recorded, never scored unless a peer is told otherwise (SC).
IGNORABLE: Final = (
    SopClass(uid=SECONDARY_CAPTURE, name="Secondary Capture Image Storage", word="sc"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.11.1", name="Grayscale Softcopy Presentation State Storage", word="gsps"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.88.59", name="Key Object Selection Document Storage", word="kos"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.88.11", name="Basic Text SR Storage", word="sr-basic"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.88.22", name="Enhanced SR Storage", word="sr-enhanced"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.88.33", name="Comprehensive SR Storage", word="sr-comprehensive"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.88.67", name="X-Ray Radiation Dose SR Storage", word="sr-dose"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.104.1", name="Encapsulated PDF Storage", word="pdf"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.7.1", name="Multi-frame Single Bit Secondary Capture Image Storage", word="sc-bit"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.7.2", name="Multi-frame Grayscale Byte Secondary Capture Image Storage", word="sc-byte"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.7.3", name="Multi-frame Grayscale Word Secondary Capture Image Storage", word="sc-word"),
    SopClass(uid="1.2.840.10008.5.1.4.1.1.7.4", name="Multi-frame True Color Secondary Capture Image Storage", word="sc-color"),
)
# The words accepted when a site says nothing: what travels with radiographs on a quiet day.
DEFAULT_IGNORABLE: Final = ("sc", "gsps", "kos", "sr-basic", "sr-enhanced", "sr-comprehensive", "sr-dose", "pdf")

# In order of preference within one presentation context: plain pixels first, lossless before lossy.
TRANSFER_SYNTAXES: Final = (
    TransferSyntax(uid=EXPLICIT_VR_LITTLE_ENDIAN, name="Explicit VR Little Endian"),
    TransferSyntax(uid=IMPLICIT_VR_LITTLE_ENDIAN, name="Implicit VR Little Endian", explicit=False),
    TransferSyntax(uid="1.2.840.10008.1.2.1.99", name="Deflated Explicit VR Little Endian", deflated=True),
    TransferSyntax(uid=EXPLICIT_VR_BIG_ENDIAN, name="Explicit VR Big Endian", big_endian=True),
    TransferSyntax(uid="1.2.840.10008.1.2.5", name="RLE Lossless", codec="rle"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.70", name="JPEG Lossless, First-Order Prediction", codec="jpeg-lossless"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.57", name="JPEG Lossless, Non-Hierarchical", codec="jpeg-lossless-57"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.80", name="JPEG-LS Lossless", codec="jpeg-ls"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.90", name="JPEG 2000 Lossless", codec="jpeg2000"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.201", name="HTJ2K Lossless", codec="htj2k"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.202", name="HTJ2K Lossless RPCL", codec="htj2k-rpcl"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.81", name="JPEG-LS Near-Lossless", codec="jpeg-ls-near"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.91", name="JPEG 2000", codec="jpeg2000-lossy"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.203", name="HTJ2K", codec="htj2k-lossy"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.50", name="JPEG Baseline (Process 1)", codec="jpeg-baseline"),
    TransferSyntax(uid="1.2.840.10008.1.2.4.51", name="JPEG Extended (Process 2 and 4)", codec="jpeg-extended"),
)

SYNTAX_BY_UID: Final[Mapping[str, TransferSyntax]] = MappingProxyType({syntax.uid: syntax for syntax in TRANSFER_SYNTAXES})
NATIVE_SYNTAXES: Final = tuple(syntax.uid for syntax in TRANSFER_SYNTAXES if syntax.codec is None)
_CLASS_BY_WORD: Final[Mapping[str, SopClass]] = MappingProxyType({each.word: each for each in IGNORABLE})


def ignorable_uids(words: Collection[str]) -> tuple[str, ...]:
    """The SOP Class UIDs for a site's accept-and-ignore list, given as words of `IGNORABLE` or as plain UIDs."""
    return tuple(_CLASS_BY_WORD[word].uid if word in _CLASS_BY_WORD else word for word in words)


def accepted_contexts(decodable: Collection[str], ignorable: Collection[str] = DEFAULT_IGNORABLE) -> dict[str, tuple[str, ...]]:
    """Abstract syntax -> the transfer syntaxes accepted for it, most welcome first.

    `decodable` are the UIDs of the encapsulated syntaxes whose decoder passed its start-up self-test; plain ones are always in.
    Objects that are only acknowledged may come in any syntax of the table: nobody here decodes them.
    """
    native = set(NATIVE_SYNTAXES)
    scored = tuple(syntax.uid for syntax in TRANSFER_SYNTAXES if syntax.uid in native or syntax.uid in set(decodable))
    every = tuple(syntax.uid for syntax in TRANSFER_SYNTAXES)
    contexts: dict[str, tuple[str, ...]] = {VERIFICATION: (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)}
    contexts |= {each.uid: scored for each in RADIOGRAPHS}
    return contexts | {uid: every for uid in ignorable_uids(ignorable) if uid not in contexts}
