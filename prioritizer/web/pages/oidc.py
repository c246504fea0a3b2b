"""Signing in with the site's identity provider (OpenID Connect, authorization code with PKCE), by authlib.

The provider says who somebody is; what they may do here is kept here. Nobody comes in whom an administrator has not let in.
"""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from prioritizer.config.web_sections import Web
from prioritizer.db.accounts import sessions
from prioritizer.errors import ConfigError, Forbidden, NotFound, Transient
from prioritizer.web.http.auth import address_of
from prioritizer.web.http.context import Context, RequestContext
from prioritizer.web.pages.sign_in import inside

routes = APIRouter(prefix="/oidc")
MINUTES_TO_SIGN_IN = 15
NAME = "house"
EMAIL = "email"


def ready(app: FastAPI, web: Web) -> Any:
    """The provider's client, and a signed cookie for the minutes between leaving and coming back. Raises ConfigError."""
    try:
        from authlib.integrations.starlette_client import OAuth
        from starlette.middleware.sessions import SessionMiddleware
    except ImportError as error:
        raise ConfigError(('web.auth is "oidc" and authlib is not installed; pip install "prioritizer[oidc]"',)) from error
    app.add_middleware(
        SessionMiddleware,
        secret_key=secrets.token_urlsafe(32),
        session_cookie="prioritizer_oidc",
        max_age=MINUTES_TO_SIGN_IN * 60,
        path="/oidc",
        same_site="lax",
        https_only=web.secure,
    )
    secret = web.oidc_secret_file.read_text(encoding="utf-8").strip() if web.oidc_secret_file else None
    known = OAuth()
    known.register(
        name=NAME,
        server_metadata_url=f"{web.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_id=web.oidc_client_id,
        client_secret=secret,
        client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256", "timeout": 10.0},
    )
    return known.create_client(NAME)


@routes.get("")
async def leave(context: Context, request: Request, to: str = "/") -> Response:
    """To the provider."""
    client = _client(request)
    request.session["to"] = inside(to)
    try:
        found: Response = await client.authorize_redirect(request, f"{base_of(request, context.backend.configured().web)}/oidc/back")
    except _unreachable() as error:
        raise Transient(f"the identity provider of the site does not answer ({type(error).__name__})") from error
    return found


@routes.get("/back")
async def back(context: Context, request: Request) -> Response:
    """From the provider, with a code. What it says is checked by authlib: signature, issuer, audience, nonce, time."""
    # Where people do not sign in this way there is no session to look into either: not found comes first.
    client, web = _client(request), context.backend.configured().web
    address, to = address_of(request, context.backend.configured()), request.session.pop("to", "/")
    context.limits.begin(None, address)
    try:
        token = await client.authorize_access_token(request)
        told = token.get("userinfo") or {}
    except _refused() as error:
        await run_in_threadpool(sessions.refused, context.engine, "?", address, context.now)
        raise Forbidden("the identity provider did not sign you in; begin again at the list") from error
    except _unreachable() as error:
        context.limits.take_back(None, address)
        raise Transient(f"the identity provider of the site does not answer ({type(error).__name__})") from error
    name = str(told.get(web.oidc_claim, "")).strip().lower()
    if web.oidc_claim == EMAIL and str(told.get("email_verified", "")).lower() != "true":
        # Whoever may write any address into their account there would be anybody here (OpenID Connect Core 5.7).
        await run_in_threadpool(sessions.refused, context.engine, name or "?", address, context.now)
        raise Forbidden("the identity provider has not verified your e-mail address, so it cannot say who you are here")
    try:
        secret = await run_in_threadpool(begin, context, name, address)
    except Transient:
        context.limits.take_back(None, address)
        raise
    context.limits.take_back(None, address)
    response = RedirectResponse(inside(to), 303)
    context.access.let_in(response, secret)
    return response


def begin(context: RequestContext, name: str, address: str) -> str:
    """A session of whom the site named; its secret. Raises Forbidden where nobody of that name was let in."""
    if not name or sessions.by_proxy(context.engine, name) is None:
        sessions.refused(context.engine, name or "?", address, context.now)
        known_as = name or f"nobody with a {context.backend.configured().web.oidc_claim}"
        raise Forbidden(
            f"the identity provider of the site names you {known_as}, and nobody of that name was let "
            "in here; ask an administrator to run `prioritizer people add NAME --role reader`"
        )
    return sessions.begin(context.engine, name, address, context.now)


def base_of(request: Request, web: Web) -> str:
    """How browsers call this site: as configured, or as this one did."""
    asked = str(request.base_url).rstrip("/")
    return web.address.rstrip("/") or (asked.replace("http://", "https://", 1) if web.secure else asked)


def _client(request: Request) -> Any:
    client = request.app.state.identity_provider
    if client is None:
        raise NotFound("people do not sign in by an identity provider here")
    return client


def _unreachable() -> tuple[type[Exception], ...]:
    """What the HTTP library of authlib raises where nobody answers."""
    from httpx2 import HTTPError

    return (OSError, HTTPError)


def _refused() -> tuple[type[Exception], ...]:
    """What authlib and the library that checks its tokens raise for a word that is not good."""
    from authlib.common.errors import AuthlibBaseError
    from joserfc.errors import JoseError

    return (AuthlibBaseError, JoseError, ValueError, KeyError)
