"""The sections of the configuration file, each with its keys, defaults and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from prioritizer.ranking.deadlines import Stage
from prioritizer.scope.verdict import PopulationRule, Strictness

AE_TITLE = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"
AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=AE_TITLE)]
Port = Annotated[int, Field(ge=0, le=65535)]
Share = Annotated[float, Field(ge=0, le=1)]
UNNAMED = "unnamed site"
MAX_WINDOW = 366 * 24 * 60
"""Minutes. A deadline beyond a year is none, and beyond some thousand years no moment at all."""


def known_zone(name: str) -> str:
    """The name, where it is empty or of the IANA time zone database; ValueError otherwise."""
    try:
        if name:
            ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no time zone of this name is known; write one such as Europe/Berlin, or leave it empty") from error
    return name


TimeZone = Annotated[str, AfterValidator(known_zone)]


class ConfigSection(BaseModel):
    """A table of the TOML file: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Site(ConfigSection):
    """Who and where this is."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = UNNAMED
    """Goes into every result UID: two sites never make the same UID."""
    stage: Stage = Stage.SHADOW
    """shadow: scores, list stays in order of arrival. pilot: marks shown, order of arrival. active: list re-ordered."""
    time_zone: TimeZone = ""
    """IANA name such as Europe/Berlin for the dates and times in result objects; empty: the machine's. Set it and they stay the same
    wherever a result is built again."""


class Listener(ConfigSection):
    """The DICOM receiver."""

    ae_title: AETitle = "PRIORITIZER"
    """What modalities must call. Checked."""
    host: str = "127.0.0.1"
    """Address to bind, 0.0.0.0 for every one. Anything but loopback needs at least one [[peers]]."""
    port: Port = 11112
    """TCP port; 0 takes a free one, for tests."""
    max_associations: Annotated[int, Field(ge=1, le=512)] = 32
    """Associations at once, counted after the request was read."""
    max_per_address: Annotated[int, Field(ge=1, le=512)] = 16
    """Connections at once from one address."""
    pdu_size: Annotated[int, Field(ge=4096, le=1048576)] = 131072
    """Bytes. 131072 halves the protocol cost against 16384; more gains nothing."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds from TCP connection to a whole association request."""
    network_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a message before an association is ended."""
    max_message_mib: Annotated[int, Field(ge=1, le=4096)] = 256
    """MiB of one data set; more is refused."""
    min_free_mib: Annotated[int, Field(ge=0)] = 1024
    """MiB free on the spool's disk below which storing is refused with 0xA700."""
    min_free_share: Share = 0.02
    """Share of the spool's disk, likewise."""
    accept_and_ignore: tuple[Literal["sc", "sr", "gsps", "kos", "pdf"], ...] = ("sc", "sr", "gsps", "kos")
    """Other objects that are acknowledged, recorded and never scored."""


class Peer(ConfigSection):
    """A modality or PACS that may send to us."""

    ae_title: AETitle
    """How it calls itself: its calling AE title."""
    host: str
    """Address it calls from, or "*" for any address (say so only where the network is closed)."""
    score_secondary_capture: bool = False
    """This peer sends its radiographs in the Secondary Capture SOP class: score them."""
    score_for_processing: bool = False
    """This peer sends its radiographs FOR PROCESSING only: score them, drawn by Pixel Intensity Relationship Sign."""
    note: str = ""
    """For people: room, device, whom to ring."""


class DestinationSection(ConfigSection):
    """A PACS that gets the result objects."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    """How pages and logs name it: small letters, digits, - and _. Waiting results belong to this name."""
    ae_title: AETitle
    """What we call: its AE title."""
    host: str
    """Its name or address."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its TCP port."""
    calling_ae_title: AETitle | None = None
    """How we call ourselves to it; default: the listener's AE title."""


