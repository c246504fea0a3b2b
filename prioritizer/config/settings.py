"""One frozen Settings, read from TOML. All faults are reported together, each with its line and the nearest known key.

Environment variables override single values: PRIORITIZER_STORE__URL, PRIORITIZER_WEB__PORT (two underscores between levels).
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from prioritizer.errors import ConfigError
from prioritizer.ranking.deadlines import Stage
from prioritizer.scope.header_rules import PopulationRule, Strictness

AE_TITLE = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"
AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=AE_TITLE)]
Port = Annotated[int, Field(ge=0, le=65535)]
VIEWER_FIELDS = frozenset({"study_uid", "accession_number", "patient_id"})
REFUSED_SCHEMES = ("javascript", "data", "vbscript", "file", "blob")
"""Schemes that would run or show something of ours, or of the reader's disk."""
Share = Annotated[float, Field(ge=0, le=1)]
UNNAMED = "unnamed site"
LONGEST_WINDOW = 366 * 24 * 60
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


class Section(BaseModel):
    """A table of the TOML file: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Site(Section):
    """Who and where this is."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = UNNAMED
    """Goes into every result UID: two sites never make the same UID."""
    stage: Stage = Stage.SHADOW
    """shadow: scores, list stays in order of arrival. pilot: marks shown, order of arrival. active: list re-ordered."""
    time_zone: TimeZone = ""
    """IANA name such as Europe/Berlin for the dates and times in result objects; empty: the machine's. Set it and they stay the same
    wherever a result is built again."""


class Listener(Section):
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


class Peer(Section):
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


class Destination(Section):
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


class Store(Section):
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


class Model(Section):
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


class Scope(Section):
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


class Ranking(Section):
    """The virtual deadlines. Size the windows near the usual backlog."""

    high_minutes: Annotated[float, Field(ge=0, le=LONGEST_WINDOW)] = 30
    """Minutes from arrival to the deadline of a raised study."""
    neutral_minutes: Annotated[float, Field(gt=0, le=LONGEST_WINDOW)] = 120
    """Minutes of every other study. Neutral less high is the most that AI lets a later arrival go first."""
    low_minutes: Annotated[float, Field(gt=0, le=LONGEST_WINDOW)] = 180
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


class Calibration(Section):
    """How a local calibration takes effect. The thresholds are part of the calibration that is active; no key here overrides them."""

    second_person: bool = False
    """A candidate must be approved by another person than the one who made it before it can be activated."""


class Publish(Section):
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


class Viewer(Section):
    """A viewer of the house that a study is opened in, in a window of its own that is used again. The first is the first choice."""

    name: str = Field(min_length=1, max_length=40)
    """What the link is called."""
    url: str
    """Its address with {study_uid}, {accession_number} or {patient_id}; https:, http: or a viewer's own scheme such as weasis:."""

    @field_validator("url")
    @classmethod
    def _names_what_it_opens(cls, value: str) -> str:
        fields = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
        if not fields or fields - VIEWER_FIELDS:
            raise ValueError(f"needs one of {', '.join(sorted('{' + name + '}' for name in VIEWER_FIELDS))} and nothing else in braces")
        scheme = urlsplit(value).scheme
        if not scheme or scheme in REFUSED_SCHEMES:
            raise ValueError("must begin with https:, http: or a viewer's own scheme")
        return value


class Reading(Section):
    """What readers see, and when."""

    reveal: Literal["on-demand", "after-read", "with-study"] = "on-demand"
    """When the AI result of a study is shown on its page: behind one key, only after a finding was said, or at once."""
    mask_patients: bool = False
    """Show no name, number or birth date on pages: for demonstrations."""
    name_format: Literal["family-first", "given-first", "as-sent"] = "family-first"
    """Names as the house writes them: MUSTER, Anna; Anna MUSTER; or with the carets of DICOM, as they were sent."""
    name_groups: Literal["alphabetic", "ideographic", "phonetic", "all"] = "alphabetic"
    """Which group of a name is shown, where it was sent in several: PHANTOM^One=... ; a name without it is shown by the first it has."""
    date_format: str = "%Y-%m-%d"
    """Dates as the house writes them, in the signs of strftime: %d.%m.%Y, %m/%d/%Y."""
    stat_sound: bool = False
    """An open list sounds twice when a STAT study arrives. Nothing else ever sounds; a browser may stay silent until its page is used."""


