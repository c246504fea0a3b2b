"""An identity provider as large as a test needs: discovery, authorization with PKCE, signed tokens. Real keys, real HTTP."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Form
from fastapi.responses import JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import RSAKey

from prioritizer.web.server import WebServer

CLIENT = "prioritizer"


@dataclass
class Provider:
    """Whom it signs in, and what it does wrong."""

    who: dict[str, Any] = field(default_factory=lambda: {"sub": "1", "preferred_username": "Ito"})
    wrong: dict[str, Any] = field(default_factory=dict)
    """Claims that it states otherwise than is right."""
    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    other: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    forged: bool = False
    asked: dict[str, dict[str, str]] = field(default_factory=dict)

    def token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce, **self.who, **self.wrong}
        return str(jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.other if self.forged else self.key))


def app_of(provider: Provider) -> FastAPI:
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    def discovery() -> dict[str, Any]:
        return {
            "issuer": provider.url,
            "authorization_endpoint": f"{provider.url}/authorize",
            "token_endpoint": f"{provider.url}/token",
            "jwks_uri": f"{provider.url}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return {"keys": [provider.key.as_dict(private=False)]}

    @app.get("/authorize")
    def authorize(client_id: str, redirect_uri: str, state: str, nonce: str, code_challenge: str) -> Response:
        assert client_id == CLIENT
        code = secrets.token_urlsafe(8)
        provider.asked[code] = {"nonce": nonce, "challenge": code_challenge, "to": redirect_uri}
        return RedirectResponse(f"{redirect_uri}?{urlencode({'code': code, 'state': state})}", 302)

    @app.post("/token")
    def token(code: Annotated[str, Form()], code_verifier: Annotated[str, Form()], redirect_uri: Annotated[str, Form()]) -> Response:
        asked = provider.asked.pop(code, None)
        made = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        if asked is None or made != asked["challenge"] or redirect_uri != asked["to"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": provider.token(asked["nonce"])})

    return app


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider()
    server = WebServer(app_of(provider), "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.port}"
    server.start()
    try:
        yield provider
    finally:
        server.stop()
