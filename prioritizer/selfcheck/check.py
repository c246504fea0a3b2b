"""`prioritizer check`: prove everything that a running daemon needs, start nothing, and name the mend of every fault."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prioritizer.config.sections import UNNAMED, DestinationSection
from prioritizer.config.settings import Settings, is_loopback
from prioritizer.dicom.result.encodings import proposed_results
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Offer, Sender
from prioritizer.errors import ModelError, PermanentRefusal, PrioritizerError, Transient
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import Bundle, open_bundle

if TYPE_CHECKING:
    import sqlalchemy as sa

CODEC_TEST_MEMORY, CODEC_TEST_TIMEOUT_S = 2 << 30, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One thing proved or not. `warning` says: works, and is likely not meant."""

    what: str
    ok: bool
    said: str
    mend: str = ""
    warning: bool = False


def prove(settings: Settings, config_file: Path | None) -> Iterator[Proof]:
    """Every proof, in the order of the chain; none stops the next."""
    if config_file is None:
        yield Proof(
            what="configuration", ok=True, warning=True, said="no file was found: every key has its default",
            mend="Name it with --config or PRIORITIZER_CONFIG; ./prioritizer.toml and /etc/prioritizer/prioritizer.toml are looked for",
        )  # fmt: skip
    else:
        yield Proof(what="configuration", ok=True, said=str(config_file))
    yield from _meant(settings)
    yield from _disk(settings)
    yield from _database(settings)
    yield from _codecs()
    yield from _model(settings)
    yield from _peers(settings)
    yield from _port(settings)
    yield from _certificate(settings)
    for destination in settings.destinations:
        yield _destination(destination, settings)


def _meant(settings: Settings) -> Iterator[Proof]:
    """Valid and perhaps not meant."""
    if settings.site.name == UNNAMED:
        yield Proof(
            what="site", ok=True, warning=True, said="site.name is not set, and goes into the UID of every result",
            mend="Give the site a name of its own: two sites with one name make the same UIDs",
        )  # fmt: skip
    if not settings.peers:
        yield Proof(
            what="peers", ok=True, warning=True, said="no [[peers]]: every association will be refused",
            mend="Add [[peers]] with ae_title and host for each modality; refusals in `prioritizer status` show what to paste",
        )  # fmt: skip
    open_to_all = [peer.ae_title for peer in settings.peers if peer.host == "*" and not is_loopback(settings.listener.host)]
    if open_to_all:
        yield Proof(
            what="peers", ok=True, warning=True, said=f"{', '.join(open_to_all)} may call from any address",
            mend="Name their addresses",
        )  # fmt: skip
    if settings.publish.overlay != "off" and not settings.destinations:
        yield Proof(
            what="destinations", ok=True, warning=True, said="publish.overlay is on and there is no [[destinations]]",
            mend='Add the PACS as [[destinations]], or set publish.overlay = "off"',
        )  # fmt: skip
    data = settings.store.data
    parent = next(folder for folder in (data, *data.parents) if folder.exists())
    if parent.stat().st_dev == Path("/").stat().st_dev:
        yield Proof(
            what="disk", ok=True, warning=True, said=f"{data} is on the same file system as /",
            mend="Give store.data a file system of its own, so that a full log never stops intake",
        )  # fmt: skip


def _certificate(settings: Settings) -> Iterator[Proof]:
    """The page's certificate and key can be read and belong together."""
    web = settings.web
    if web.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(web.tls_certificate, web.tls_key)
    except OSError as error:
        mend = "Give the PEM file of the certificate chain and that of its own key, both readable by the service's user"
        yield Proof(what="page certificate", ok=False, said=f"{web.tls_certificate} with {web.tls_key}: {error}", mend=mend)
    else:
        yield Proof(what="page certificate", ok=True, said=str(web.tls_certificate))


def _disk(settings: Settings) -> Iterator[Proof]:
    data = settings.store.data
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / ".check"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        yield Proof(what="disk", ok=False, said=f"{data}: {error.strerror}", mend="Let the service's user write there")
        return
    free = shutil.disk_usage(data).free >> 20
    needed = settings.listener.min_free_mib
    yield Proof(
        what="disk", ok=free > needed, said=f"{data}: {free} MiB free, watermark {needed} MiB", mend="Free the disk or lower the watermark"
    )