class Store(ConfigSection):
    """Where everything is kept."""

    data: Path = Path("var")
    """Folder of the spool and of the SQLite file. Relative to the configuration file."""
    url: str = ""
    """SQLAlchemy URL of a Postgres database; empty: SQLite in `data`."""
    keep_read_days: Annotated[float, Field(ge=1)] = 14
    """Days after reading and delivery before pixels leave the spool. Nothing undelivered is ever deleted, and nothing unread by it."""
    keep_unread_days: Annotated[float, Field(ge=3)] = 30
    """Days after the last image before the pixels of a study that nobody read here leave the spool, in stage shadow only: there
    radiologists read in the PACS. In pilot and active unread pixels are never deleted."""
    keep_results_days: Annotated[float, Field(ge=1)] = 90
    """Days after every destination took a result before its bytes leave the database; they can be built again."""


class Model(ConfigSection):
    """The bundle and how it is run."""

    bundle: Path | None = None
    """Folder of the bundle, relative to the configuration file; empty: the one that ships with prioritizer."""
    engine: Literal["openvino"] = "openvino"
    """What runs the network."""
    precision: Literal["f32", "bf16"] = "f32"
    """bf16 is faster on some processors. It is refused at the start where it differs by more than 5e-3 in probability."""
    threads: Annotated[int, Field(ge=0, le=128)] = 1
    """Processor threads for the network; 0: all. With 1, another image is decoded on another core meanwhile."""
    decode_workers: Annotated[int, Field(ge=1, le=32)] = 2
    """Sandboxed processes that read pixels."""
    decode_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds one image may take before its process is killed."""
    decode_memory_mib: Annotated[int, Field(ge=512)] = 2048
    """MiB of address space of one such process."""

    @field_validator("bundle", mode="before")
    @classmethod
    def _empty_is_the_shipped_one(cls, value: object) -> object:
        return None if value == "" else value


class ScopeSection(ConfigSection):
    """What is done when an image is outside the model's scope: enforce, flag or off."""

    modality: Strictness = Strictness.ENFORCE
    """(0008,0060) Modality is one that the bundle's card names."""
    body_part: Strictness = Strictness.ENFORCE
    """Body part and descriptions name no other part than the chest."""
    view: Strictness = Strictness.ENFORCE
    """View position, view code, orientation and descriptions name no lateral view."""
    age: Strictness = Strictness.ENFORCE
    """The patient's age lies in the card's range. `flag` scores others too, with a warning."""
    image_type: Strictness = Strictness.ENFORCE
    """(0008,0008) Image Type does not say SECONDARY, an image made from another."""
    species: Strictness = Strictness.ENFORCE
    """(0010,2201) Patient Species, where stated, is human."""
    image_kind: Strictness = Strictness.ENFORCE
    """The picture itself is a frontal chest radiograph, upright, whole and not inverted, whatever its header says. The card states how
    many radiographs this refuses. A bundle made before this key tells it by the one distance of its guard."""
    out_of_distribution: PopulationRule = PopulationRule.UNTIL_CALIBRATED
    """The picture is like those of the training data in population and device. until-calibrated: scored with a warning in stage
    shadow, and in every stage once a local calibration that was judged fit is active; before that unscored in pilot and active.
    Or enforce, flag, off."""
    likeness: Strictness | None = None
    """The key of before for both: it holds for each of image_kind and out_of_distribution that is not set itself."""

    @model_validator(mode="before")
    @classmethod
    def _likeness_is_both(cls, values: Any) -> Any:
        """The old key sets whichever of the two is not there. An empty one, as in the template, sets nothing."""
        if not isinstance(values, dict) or values.get("likeness") is None:
            return values
        if values["likeness"] == "":
            return {**values, "likeness": None}
        if values["likeness"] not in tuple(Strictness):
            return values  # the fault is named where it stands
        return {"image_kind": values["likeness"], "out_of_distribution": values["likeness"], **values}


class Ranking(ConfigSection):
    """The virtual deadlines. Size the windows near the usual backlog."""

    high_minutes: Annotated[float, Field(ge=0, le=MAX_WINDOW)] = 30
    """Minutes from arrival to the deadline of a raised study."""
    neutral_minutes: Annotated[float, Field(gt=0, le=MAX_WINDOW)] = 120
    """Minutes of every other study. Neutral less high is the most that AI lets a later arrival go first."""
    low_minutes: Annotated[float, Field(gt=0, le=MAX_WINDOW)] = 180
    """Minutes of a study below the low threshold, where demote_low is set."""
    demote_low: bool = False
    """Let AI move studies below their place by arrival, by at most low - neutral."""
    max_high_share: Share = 0.4
    """More raised studies than this among the last `last_n` suspends raising: a drift accident must not re-order everything."""
    last_n: Annotated[int, Field(ge=5, le=10000)] = 50
    """Scored studies over which that share is taken."""
    expire_after_hours: Annotated[float, Field(gt=0)] = 72
    """Hours after which an unread study moves to its own view, with an alarm."""
    claim_minutes: Annotated[float, Field(gt=0)] = 30
    """Minutes a reader's claim lasts."""


