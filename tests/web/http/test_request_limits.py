"""What strangers can take of the page's memory, disk, threads, sockets and ledger: little, and for a short time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from prioritizer.access import May, Role
from prioritizer.config.settings import Settings
from prioritizer.config.web_sections import Web
from prioritizer.db.accounts import people, sessions
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import events
from prioritizer.errors import TooManyTries
from prioritizer.web.app import page_app
from prioritizer.web.http import connection_limits, request_limits
from prioritizer.web.http.auth import PER_ADDRESS, PER_NAME_AND_ADDRESS, SignInLimits
from prioritizer.web.http.connection_limits import most_connections, place_of
from prioritizer.web.pages import upload
from prioritizer.web.server import WebServer
from tests.support.ledgers import NOW, together
from tests.support.page_client import backend_of

PASSWORD = "four grey herons fly"
PATIENCE_S = 60.0


@contextmanager
def serving(ledger: sa.Engine, **other: Any) -> Iterator[str]:
    """The page on loopback."""
    server = WebServer(page_app(backend_of(ledger, now=lambda: NOW, **other)), "127.0.0.1", 0)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()


def let_in(ledger: sa.Engine, name: str = "ito") -> str:
    return people.accept(ledger, people.invite(ledger, name, Role.READER, "boss", NOW), name, PASSWORD, NOW)


def bearer(ledger: sa.Engine, *scopes: May) -> dict[str, str]:
    secret, _ = sessions.make_token(ledger, "ito", "tests", scopes, "tests", NOW, timedelta(days=1))
    return {"Authorization": f"Bearer {secret}"}


def how_many(ledger: sa.Engine, kind: str) -> int:
    with connect.reading(ledger) as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(events).where(events.c.kind == kind)) or 0


def post(url: str, **more: Any) -> httpx.Response:
    return httpx.post(url, timeout=PATIENCE_S, headers=more.pop("headers", {"Sec-Fetch-Site": "same-origin"}), **more)


# --- passwords --------------------------------------------------------------------------------------------------------


def test_of_guesses_at_once_no_more_are_tried_than_may_fail(ledger: sa.Engine):
    let_in(ledger)
    with serving(ledger) as url:

        def guess() -> int:
            return post(f"{url}/sign-in", data={"name": "ito", "password": "a wrong password"}).status_code

        answers = together(*[guess] * 30)
        answers += [guess() for _ in range(12)]
        assert set(answers) <= {401, 429}
        assert answers[-1] == 429
        assert how_many(ledger, "sign-in-refused") == answers.count(401) == PER_NAME_AND_ADDRESS.amount
        refused = post(f"{url}/sign-in", data={"name": "ito", "password": PASSWORD})
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 300


def test_who_signs_in_is_not_counted(ledger: sa.Engine):
    let_in(ledger)
    with serving(ledger) as url:
        data = {"name": "ito", "password": PASSWORD}
        assert {post(f"{url}/sign-in", data=data).status_code for _ in range(PER_NAME_AND_ADDRESS.amount + 2)} == {303}


def test_guesses_at_one_name_do_not_use_up_the_tries_of_the_place():
    limits, refused = SignInLimits(), 0
    for _ in range(PER_ADDRESS.amount):
        try:
            limits.begin("ito", "10.0.0.1")
        except TooManyTries:
            refused += 1
    assert refused == PER_ADDRESS.amount - PER_NAME_AND_ADDRESS.amount
    for number in range(refused):
        limits.begin(f"colleague {number}", "10.0.0.1")
    with pytest.raises(TooManyTries):
        limits.begin("the last", "10.0.0.1")
    limits.begin("the last", "10.0.0.2")


def test_while_many_passwords_are_looked_at_one_is_told_to_come_again(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    let_in(ledger)
    monkeypatch.setattr(people, "AT_ONCE", held := BoundedSemaphore(1))
    monkeypatch.setattr(people, "PATIENCE_S", 0.05)
    data = {"name": "ito", "password": PASSWORD}
    with serving(ledger) as url:
        assert held.acquire()
        for _ in range(PER_NAME_AND_ADDRESS.amount + 2):
            busy = post(f"{url}/sign-in", data=data)
            assert (busy.status_code, busy.headers["retry-after"]) == (429, "3")
            assert "many people are signing in" in busy.text
        held.release()
        assert post(f"{url}/sign-in", data=data).status_code == 303, "what was not tried did not count"


def test_the_old_password_is_guessed_no_more_often_than_at_the_door(ledger: sa.Engine):
    let_in(ledger)
    cookies = {"prioritizer_session": sessions.begin(ledger, "ito", "127.0.0.1", NOW)}
    wrong = {"old": "a wrong password", "password": "another long sentence", "again": "another long sentence"}
    with serving(ledger) as url:
        answers = [post(f"{url}/account/password", data=wrong, cookies=cookies).status_code for _ in range(11)]
        assert answers == [422] * 10 + [429]
        assert post(f"{url}/account/password", data={**wrong, "old": PASSWORD}, cookies=cookies).status_code == 429
    assert people.check_password(ledger, "ito", PASSWORD)
    assert how_many(ledger, "sign-in-refused") == 10


# --- files ------------------------------------------------------------------------------------------------------------


def file_of(length: int) -> Iterator[bytes]:
    """A form with a file, a little at a time: nobody is told how long it is."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'
    for _ in range(length // 4096):
        yield b"\0" * 4096
    yield b"\r\n--x--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(("path", "status"), [("/try", 303), ("/api/try", 401)])
def test_of_a_strangers_file_nothing_is_read(ledger: sa.Engine, path: str, status: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(request_limits.Body, "__call__", None)
    with serving(ledger) as url:
        assert half_a_post(url, path).startswith(f"HTTP/1.1 {status} ")


def begun_upload(url: str, path: str, **headers: str) -> socket.socket:
    """An upload of which only the beginning was sent."""
    host, port = url.removeprefix("http://").split(":")
    said = {"Host": host, "Transfer-Encoding": "chunked"} | FORM | headers
    sender = socket.create_connection((host, int(port)), timeout=20)
    lines = [f"POST {path} HTTP/1.1", *(f"{key}: {value}" for key, value in said.items()), "", "5", "--x\r\n", ""]
    sender.sendall("\r\n".join(lines).encode())
    return sender


def answer_of(sender: socket.socket, within: float) -> str:
    """The head of the answer; empty where none comes."""
    sender.settimeout(within)
    try:
        return sender.recv(4096).decode()
    except TimeoutError:
        return ""


def half_a_post(url: str, path: str, **headers: str) -> str:
    """What is answered to an upload that does not go on."""
    with begun_upload(url, path, **headers) as sender:
        return answer_of(sender, 20)


def taken_upload(url: str, path: str, **headers: str) -> socket.socket:
    """An upload that is waited for: it has a place."""
    deadline = time.monotonic() + 20
    while answer_of(sender := begun_upload(url, path, **headers), 1):
        sender.close()
        assert time.monotonic() < deadline
    return sender


def test_of_a_file_from_somebody_without_the_right_nothing_is_read(ledger: sa.Engine):
    let_in(ledger)
    with serving(ledger) as url:
        answer = half_a_post(url, "/api/try", **bearer(ledger, May.SEE))
        assert answer.startswith("HTTP/1.1 403 ")
        assert "application/problem+json" in answer


def test_no_more_files_are_taken_than_are_tried_at_once(ledger: sa.Engine):
    let_in(ledger)
    with serving(ledger, trial=lambda: lambda data, ignore_scope: None) as url, ExitStack() as stack:
        headers = bearer(ledger, May.TRY)
        slow = [stack.enter_context(taken_upload(url, "/api/try", **headers)) for _ in range(3)]
        assert half_a_post(url, "/api/try", **headers).startswith("HTTP/1.1 503 ")
        assert "several files" in post(f"{url}/api/try", headers=headers, files={"file": ("a.png", b"x")}).json()["detail"]
        slow.pop().close()
        stack.enter_context(taken_upload(url, "/api/try", **headers))  # who left gives the place back


def test_a_body_that_does_not_come_is_given_up(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(request_limits, "BODY_S", 0.3)
    monkeypatch.setattr(request_limits, "SLOWEST", 1 << 40)
    let_in(ledger)
    with serving(ledger) as url:
        answer = half_a_post(url, "/api/try", **bearer(ledger, May.TRY))
        assert answer.startswith("HTTP/1.1 408 ")
        assert "application/problem+json" in answer
        assert half_a_post(url, "/sign-in").startswith("HTTP/1.1 408 ")


def test_a_file_of_somebody_who_may_is_read_and_its_place_is_free_again(ledger: sa.Engine):
    let_in(ledger)
    seen: list[int] = []

    def trying(data: bytes, *, ignore_scope: bool) -> None:
        seen.append(len(data))
        raise upload.NotAllowed("a test looked at it")

    with serving(ledger, trial=lambda: trying) as url:
        headers = bearer(ledger, May.TRY) | FORM
        for _ in range(5):
            assert post(f"{url}/api/try", content=file_of(1 << 20), headers=headers).status_code == 409
    assert seen == [1 << 20] * 5


# --- connections ------------------------------------------------------------------------------------------------------


def half_a_head(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    found = socket.create_connection((host, int(port)), timeout=20)
    found.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    return found


def is_closed(one: socket.socket, within: float = 10.0) -> bool:
    """True where the other side ends it within so many seconds."""
    one.settimeout(within)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_half_a_request_is_waited_for_a_while_only(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection_limits, "REQUEST_S", 0.5)
    with serving(ledger) as url, half_a_head(url) as one:
        one.sendall(b"X-More: 1\r\n")
        assert is_closed(one)


def test_a_second_request_is_waited_for_as_long_and_an_answer_as_it_takes(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection_limits, "REQUEST_S", 0.5)

    def ready() -> list[str]:
        time.sleep(1.5)
        return []

    with serving(ledger, faults=ready) as url, half_a_head(url) as one:
        one.sendall(b"\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while b"ready" not in said:
            said += one.recv(4096)
        one.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert is_closed(one)


def test_an_open_stream_is_no_late_request(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection_limits, "REQUEST_S", 0.2)
    monkeypatch.setattr("prioritizer.web.live.event_stream.KEEP_ALIVE_S", 0.5)
    let_in(ledger)
    with serving(ledger) as url, httpx.stream("GET", f"{url}/live", headers=bearer(ledger, May.SEE), timeout=PATIENCE_S) as stream:
        lines = stream.iter_lines()
        assert [line for line, _ in zip(lines, range(9), strict=False)].count("event: still") >= 2


@pytest.mark.parametrize(("all_of_them", "of_one"), [(4, 100), (100, 4)])
def test_so_many_connections_and_no_more(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch, all_of_them: int, of_one: int):
    monkeypatch.setattr(connection_limits, "MAX_COUNT", all_of_them)
    monkeypatch.setattr(connection_limits, "MAX_OF_ONE_ADDRESS", of_one)
    with serving(ledger) as url, ExitStack() as stack:
        held = [stack.enter_context(half_a_head(url)) for _ in range(4)]
        with half_a_head(url) as one_more:
            assert is_closed(one_more)
        assert not is_closed(held[0], 0.3)
        for one in held:
            one.close()
        assert httpx.get(f"{url}/healthz", timeout=PATIENCE_S).status_code == 200


def test_a_proxy_of_the_house_brings_everybody(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection_limits, "MAX_OF_ONE_ADDRESS", 1)
    with serving(ledger, settings=lambda: Settings(web=Web(behind_proxy=True))) as url, ExitStack() as stack:
        held = [stack.enter_context(half_a_head(url)) for _ in range(4)]
        assert not is_closed(held[-1], 0.3)


def test_half_of_the_files_are_left_to_the_listener_and_the_ledger(monkeypatch: pytest.MonkeyPatch):
    for files, most in (
        (256, 128),
        (1 << 20, connection_limits.MAX_COUNT),
        (connection_limits.resource.RLIM_INFINITY, connection_limits.MAX_COUNT),
    ):
        monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda which, files=files: (files, files))
        assert most_connections() == most


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False), ("10.0.0.1", "::ffff:10.0.0.1", True), ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False), ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False), ("a name", "another", False),
    ],
)  # fmt: skip
def test_what_is_one_address(one: str, other: str, same: bool):
    assert (place_of(one) == place_of(other)) is same


# --- what programs are told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "length", "status"), [("/next", 0, 403), ("/next?q=%00", 0, 400), ("/next", 300_000, 413)])
def test_programs_are_told_why_in_their_language_and_people_in_words(ledger: sa.Engine, path: str, length: int, status: int):
    let_in(ledger)
    headers = {"Sec-Fetch-Site": "cross-site"} if status == 403 else bearer(ledger, May.SEE, May.READ)
    with serving(ledger) as url:
        program, person = (post(url + before + path, headers=headers, content=b"x" * length) for before in ("/api", ""))
    assert (program.status_code, program.headers["content-type"]) == (status, "application/problem+json")
    assert program.json() == {"type": "about:blank", "title": program.json()["title"], "status": status, "detail": person.text}
    assert program.headers["content-security-policy"].startswith("default-src 'none'")
    assert (person.status_code, person.headers["content-type"]) == (status, "text/plain; charset=utf-8")


def test_a_body_that_hides_its_length_is_no_larger(ledger: sa.Engine):
    with serving(ledger) as url:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert post(f"{url}/sign-in", headers=form, content=iter([b"name=" + b"x" * 300_000])).status_code == 413