def _database(settings: Settings) -> Iterator[Proof]:
    from sqlalchemy.exc import SQLAlchemyError

    from prioritizer.db.schema import connect, migrations

    if missing := connect.missing_file(settings.database_url):
        yield Proof(what="database", ok=True, said=f"new: `serve` makes it at {missing}")
        return
    try:
        engine = connect.open_ledger(settings.database_url)
        revision, head = migrations.current(engine), migrations.head()
    except PrioritizerError as error:
        yield Proof(what="database", ok=False, said=str(error), mend="Mend store.url")
        return
    except (SQLAlchemyError, ImportError) as error:
        yield Proof(
            what="database", ok=False, said=f"cannot be opened ({type(error).__name__})",
            mend='Is the server up and store.url right? Postgres needs `pip install "prioritizer[postgres]"`',
        )  # fmt: skip
        return
    name = engine.dialect.name
    fresh_sqlite = name == "sqlite" and revision is None
    yield Proof(
        what="database",
        ok=revision == head or fresh_sqlite,
        said=f"{name}, " + ("new: `serve` creates it" if fresh_sqlite else f"revision {revision}, this version wants {head}"),
        mend="Run `prioritizer migrate`",
    )
    if revision == head:
        yield _rules(settings, engine)
        yield from _population(settings, engine)
    engine.dispose()


def _rules(settings: Settings, engine: sa.Engine) -> Proof:
    """The settings override that lies above the configuration, and whether the two go together."""
    from prioritizer.config import settings_override
    from prioritizer.daemon.settings_in_force import MEND, holding_for

    found = holding_for(engine, settings)
    if found.active is None:
        return Proof(what="rules", ok=True, said="the configuration alone")
    said = found.fault or f"settings override {found.active.id} above the configuration: {settings_override.in_words(found.changes)}"
    return Proof(what="rules", ok=not found.fault, said=said, mend=MEND)


def _population(settings: Settings, engine: sa.Engine) -> Iterator[Proof]:
    """Whether images of another population or device than in training are left unscored, and what lifts that."""
    from prioritizer.config.policy import policy_of
    from prioritizer.db.decisions import calibrations

    try:
        applies = calibrations.applying(engine, policy_of(settings, open_bundle(settings.model.bundle)))
    except ModelError:
        return  # the proof of the model reports it
    if applies.holds_back and applies.leaves_out:
        yield Proof(
            what="calibration", ok=True, warning=True,
            said="none of this site's own is active that was judged fit: images unlike the training data are not scored",
            mend='Run `prioritizer recalibrate`, activate what its report calls fit, or set scope.out_of_distribution = "flag"',
        )  # fmt: skip


def _codecs() -> Iterator[Proof]:
    from prioritizer.dicom.read.codec_selftest import codec_selftest
    from prioritizer.dicom.standard.contexts import SYNTAX_BY_UID
    from prioritizer.inference.sandbox import Sandbox

    # In a child, as in service: native codecs talk on standard error, and may crash.
    sandbox = Sandbox(1, memory_bytes=CODEC_TEST_MEMORY)
    try:
        found = sandbox.run(codec_selftest, CODEC_TEST_TIMEOUT_S)
    finally:
        sandbox.close()
    faults = {uid: fault for uid, fault in found.items() if fault}
    for uid, fault in faults.items():
        name = SYNTAX_BY_UID[uid].name if uid in SYNTAX_BY_UID else uid
        yield Proof(
            what="codec", ok=True, warning=True, said=f"{name} is not accepted: {fault}", mend="Install the codec if a device sends it"
        )
    yield Proof(what="codecs", ok=len(faults) < len(found), said=f"{len(found) - len(faults)} of {len(found)} transfer syntaxes decode")


