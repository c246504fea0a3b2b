"""The films of the study that comes next, made ready while its reader has the one before.

Nothing is claimed by it and nobody has looked: it is written down when the study is opened, as ever. One study is prepared at a time and
none while images wait for their score: patients' films go first.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prioritizer.errors import PrioritizerError
from prioritizer.imaging.display import Shown

MAX_BYTES = 96 << 20
MAX_READERS = 500
KEPT_S = 600.0
"""Pixels that leave the spool leave here soon after."""
T = TypeVar("T", Shown, bytes)


class ImageSource(Protocol):
    """Where films come from."""

    def film(self, sop_instance_uid: str) -> Shown:
        """A film with all its tones."""

    def display(self, sop_instance_uid: str) -> bytes:
        """The same in the header's window, PNG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A picture and when it was made."""

    picture: Shown | bytes
    at: float

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.picture if isinstance(self.picture, bytes) else self.picture.png)


class Prefetch:
    """Pictures that were made before they were asked for, and those asked for just now; the oldest leave."""

    def __init__(self, most_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most_bytes, clock
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._open: OrderedDict[str, tuple[str, Callable[[], Sequence[str]]]] = OrderedDict()
        self._lock = threading.Lock()
        self._at_work = threading.BoundedSemaphore(1)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def film(self, films: ImageSource, uid: str) -> Shown:
        """A film, made now where it is not here. Raises what the maker raises."""
        return self._get("film", uid, films.film)

    def display(self, films: ImageSource, uid: str) -> bytes:
        """The same in its own window."""
        return self._get("display", uid, films.display)

    def opened(self, reader: str, study_uid: str, following: Callable[[], Sequence[str]]) -> None:
        """A reader opened a study; `following`: the films of the one after it. Its own films come first."""
        with self._lock:
            self._open[reader] = (study_uid, following)
            while len(self._open) > MAX_READERS:
                self._open.popitem(last=False)

    def shown(self, films: ImageSource, reader: str, study_uid: str) -> bool:
        """The reader has a film of the study they opened: begin with the next. False where nothing is begun."""
        with self._lock:
            held, following = self._open.get(reader, ("", None))
            if held != study_uid or following is None:
                return False
            del self._open[reader]
        return self.prepare(films, following)

    def prepare(self, films: ImageSource, uids: Callable[[], Sequence[str]]) -> bool:
        """Make these ready in the background; False where another study is being prepared, and this one is not."""
        if not self._at_work.acquire(blocking=False):
            return False
        self._worker.submit(self._prepare, films, uids)
        return True

    def stop(self) -> None:
        """Begin nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, films: ImageSource, uids: Callable[[], Sequence[str]]) -> None:
        try:
            for uid in uids():
                self.display(films, uid)
                self.film(films, uid)
        except PrioritizerError:
            return  # whoever opens the study is told
        finally:
            self._at_work.release()

    def _get(self, what: str, uid: str, make: Callable[[str], T]) -> T:
        with self._lock:
            kept = self._kept.get((what, uid))
        if kept is not None and self._clock() - kept.at < KEPT_S:
            return kept.picture  # type: ignore[return-value]
        made = make(uid)
        with self._lock:
            self._kept.pop((what, uid), None)
            self._kept[what, uid] = Kept(picture=made, at=self._clock())
            while sum(one.size for one in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return made