class Web(Section):
    """The page and the figures."""

    host: str = "127.0.0.1"
    """Address to bind. Anything but loopback needs tls_certificate and tls_key, or behind_proxy."""
    port: Port = 8042
    """TCP port; 0 takes a free one, for tests."""
    time_zone: TimeZone = ""
    """IANA name such as Europe/Berlin for the times on pages and the months of the board; empty: site.time_zone."""
    auth: Literal["local", "proxy", "oidc"] = "local"
    """local: names and passwords of prioritizer. proxy: a proxy of the house signs people in and names them in `proxy_header`.
    oidc: the identity provider of the house does, by OpenID Connect."""
    address: str = Field(default="", pattern=r"^(https?://[^/\s]+)?$")
    """How browsers reach the page, such as https://prioritizer.hospital.example; empty: as each of them asks."""
    behind_proxy: bool = False
    """A proxy of the house stands before the page and speaks TLS to the browsers."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses of that proxy. What others say in its headers is not believed."""
    proxy_header: str = "X-Forwarded-User"
    """Header in which the proxy names who is signed in; the name must be one that `prioritizer people list` shows."""
    oidc_issuer: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Address of the identity provider; its /.well-known/openid-configuration is read."""
    oidc_client_id: str = ""
    """How the provider knows this site; it must allow ADDRESS/oidc/back to be returned to."""
    oidc_secret_file: Path | None = None
    """File with the secret of this site at the provider; empty for a public client with PKCE."""
    oidc_claim: str = Field(default="preferred_username", min_length=1)
    """What of the provider's word is the name that `prioritizer people list` shows."""
    tls_certificate: Path | None = None
    """PEM file with the certificate chain of the page, relative to the configuration file."""
    tls_key: Path | None = None
    """PEM file with its key; readable by the service's user alone."""
    idle_minutes: Annotated[float, Field(gt=0)] = 30
    """Minutes without a request after which a sign-in ends."""
    session_hours: Annotated[float, Field(gt=0)] = 12
    """Hours after which it ends in any case."""
    upload_mib: Annotated[int, Field(ge=1, le=1024)] = 64
    """MiB of a file that may be tried on the page."""

    @field_validator("tls_certificate", "tls_key", "oidc_secret_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def secure(self) -> bool:
        """True where browsers reach the page by TLS."""
        return self.behind_proxy or self.tls_certificate is not None


FILES_OF_WEB = ("tls_certificate", "tls_key", "oidc_secret_file")


class Log(Section):
    """Log lines on standard error. They hold UIDs, never patient data."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least urgent that is written."""
    format: Literal["text", "json"] = "text"
    """text for people and the journal; json: one object a line, for a collector."""


class Monitoring(Section):
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


class AlarmRule(Section):
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


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PRIORITIZER_", env_nested_delimiter="__")

    site: Site = Site()
    listener: Listener = Listener()
    peers: tuple[Peer, ...] = ()
    destinations: tuple[Destination, ...] = ()
    store: Store = Store()
    model: Model = Model()
    scope: Scope = Scope()
    ranking: Ranking = Ranking()
    calibration: Calibration = Calibration()
    publish: Publish = Publish()
    reading: Reading = Reading()
    viewers: tuple[Viewer, ...] = ()
    monitoring: Monitoring = Monitoring()
    alarms: tuple[AlarmRule, ...] = ()
    web: Web = Web()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the values given (which come from the TOML file)."""
        return env_settings, init_settings

    @property
    def database_url(self) -> str:
        """The store's SQLAlchemy URL."""
        return self.store.url or f"sqlite:///{self.store.data / 'ledger.sqlite3'}"

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone of result objects; None: the machine's."""
        return ZoneInfo(self.site.time_zone) if self.site.time_zone else None

    @property
    def page_zone(self) -> ZoneInfo | None:
        """The time zone of pages; None: the machine's."""
        return ZoneInfo(self.web.time_zone) if self.web.time_zone else self.zone

    @property
    def spool_folder(self) -> Path:
        """Where received objects lie."""
        return self.store.data / "spool"

    def peer(self, ae_title: str) -> Peer | None:
        """The first peer with this AE title, else the first that stands for any."""
        named = [peer for peer in self.peers if peer.ae_title == ae_title]
        return next(iter(named or [peer for peer in self.peers if peer.ae_title == "*"]), None)


def read_settings(path: Path | None) -> Settings:
    """The settings in `path`, or the defaults; raises ConfigError with every fault found."""
    if path is None:
        return _validated({}, None, "")
    if not path.is_file():
        raise ConfigError((f"{path}: no such file; `prioritizer init` writes one",))
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except ValueError as error:
        raise ConfigError((f"{path}: not valid TOML: {error}",)) from error
    return _validated(values, path, text)


def _validated(values: dict[str, Any], path: Path | None, text: str) -> Settings:
    """Settings from parsed TOML, with relative folders resolved against the file."""
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(tuple(_fault(path, text, dict(e)) for e in error.errors())) from error
    base = path.resolve().parent if path is not None else Path.cwd()
    store = settings.store.model_copy(update={"data": base / settings.store.data})
    bundle = base / settings.model.bundle if settings.model.bundle is not None else None
    files = {key: base / given for key in FILES_OF_WEB if (given := getattr(settings.web, key)) is not None}
    settings = settings.model_copy(
        update={
            "store": store,
            "model": settings.model.model_copy(update={"bundle": bundle}),
            "web": settings.web.model_copy(update=files),
        }
    )
    faults = unsafe(settings)
    if faults:
        raise ConfigError(tuple(f"{path or 'defaults'}{line_suffix(text, where)}: {said}" for where, said in faults))
    return settings


def unsafe(settings: Settings) -> list[tuple[tuple[str | int, ...], str]]:
    """What is valid by type and must not be started: (key path, sentence)."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if not is_loopback(settings.listener.host) and not settings.peers:
        faults.append((("listener", "host"), "listener.host is not loopback and no [[peers]] is listed; name who may send"))
    faults += _unsafe_web(settings.web)
    faults += unsafe_ranking(settings.ranking)
    names = [destination.name for destination in settings.destinations]
    for index, destination in enumerate(settings.destinations):
        where = ("destinations", index, "name")
        if names.index(destination.name) != index:
            faults.append((where, f"destinations: the name {destination.name!r} is used twice"))
        if reaches(destination.host, settings.listener.host) and destination.port == settings.listener.port:
            faults.append((where, f"destination {destination.name!r} is our own listener: results would come back to us"))
    alarms = [rule.name for rule in settings.alarms]
    faults += [
        (("alarms", place, "name"), f"alarms: {name!r} is given twice") for place, name in enumerate(alarms) if alarms.index(name) != place
    ]
    if settings.publish.ceiling_seconds < settings.publish.quiet_seconds:
        faults.append((("publish", "ceiling_seconds"), "publish.ceiling_seconds must not be below quiet_seconds"))
    return faults


def unsafe_ranking(ranking: Ranking) -> list[tuple[tuple[str | int, ...], str]]:
    """Windows that do not go together. They are compared as the spans that the list uses, so that every process judges alike."""
    high, neutral, low = (timedelta(minutes=given) for given in (ranking.high_minutes, ranking.neutral_minutes, ranking.low_minutes))
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if high >= neutral:
        faults.append((("ranking", "high_minutes"), "ranking.high_minutes must be below neutral_minutes, or nothing is raised"))
    if low < neutral:
        faults.append((("ranking", "low_minutes"), "ranking.low_minutes must not be below neutral_minutes"))
    return faults


def _unsafe_web(web: Web) -> list[tuple[tuple[str | int, ...], str]]:
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if not is_loopback(web.host) and not web.secure:
        said = "web.host is not loopback: passwords would cross the network in clear; set tls_certificate and tls_key, or behind_proxy"
        faults.append((("web", "host"), said))
    if (web.tls_certificate is None) != (web.tls_key is None):
        faults.append((("web", "tls_certificate"), "web.tls_certificate and web.tls_key go together"))
    for key in FILES_OF_WEB:
        path = getattr(web, key)
        if path is not None and not path.is_file():
            faults.append((("web", key), f"web.{key}: {path} is not there"))
    if web.auth == "oidc":
        missing = [key for key in ("oidc_issuer", "oidc_client_id") if not getattr(web, key)]
        faults += [(("web", "auth"), f"web.auth is oidc and {' and '.join(missing)} is not set")] if missing else []
        if web.behind_proxy and not web.address:
            faults.append((("web", "auth"), "web.auth is oidc behind a proxy: set web.address, to which the provider sends people back"))
        issuer = urlsplit(web.oidc_issuer)
        if issuer.scheme == "http" and not is_loopback(issuer.hostname or ""):
            faults.append((("web", "oidc_issuer"), "web.oidc_issuer must be https: whoever stands in between could sign in as anybody"))
    if web.auth == "proxy" and not web.behind_proxy:
        faults.append((("web", "auth"), "web.auth is proxy and behind_proxy is not set; say that a proxy stands before the page"))
    return faults


def is_ae_title(text: str) -> bool:
    """True where the text may stand as an AE title in a configuration."""
    return len(text) <= 16 and re.fullmatch(AE_TITLE, text) is not None


def is_loopback(host: str) -> bool:
    """True for localhost and the loopback ranges."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reaches(host: str, bound: str) -> bool:
    """True when a connection to `host` surely arrives at a socket of this machine bound to `bound`."""
    return host == bound or (is_loopback(host) and (is_loopback(bound) or bound in ("0.0.0.0", "::")))


def _fault(path: Path | None, text: str, error: dict[str, Any]) -> str:
    """One validation error as `file:line: key: what is wrong; the mend`."""
    where: tuple[str | int, ...] = error["loc"]
    key = ".".join(str(part) for part in where)
    variable = "PRIORITIZER_" + "__".join(str(part) for part in where).upper()
    source = variable if variable in os.environ else f"{path or 'environment'}{line_suffix(text, where)}"
    head = f"{source}: {key}"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), _known_keys(where[:-1]), n=1)
        return f"{head}: unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_known_keys(where[:-1]))}")
    if error["type"] == "string_pattern_mismatch" and where[-1] in ("ae_title", "calling_ae_title"):
        return f"{head}: an AE title has 1 to 16 printable ASCII characters, no backslash and no blank at either end"
    return f"{head}: {error['msg']}"


def _known_keys(where: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand in the table at `where`."""
    fields: dict[str, FieldInfo] = dict(Settings.model_fields)
    for part in where:
        if isinstance(part, int) or part not in fields:
            continue
        annotation = fields[part].annotation
        inner = getattr(annotation, "__args__", (annotation,))[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            fields = dict(inner.model_fields)
    return sorted(fields)


def line_suffix(text: str, where: tuple[str | int, ...]) -> str:
    """`:LINE` of the key at `where` in the TOML text, or of its table; empty when neither is written there."""
    tables = [part for part in where if isinstance(part, str)]
    wanted_index = next((part for part in where if isinstance(part, int)), 0)
    table, key = tables[0] if tables else "", tables[-1] if len(tables) > 1 else ""
    current, seen, table_line = "", -1, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]?\]", line)
        if header:
            current = header.group(1)
            seen += current == table
            if current == table and (seen == wanted_index or "[[" not in line):
                table_line = number
        elif (current == table and table_line and key and re.match(rf"\s*{re.escape(key)}\s*=", line)) or (
            not current and re.match(rf"\s*{re.escape(table)}\s*=", line)
        ):
            return f":{number}"
    return f":{table_line}" if table_line else ""