def _model(settings: Settings) -> Iterator[Proof]:
    from prioritizer.inference.engine import Engine

    try:
        bundle = open_bundle(settings.model.bundle)
        yield Proof(what="bundle", ok=True, said=f"{bundle.name} {bundle.digest[:12]}, every digest matches")
        yield _calibration(settings, bundle)
        engine = Engine(bundle, precision=settings.model.precision, threads=settings.model.threads)
        worst = bundle_selftest.prove(engine)
        yield Proof(what="self-test", ok=True, said=f"{engine.name} {engine.precision}: golden inputs within {worst:.1e} in probability")
    except ModelError as error:
        yield Proof(what="bundle", ok=False, said=error.what, mend=error.mend)


def _calibration(settings: Settings, bundle: Bundle) -> Proof:
    """The calibration that applies: the active one of the ledger, or the bundle's own."""
    from prioritizer.daemon.without_ledger import in_force_at

    try:
        rules, why_own = in_force_at(settings, bundle)
    except ModelError as error:
        return Proof(what="calibration", ok=False, said=error.what, mend=error.mend)
    calibration = rules.calibration or bundle.calibration
    own = (
        f", the bundle's own{f' ({why_own})' if why_own else ''}"
        if calibration == bundle.calibration
        else f", activation {rules.activation}"
    )
    return Proof(
        what="calibration", ok=all(its.t_low <= its.t_high for _, its in calibration.maps()),
        said=f"{calibration.id}, t_high {calibration.raised_from}{own}",
        mend="t_low is above t_high: export the bundle again, or roll back",
    )  # fmt: skip


def _peers(settings: Settings) -> Iterator[Proof]:
    for peer in settings.peers:
        if peer.host == "*" or "/" in peer.host:
            continue
        try:
            socket.getaddrinfo(peer.host, None)
        except OSError:
            yield Proof(
                what=f"peer {peer.ae_title}", ok=False, said=f"{peer.host} does not resolve", mend="Write its address instead of a name"
            )


def _port(settings: Settings) -> Iterator[Proof]:
    listener = settings.listener
    probe = socket.socket(socket.AF_INET6 if ":" in listener.host else socket.AF_INET)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with probe:
        try:
            probe.bind((listener.host, listener.port))
            yield Proof(what="listener", ok=True, said=f"{listener.ae_title} can bind {listener.host}:{listener.port}")
        except OSError as error:
            yield Proof(
                what="listener", ok=True, warning=True, said=f"{listener.host}:{listener.port}: {error.strerror}",
                mend="Right when the daemon is running; else choose another listener.port",
            )  # fmt: skip


def _destination(configured: DestinationSection, settings: Settings) -> Proof:
    """It answers, and would take a result of ours in a form that we can send."""
    where = f"{configured.ae_title}@{configured.host}:{configured.port}"
    what = f"destination {configured.name}"
    calling = configured.calling_ae_title or settings.listener.ae_title
    there = Destination(name=configured.name, ae_title=configured.ae_title, host=configured.host, port=configured.port, calling_ae=calling)
    try:
        offer = Sender().offer(there)
    except (Transient, PermanentRefusal) as error:
        mend = f"Is it up, and does it know {calling} at this machine's address? Results are Secondary Captures: it must accept them"
        return Proof(what=what, ok=False, said=f"{where}: {error.reason}", mend=mend)
    echoes = "answers C-ECHO" if offer.echoes else "does not offer Verification"
    if settings.publish.overlay == "off":
        return Proof(
            what=what, ok=offer.echoes, said=f"{where} {echoes} to {calling}; publish.overlay is off, nothing is sent", mend=SET_IT
        )
    if fault := unusable(offer, settings.publish.encoding):
        return Proof(what=what, ok=False, said=f"{where} {echoes} and {fault}", mend=SET_IT)
    return Proof(what=what, ok=True, said=f"{where} {echoes} to {calling} and takes results in {', '.join(offer.result_syntaxes)}")


SET_IT = "Let the PACS accept Secondary Capture Image Storage from us, at best in Explicit VR Little Endian and JPEG Baseline"


def unusable(offer: Offer, encoding: str) -> str:
    """Why no result of ours would be taken, naming what was proposed; empty where it would."""
    if not offer.result_syntaxes:
        return f"accepts no result: {proposed_results()} was proposed"
    if encoding == "native" and not offer.takes_native:
        return f'accepts results in {", ".join(offer.result_syntaxes)} alone, and publish.encoding is "native"'
    return ""
