"""The DICOM conformance statement, written from the tables that the code runs on (PS3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from prioritizer import __version__
from prioritizer.dicom.result import encodings, secondary_capture
from prioritizer.dicom.scp.admission import ListenerSettings
from prioritizer.dicom.scp.association_pdu import MAX_REQUEST_BYTES
from prioritizer.dicom.scu.association import IDLE_SECONDS
from prioritizer.dicom.scu.back_off import REFUSAL_MINUTES
from prioritizer.dicom.standard import contexts


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(row) + " |" for row in lines] + [""]


def statement() -> str:
    """The whole document as Markdown."""
    defaults = ListenerSettings(spool="")
    scp = [("Verification", contexts.VERIFICATION, "SCP", "answered")]
    scp += [(each.name, each.uid, "SCP", "received, listed, scored") for each in contexts.RADIOGRAPHS]
    scp += [
        (each.name, each.uid, "SCP", "received, recorded, not scored" + (" *" if each.word == "sc" else ""))
        for each in contexts.IGNORABLE
        if each.word in contexts.DEFAULT_IGNORABLE
    ]
    syntaxes = [(each.name, each.uid, "native" if each.codec is None else each.codec) for each in contexts.TRANSFER_SYNTAXES]
    scu = [("Secondary Capture Image Storage", contexts.SECONDARY_CAPTURE, contexts.SYNTAX_BY_UID[str(syntax)].name)
           for _, syntax in encodings.RESULT_CONTEXTS]  # fmt: skip
    return "\n".join(
        [
            "# DICOM conformance statement",
            "",
            f"prioritizer {__version__}. Written by `prioritizer conformance` from the tables that the program runs on.",
            "",
            "## Implementation",
            "",
            *_table(
                ("item", "value"),
                [
                    ("Implementation Class UID", f"`{contexts.IMPLEMENTATION_CLASS_UID}`"),
                    ("Implementation Version Name", contexts.IMPLEMENTATION_VERSION_NAME),
                    ("Application context", f"`{contexts.APPLICATION_CONTEXT}`"),
                    ("Maximum PDU announced", f"{defaults.pdu_size} bytes (`listener.pdu_size`)"),
                    ("Asynchronous operations", "not offered"),
                    ("Roles, extended negotiation, user identity", "passed over: their defaults hold"),
                    ("Longest association request", f"{MAX_REQUEST_BYTES} bytes, within {defaults.request_timeout:g} s"),
                    ("Secure transport", "none of its own: bind to a closed network or put a TLS proxy in front"),
                ],
            ),
            "## Receiving (SCP)",
            "",
            "The calling AE title and its address must be listed in `[[peers]]`; the called AE title must be ours. Otherwise the",
            "association is rejected with result 1, source 1, reason 3 (calling) or 7 (called), and recorded with the configuration",
            "that would admit it. Blanks before and behind an AE title, and whatever follows a NUL, are padding. A presentation context",
            "whose abstract or transfer syntax is no UID is refused alone; what was proposed and not accepted is recorded by name.",
            f"At most {defaults.max_associations} associations (`listener.max_associations`), {defaults.max_per_address} from one address.",
            "",
            *_table(("SOP class", "UID", "role", "what happens"), scp),
            "\\* A peer with `score_secondary_capture = true` has its Secondary Captures scored when they are radiographs",
            "(Modality CR or DX). Images FOR PROCESSING are listed and not scored, unless their peer has `score_for_processing = true`:",
            "then they are drawn by Pixel Intensity Relationship Sign.",
            "",
            "Radiographs are accepted in these transfer syntaxes, those with a codec only while it passes the start-up self-test.",
            "Other objects are accepted in any of them.",
            "",
            *_table(("transfer syntax", "UID", "codec"), syntaxes),
            "### Status codes of C-STORE",
            "",
            *_table(
                ("status", "meaning"),
                [
                    ("0x0000", "the object is on disk: file and folder synced. Also for an object that is held already"),
                    ("0xA700", "below the disk watermark, or the disk failed; nothing was kept, send again later"),
                    ("0xA900", "SOP Class or SOP Instance UID of the data set differ from the command's"),
                    ("0xC000 to 0xC0FF", "the data set cannot be parsed; the bytes are in quarantine with the reason"),
                    ("0x0117", "a UID of the command is not a UID"),
                    ("0x0122", "the SOP class is not the one of the presentation context"),
                    ("0x0124", "this peer may not send"),
                ],
            ),
            "Different bytes under a SOP Instance UID that is held are acknowledged and compared with what is held. The same particulars "
            "and decoded pixels are the same image. Where the held file is gone or damaged, what came takes its place. Otherwise the "
            "first stays, and no result of the study is sent, until a person has confirmed one of them; in another study it is listed "
            "and not scored.",
            "",
            "## Sending (SCU)",
            "",
            "Results go to each `[[destinations]]` over one association that is kept and released after "
            f"{IDLE_SECONDS:g} s without use. `check` and",
            "`doctor` ask for Verification and for these contexts, and prove that a result would be taken. A result is sent as it is",
            "stored (`publish.encoding`) where that is accepted, else uncompressed in Explicit or Implicit VR Little Endian.",
            "",
            *_table(("SOP class", "UID", "transfer syntax"), scu),
            "Warnings (0xBxxx) and 0x0111 count as stored. 0xAxxx but 0xA9xx, 0x0110, 0x0213 and network faults are tried again with",
            f"back-off, without limit. Every other failure, and a rejected association, is tried {len(REFUSAL_MINUTES) + 1} times over",
            "more than a day; then the result is parked with an alarm until a person requeues it.",
            "",
            "## The result object",
            "",
            "Secondary Capture Image IOD. Patient and General Study modules and Specific Character Set are copied byte for byte from",
            "the deciding image, padding apart; of the rest an invalid value is left out, or written empty where it must be present.",
            "A sequence with an invalid item, an attribute that needs another and is alone, and species and breed are left out. An image",
            "without a valid Study Instance UID gets no result; the study says so.",
            "",
            *_table(
                ("attribute", "value"),
                [
                    ("(0008,0060) Modality", "OT"),
                    ("(0008,0064) Conversion Type", "WSD"),
                    ("(0008,0008) Image Type", "DERIVED\\SECONDARY\\OTHER"),
                    ("(0020,0011) Series Number", str(secondary_capture.SERIES_NUMBER)),
                    ("(0008,0023), (0008,0033) Content Date, Time", "when the deciding image was received, on the clock of the site"),
                    ("(0008,0201) Timezone Offset From UTC", "the source's; where it states none the site's (`site.time_zone`)"),
                    ("(0028,0301) Burned In Annotation", "YES: no patient data, the words of the strip"),
                    ("(0008,2112) Source Image Sequence", "the deciding image, purpose (121322, DCM)"),
                    ("(0018,A001) Contributing Equipment Sequence", "(109102, DCM), manufacturer, model, version, device UID"),
                    ("(0028,2110) Lossy Image Compression", "01 with ratio and method when the result or its source is lossy"),
                    (
                        "SOP Instance UID",
                        "2.25: a function of site, kind, study, source instance, bundle, calibration, revision and content",
                    ),
                ],
            ),
            "## Character sets",
            "",
            "Every defined term of Specific Character Set is decoded (PS3.3 C.12.1.1.2), code extension by ISO 2022, GB18030, GBK, UTF-8;",
            "escapes that are wrong or missing are tried with the sets that the file declares. All groups of a name are kept and searched;",
            "`reading.name_groups` says which is shown. Results keep the bytes and the character set of their source.",
            "",
            "## How an image is drawn",
            "",
            "Modality LUT or Rescale, then the first usable VOI LUT, else the first usable window (LINEAR, LINEAR_EXACT, SIGMOID), then",
            "MONOCHROME1 or INVERSE. The range of a VOI LUT is what it holds, whatever its descriptor declares. High Bit, Pixel Padding,",
            "Display Shutter (rectangular, circular, polygonal; Shutter Presentation Value), Pixel Spacing, Imager Pixel Spacing,",
            "Nominal Scanned Pixel Spacing, Pixel Aspect Ratio and Patient Orientation are honoured: the image is drawn upright and in its",
            "true shape. High Bit counts in native and in compressed pixels. Values that go on beyond Bits Stored, as neighbouring",
            "pixels or the precision of the codestream prove, are read whole with a warning; what an undeclared overlay puts there",
            "is masked off with one. Pixel Padding beyond Bits Stored is compared with the whole word. A value that means nothing",
            "is passed over, with a warning beside the score. Bytes behind the frame, a missing sequence delimiter and group 0002",
            "inside the data set are passed over.",
            "",
        ]
    )
