"""The stream that tells a page that something changed.

It carries no row and no name, only that there is something to ask for. Its keep-alive shows the page that it is live; a page that
hears nothing says so and asks by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from prioritizer.access import May
from prioritizer.errors import Transient
from prioritizer.web.http.context import BackgroundViewer, context_of
from prioritizer.web.live.change_feed import Ear

routes = APIRouter()
KEEP_ALIVE_S = 10.0
FULL = "retry: 60000\nevent: full\ndata: too many pages listen; this one asks by itself\n\n"
"""A browser that comes back at once would only push out another page of the same person."""


@routes.get("/live")
async def live(person: BackgroundViewer, request: Request) -> StreamingResponse:
    """Server-sent events: `changed` when there is something to ask for, `still` every ten seconds."""
    lines = told(request, f"{person.name} {person.token}")
    return StreamingResponse(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def told(request: Request, who: str) -> AsyncIterator[str]:
    """The lines of one stream, until the browser leaves, the sign-in ends, the daemon does, or `who` opened too many pages after it."""
    context = context_of(request)
    ear = context.change_feed.join(who)
    if ear is None:
        yield FULL
        return
    try:
        # Whatever happened while the page was on its way: the first thing it does is ask.
        yield "retry: 3000\nevent: changed\ndata: \n\n"
        while not context.change_feed.over:
            said = await _heard(ear)
            if ear.closed:
                yield FULL
                return
            if not await asyncio.to_thread(_may_still, request):
                yield "event: signed-out\ndata: \n\n"
                return
            if said == "still" and not context.change_feed.sees:
                yield ": nothing is known now\n\n"
                continue
            yield f"event: {said}\ndata: \n\n"
    finally:
        context.change_feed.leave(ear)


async def _heard(ear: Ear) -> str:
    try:
        await asyncio.wait_for(ear.event.wait(), KEEP_ALIVE_S)
    except TimeoutError:
        return "still"
    finally:
        ear.event.clear()
    return "changed"


def _may_still(request: Request) -> bool:
    """Listening is not being there: it does not make a sign-in last longer."""
    try:
        person = context_of(request).access.recognise(request, touch=False)
    except Transient:
        return True
    return person is not None and person.may(May.SEE)
