"""Signing in over HTTP as browsers, programs and attackers do it."""

from __future__ import annotations

import html
import re
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from prioritizer.access import May, Role
from prioritizer.config.settings import Settings
from prioritizer.config.web_sections import Web
from prioritizer.db.accounts import people, sessions
from prioritizer.db.schema import connect, migrations
from prioritizer.db.schema.tables import events
from prioritizer.web.app import PARTS, page_app
from prioritizer.web.http.auth import COOKIE
from prioritizer.web.http.backend import Backend
from prioritizer.web.pages.sign_in import inside
from prioritizer.web.server import WebServer
from tests.support.ledgers import NOW, film, receive
from tests.support.pacs import program
from tests.support.page_client import backend_of

PASSWORD = "four grey herons fly"
OTHER = "another long sentence"
PATIENCE_S = 60.0
"""It bounds a hang on a busy machine, and proves nothing about speed."""
request = partial(httpx.request, timeout=PATIENCE_S)
get, post = partial(request, "GET"), partial(request, "POST")


@dataclass
class Room:
    """A page that answers on loopback, with a clock that stands still until it is moved."""

    url: str
    backend: Backend
    clock: list[timedelta]
    web: list[Web]
    browsers: list[httpx.Client] = field(default_factory=list)

    @property
    def engine(self) -> sa.Engine:
        return self.backend.engine

    def browser(self, name: str = "") -> httpx.Client:
        """A browser, signed in where a name is given; it says where its requests come from, as all do."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, headers={"Origin": self.url, "Sec-Fetch-Site": "same-origin"})
        self.browsers.append(client)
        if name:
            assert client.post("/sign-in", data={"name": name, "password": PASSWORD}).status_code == 303
        return client

    def let_in(self, name: str, role: Role = Role.READER) -> str:
        return people.accept(self.engine, people.invite(self.engine, name, role, "boss", NOW), name, PASSWORD, NOW)

    def kinds(self) -> list[str]:
        with connect.reading(self.engine) as tx:
            return list(tx.scalars(sa.select(events.c.kind).order_by(events.c.id)))


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    engine = connect.open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    migrations.upgrade(engine)
    receive(engine, film())
    clock, web = [timedelta(0)], [Web()]
    backend = backend_of(engine, settings=lambda: Settings(web=web[0]), now=lambda: NOW + clock[0])
    server = WebServer(page_app(backend), "127.0.0.1", 0)
    server.start()
    found = Room(f"http://127.0.0.1:{server.port}", backend, clock, web)
    yield found
    for client in found.browsers:
        client.close()
    server.stop()
    engine.dispose()


@pytest.mark.parametrize("path", ["/", "/study/1.2.3", "/account", "/people", "/?order=arrival&view=read"])
def test_a_stranger_is_sent_to_sign_in_and_back(room: Room, path: str):
    room.let_in("ito", Role.ADMIN)
    client = room.browser()
    answer = client.get(path)
    assert answer.status_code == 303
    form = client.get(answer.headers["location"])
    to = re.search(r'name="to" value="([^"]*)"', form.text)
    assert to is not None
    data = {"name": "ito", "password": PASSWORD, "to": to.group(1).replace("&amp;", "&")}
    assert client.post("/sign-in", data=data).headers["location"] == path


@pytest.mark.parametrize("path", ["/api/worklist", "/api/worklist?order=arrival"])
def test_a_stranger_gets_a_problem_from_the_api(room: Room, path: str):
    answer = get(room.url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.json()["code"] == "PRI-6003"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/static/prioritizer.css", "/sign-in"])
def test_what_needs_no_sign_in(room: Room, path: str):
    assert get(room.url + path).status_code == 200


def test_every_route_is_behind_a_right_or_named_here(room: Room):
    """A new page that forgets to ask is found."""
    open_to_all = {"/sign-in", "/sign-out", "/welcome/{secret}", "/metrics", "/healthz", "/readyz", "/static", "/oidc", "/oidc/back"}
    asked = 0
    every = {route.path for part in PARTS for route in part.routes.routes if isinstance(route, APIRoute)} - open_to_all
    for path in sorted(every - {"/api/{rest:path}"}):
        address = re.sub(r"\{[^}]*\}", "disable", path)
        for method in ("GET", "POST"):
            answer = request(method, room.url + address)
            if answer.status_code == 404 and path.startswith("/api/"):
                assert method in ("GET", "POST"), "a program is told that this is not asked that way"
            elif answer.status_code != 405:
                asked += 1
                assert answer.status_code in (303, 401), f"{method} {path} answered {answer.status_code}"
                assert "/sign-in" in answer.headers.get("location", "/sign-in")
    assert asked >= 25


def test_the_first_administrator_comes_by_a_link_once(room: Room):
    secret = people.invite(room.engine, "", Role.ADMIN, "prioritizer", NOW)
    client = room.browser()
    assert "first administrator" in client.get(f"/welcome/{secret}").text
    answer = client.post(f"/welcome/{secret}", data={"name": "Ito", "password": PASSWORD, "again": "different"})
    assert answer.status_code == 422
    assert "differ" in answer.text
    assert client.post(f"/welcome/{secret}", data={"name": "Ito", "password": PASSWORD, "again": PASSWORD}).status_code == 303
    assert client.get("/people").status_code == 200
    assert room.browser().get(f"/welcome/{secret}").status_code == 409


@pytest.mark.parametrize(
    ("name", "password"), [("ito", "wrong password!"), ("nobody", PASSWORD), ("", ""), ("' OR 1=1 --", "x"), ("ito", "")]
)
def test_wrong_names_and_wrong_passwords_get_the_same_answer(room: Room, name: str, password: str):
    room.let_in("ito")
    answer = room.browser().post("/sign-in", data={"name": name, "password": password})
    assert answer.status_code == 401
    assert "do not fit together" in answer.text
    assert COOKIE not in answer.headers.get("set-cookie", "")
    assert "sign-in-refused" in room.kinds()


def test_the_browser_gets_a_secret_of_ours_and_never_the_one_it_sent(room: Room):
    room.let_in("ito")
    client = room.browser()
    client.cookies.set(COOKIE, "chosen-by-an-attacker")
    answer = client.post("/sign-in", data={"name": "ito", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "chosen-by-an-attacker" not in cookie
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
    assert get(room.url, cookies={COOKIE: "chosen-by-an-attacker"}).status_code == 303
    again = room.browser("ito").cookies[COOKIE]
    assert again != re.search(rf"{COOKIE}=([^;]+)", cookie).group(1)  # type: ignore[union-attr]


def test_a_stolen_cookie_is_worth_nothing_after_signing_out(room: Room):
    room.let_in("ito")
    client = room.browser("ito")
    stolen = client.cookies[COOKIE]
    assert get(room.url, cookies={COOKIE: stolen}).status_code == 200
    assert client.post("/sign-out").status_code == 303
    assert get(room.url, cookies={COOKIE: stolen}).status_code == 303


@pytest.mark.parametrize(("later", "status"), [(29, 200), (31, 303)])
def test_a_session_ends_by_itself(room: Room, later: int, status: int):
    room.let_in("ito")
    client = room.browser("ito")
    room.clock[0] = timedelta(minutes=later)
    assert client.get("/").status_code == status


def test_failed_sign_ins_are_slowed_down_for_one_place_and_not_for_others(room: Room):
    room.web[0] = Web(behind_proxy=True)
    room.let_in("ito")
    there, here = ({"Origin": room.url, "X-Forwarded-For": address} for address in ("203.0.113.9", "10.1.2.3"))

    def attempt(headers: dict[str, str], password: str) -> httpx.Response:
        return post(f"{room.url}/sign-in", data={"name": "ito", "password": password}, headers=headers)

    assert [attempt(there, "wrong").status_code for _ in range(11)] == [401] * 10 + [429]
    refused = attempt(there, PASSWORD)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert attempt(here, PASSWORD).status_code == 303


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("path", ["/sign-out", "/account/tokens", "/people", "/people/ito/disable", "/sign-in"])
def test_what_another_site_sends_is_refused(room: Room, path: str):
    room.let_in("ito", Role.ADMIN)
    room.let_in("chief", Role.ADMIN)
    client = room.browser("ito")
    client.headers.clear()
    data = {"name": "ito", "password": PASSWORD, "role": "admin", "purpose": "x", "scopes": "see"}
    for headers in FOREIGN:
        assert client.post(path, data=data, headers=headers).status_code == 403, headers
    assert client.get("/people", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200, "a link from elsewhere may be followed"
    assert not sessions.listed_tokens(room.engine)
    assert all(row.disabled_at is None for row in people.listed(room.engine))


@pytest.mark.parametrize(
    ("to", "goes"),
    [
        ("/study/1.2", "/study/1.2"), ("https://evil.example", "/"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("", "/"),
        ("javascript:alert(1)", "/"),
    ],
)  # fmt: skip
def test_after_signing_in_nobody_is_sent_elsewhere(to: str, goes: str):
    assert inside(to) == goes


@pytest.mark.parametrize(("role", "status"), [(Role.READER, 403), (Role.PHYSICIST, 403), (Role.ADMIN, 200)])
def test_people_are_for_administrators(room: Room, role: Role, status: int):
    room.let_in("ito", role)
    client = room.browser("ito")
    assert client.get("/people").status_code == status
    assert (client.post("/people", data={"name": "new", "role": "admin"}).status_code == 200) == (status == 200)
    assert client.post("/people/ito/sign-out").status_code == (303 if status == 200 else 403)


def test_an_administrator_invites_by_a_link(room: Room):
    room.let_in("ito", Role.ADMIN)
    page = room.browser("ito").post("/people", data={"name": "Berg", "role": "reader"})
    found = re.search(r'class="secret">([^<]+)<', page.text)
    assert found is not None
    client = room.browser()
    assert client.post(found.group(1), data={"password": PASSWORD, "again": PASSWORD}).status_code == 303
    assert client.get("/").status_code == 200
    assert client.get("/people").status_code == 403


def test_a_new_password_ends_the_other_sessions(room: Room):
    room.let_in("ito")
    here, there = room.browser("ito"), room.browser("ito")
    wrong = {"old": "wrong", "password": OTHER, "again": OTHER}
    assert here.post("/account/password", data=wrong).status_code == 422
    assert there.get("/").status_code == 200
    assert here.post("/account/password", data={**wrong, "old": PASSWORD}).status_code == 200
    assert here.get("/").status_code == 200
    assert there.get("/").status_code == 303


def test_a_token_is_shown_once_and_carries_its_scopes_only(room: Room):
    room.let_in("ito", Role.ADMIN)
    client = room.browser("ito")
    page = client.post("/account/tokens", data={"purpose": "export", "days": "3", "scopes": ["see"]})
    secret = re.search(r"prio_[\w-]+", page.text)
    assert secret is not None
    assert secret.group() not in client.get("/account").text
    bearer = {"Authorization": f"Bearer {secret.group()}"}
    assert get(f"{room.url}/api/worklist", headers=bearer).status_code == 200
    assert get(f"{room.url}/people", headers=bearer).status_code == 403
    assert post(f"{room.url}/account/tokens", data={"purpose": "more", "scopes": "see"}, headers=bearer).status_code == 403
    row = sessions.listed_tokens(room.engine)[0]
    assert client.post(f"/account/tokens/{row.id}/revoke").status_code == 303
    assert get(f"{room.url}/api/worklist", headers=bearer).status_code == 401


def test_a_program_makes_and_ends_nothing_that_lets_people_in(room: Room):
    room.let_in("boss", Role.ADMIN)
    room.let_in("ito")
    secret, row = sessions.make_token(room.engine, "boss", "people", list(May), "boss", NOW, timedelta(days=1))
    bearer = {"Authorization": f"Bearer {secret}"}
    for path, data in (
        ("/people", {"name": "root", "role": "admin"}), ("/people/ito/role", {"role": "admin"}), ("/people/ito/enable", {}),
        ("/account/tokens", {"purpose": "more", "scopes": "see"}), (f"/account/tokens/{row.id}/revoke", {}),
        ("/account/password", {"old": PASSWORD, "password": OTHER, "again": OTHER}), ("/account/theme", {"theme": "light"}),
    ):  # fmt: skip
        answer = post(room.url + path, data=data, headers=bearer)
        assert (answer.status_code, "not with a token" in answer.text) == (403, True), path
    assert [(found.name, found.role) for found in people.listed(room.engine)] == [("boss", "admin"), ("ito", "reader")]
    assert post(f"{room.url}/people/ito/disable", headers=bearer).status_code == 303, "to take away needs no person: somebody leaves"


@pytest.mark.parametrize(
    ("page", "goes"),
    [
        ("/study/1.2.3?list=order%3Darrival", "/study/1.2.3?list=order%3Darrival"), ("/people", "/people"), ("/?view=read&at=1.2", "/?view=read&at=1.2"),
        ("/study/1.2.3/read", "/"), ("/nothing/here", "/"), ("", "/"),
    ],
)  # fmt: skip
def test_a_step_after_the_sign_in_ended_is_told_to_be_lost_and_leads_back(room: Room, page: str, goes: str):
    room.let_in("ito")
    client = room.browser("ito")
    room.clock[0] = timedelta(minutes=31)
    answer = client.post("/study/1.2.3/read", headers={"Referer": room.url + page} if page else {})
    form = client.get(answer.headers["location"])
    assert "what you just did was NOT done" in form.text
    hidden = {key: html.unescape(value) for key, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text)}
    wrong = client.post("/sign-in", data={"name": "ito", "password": "wrong", **hidden})
    assert "what you just did was NOT done" in wrong.text
    assert client.post("/sign-in", data={"name": "ito", "password": PASSWORD, **hidden}).headers["location"] == goes
    assert "read" not in room.kinds()


def test_a_page_of_another_site_does_not_say_where_to_go_on(room: Room):
    answer = post(f"{room.url}/study/1.2.3/read", headers={"Referer": "https://evil.example/people"})
    assert answer.headers["location"] == "/sign-in?to=%2F&lost=true"


def test_who_only_looks_is_not_told_of_a_step(room: Room):
    client = room.browser()
    assert "NOT done" not in client.get(client.get("/study/1.2.3").headers["location"]).text


def test_a_bad_token_is_not_helped_by_a_cookie(room: Room):
    room.let_in("ito")
    client = room.browser("ito")
    assert client.get("/api/worklist", headers={"Authorization": "Bearer prio_stolen-and-revoked"}).status_code == 401


def test_a_token_ends(room: Room):
    room.let_in("ito")
    secret, _ = sessions.make_token(room.engine, "ito", "x", [May.SEE], "ito", NOW, timedelta(days=1))
    bearer = {"Authorization": f"Bearer {secret}"}
    assert get(f"{room.url}/api/worklist", headers=bearer).status_code == 200
    room.clock[0] = timedelta(days=1)
    assert get(f"{room.url}/api/worklist", headers=bearer).status_code == 401


def test_a_proxy_is_believed_only_where_it_stands(room: Room):
    people.add(room.engine, "ito", Role.READER, "boss", NOW)
    named = {"X-Forwarded-User": "Ito"}
    assert get(room.url, headers=named).status_code == 303, "nobody said that there is a proxy"
    room.web[0] = Web(auth="proxy", behind_proxy=True, proxies=("10.9.9.9",))
    assert get(room.url, headers=named).status_code == 303, "it does not come from the proxy"
    room.web[0] = Web(auth="proxy", behind_proxy=True, proxies=("127.0.0.0/8",))
    assert get(room.url, headers=named).status_code == 200
    assert get(room.url, headers={"X-Forwarded-User": "stranger"}).status_code == 303
    assert get(room.url).status_code == 303
    assert "proxy of the site" in get(f"{room.url}/sign-in").text


def test_who_opened_a_study_is_recorded_by_name(room: Room):
    room.let_in("ito")
    room.browser("ito").get("/study/1.2.3")
    with connect.reading(room.engine) as tx:
        assert tx.scalar(sa.select(events.c.actor).where(events.c.kind == "opened")) == "ito"


def test_what_people_type_is_never_markup(room: Room):
    room.let_in("ito", Role.ADMIN)
    client, markup = room.browser("ito"), "<script>alert(1)</script>"
    pages = [
        client.post("/account/tokens", data={"purpose": markup, "scopes": "see"}).text,
        client.get("/people").text,
        client.post("/sign-in", data={"name": markup, "password": "x"}).text,
        client.get("/sign-in", params={"to": '"><script>'}).text,
        client.get(f"/welcome/{markup}").text,
    ]
    assert not [page for page in pages if "<script>" in page]


def test_secure_cookies_where_the_site_speaks_tls(room: Room):
    room.let_in("ito")
    room.web[0] = Web(behind_proxy=True)
    answer = room.browser().post("/sign-in", data={"name": "ito", "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_do_nothing(room: Room, method: str):
    assert request(method, f"{room.url}/people/ito/disable").status_code == 405


def test_the_page_speaks_tls(room: Room, tmp_path: Path):
    openssl = program("openssl")
    certificate, key = tmp_path / "page.pem", tmp_path / "key.pem"
    asked = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=page", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *asked, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    room.let_in("ito")
    room.web[0] = Web(tls_certificate=certificate, tls_key=key)
    server = WebServer(page_app(room.backend), "127.0.0.1", 0, certificate, key)
    server.start()
    try:
        url = f"https://127.0.0.1:{server.port}"
        with httpx.Client(
            base_url=url, verify=ssl.create_default_context(cafile=str(certificate)), headers={"Origin": url}, timeout=PATIENCE_S
        ) as client:
            answer = client.post("/sign-in", data={"name": "ito", "password": PASSWORD})
            assert answer.status_code == 303
            assert "Secure" in answer.headers["set-cookie"]
            assert client.get("/").status_code == 200
    finally:
        server.stop()