class CalibrationSection(ConfigSection):
    """How a local calibration takes effect. The thresholds are part of the calibration that is active; no key here overrides them."""

    second_person: bool = False
    """A candidate must be approved by another person than the one who made it before it can be activated."""


class PublishSection(ConfigSection):
    """What goes back to the PACS."""

    overlay: Literal["off", "preview", "heatmap"] = "heatmap"
    """off: nothing is sent. preview: radiograph with mark and legend. heatmap: with the saliency."""
    encoding: Literal["jpeg", "native"] = "jpeg"
    """How results are stored and, where accepted, sent. jpeg: about 100 KB an object; a PACS that takes no JPEG is sent it uncompressed.
    native: uncompressed from the start."""
    quiet_seconds: Annotated[float, Field(ge=0)] = 60
    """Seconds without a new instance before a study is published."""
    ceiling_seconds: Annotated[float, Field(gt=0)] = 600
    """Seconds after the first instance when it is published anyway."""


class Reading(ConfigSection):
    """What readers see, and when."""

    reveal: Literal["on-demand", "after-read", "with-study"] = "on-demand"
    """When the AI result of a study is shown on its page: behind one key, only after a finding was said, or at once."""
    mask_patients: bool = False
    """Show no name, number or birth date on pages: for demonstrations."""
    name_format: Literal["family-first", "given-first", "as-sent"] = "family-first"
    """Names as the site writes them: MUSTER, Anna; Anna MUSTER; or with the carets of DICOM, as they were sent."""
    name_groups: Literal["alphabetic", "ideographic", "phonetic", "all"] = "alphabetic"
    """Which group of a name is shown, where it was sent in several: PHANTOM^One=... ; a name without it is shown by the first it has."""
    date_format: str = "%Y-%m-%d"
    """Dates as the site writes them, in the signs of strftime: %d.%m.%Y, %m/%d/%Y."""
    stat_sound: bool = False
    """An open list sounds twice when a STAT study arrives. Nothing else ever sounds; a browser may stay silent until its page is used."""


class Log(ConfigSection):
    """Log lines on standard error. They hold UIDs, never patient data."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least urgent that is written."""
    format: Literal["text", "json"] = "text"
    """text for people and the journal; json: one object a line, for a collector."""


class Monitoring(ConfigSection):
    """What the board watches."""

    days: Annotated[float, Field(ge=1, le=366)] = 30
    """Days back that the latest board looks."""
    reference_days: Annotated[float, Field(ge=1, le=366)] = 28
    """The first days of a bundle here, against which drift is told."""
    owner: str = Field(default="the administrator on duty", min_length=1, max_length=80)
    """Who acts on an alarm that names nobody else."""
    ask_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of all studies, drawn by their UID whatever AI thinks of them, on whose page a finding is asked for: the board needs words on
    studies that nobody would speak of. 0 asks for none."""


class AlarmRule(ConfigSection):
    """When a figure of the board is an alarm, who acts on it and what they do first. Those not given are as they come."""

    name: Literal["psi-scores", "psi-embeddings", "overdue", "not-scored", "raised", "sensitivity", "specificity", "ppv"]
    """Which figure. The last three alarm below the threshold, the others above; a share only with its whole interval, sensitivity and
    specificity also while readers speak of too few studies of one band to tell."""
    threshold: Annotated[float, Field(ge=0)]
    """Its limit: a share of 1, or a population stability index beyond what chance gives."""
    owner: str = Field(default="", max_length=80)
    """Who acts; empty: monitoring.owner."""
    action: str = Field(default="", max_length=300)
    """What they do first; empty: what comes with prioritizer."""
