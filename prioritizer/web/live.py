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
from prioritizer.web.desk import Listening, at_desk

routes = APIRouter()
KEEP_ALIVE_S = 10.0


@routes.get("/live")
async def live(person: Listening, request: Request) -> StreamingResponse:
    """Server-sent events: `changed` when there is something to ask for, `still` every ten seconds."""
    return StreamingResponse(told(request), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def told(request: Request) -> AsyncIterator[str]:
    """The lines of one stream, until the browser leaves, the sign-in ends or the daemon does."""
    desk = at_desk(request)
    ear = desk.pulse.join()
    if ear is None:
        yield "event: full\ndata: too many pages listen; this one asks by itself\n\n"
        return
    try:
        # Whatever happened while the page was on its way: the first thing it does is ask.
        yield "retry: 3000\nevent: changed\ndata: \n\n"
        while not desk.pulse.over:
            try:
                await asyncio.wait_for(ear.event.wait(), KEEP_ALIVE_S)
                said = "changed"
            except TimeoutError:
                said = "still"
            ear.event.clear()
            if not await asyncio.to_thread(_may_still, request):
                yield "event: signed-out\ndata: \n\n"
                return
            if said == "still" and not desk.pulse.sees:
                yield ": nothing is known now\n\n"
                continue
            yield f"event: {said}\ndata: \n\n"
    finally:
        desk.pulse.leave(ear)


def _may_still(request: Request) -> bool:
    """Listening is not being there: it does not make a sign-in last longer."""
    try:
        person = at_desk(request).door.recognise(request, touch=False)
    except Transient:
        return True
    return person is not None and person.may(May.SEE)
