"""The sections of the configuration file that concern the page: `web` and `viewer`."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from prioritizer.config.sections import ConfigSection, Port, TimeZone

VIEWER_FIELDS = frozenset({"study_uid", "accession_number", "patient_id"})
REFUSED_SCHEMES = ("javascript", "data", "vbscript", "file", "blob")
"""Schemes that would run or show something of ours, or of the reader's disk."""


class Viewer(ConfigSection):
    """A viewer of the site that a study is opened in, in a window of its own that is used again. The first is the first choice."""

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


class Web(ConfigSection):
    """The page and the figures."""

    host: str = "127.0.0.1"
    """Address to bind. Anything but loopback needs tls_certificate and tls_key, or behind_proxy."""
    port: Port = 8042
    """TCP port; 0 takes a free one, for tests."""
    time_zone: TimeZone = ""
    """IANA name such as Europe/Berlin for the times on pages and the months of the board; empty: site.time_zone."""
    auth: Literal["local", "proxy", "oidc"] = "local"
    """local: names and passwords of prioritizer. proxy: a proxy of the site signs people in and names them in `proxy_header`.
    oidc: the identity provider of the site does, by OpenID Connect."""
    address: str = Field(default="", pattern=r"^(https?://[^/\s]+)?$")
    """How browsers reach the page, such as https://prioritizer.hospital.example; empty: as each of them asks."""
    behind_proxy: bool = False
    """A proxy of the site stands before the page and speaks TLS to the browsers."""
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
