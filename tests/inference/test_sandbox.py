"""The supervised children: what they cost when they hang, crash or grow."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from pydicom import uid

from prioritizer.dicom.read.codecs import ImageShape, decode_frame
from prioritizer.errors import ModelError, Transient, Unprocessable
from prioritizer.inference.bundle import default_folder
from prioritizer.inference.sandbox import ChildDied, Sandbox
from prioritizer.inference.worker import EngineProcess

LIMIT = 1 << 30


def double(number: int) -> int:
    return number * 2


def hang() -> None:
    time.sleep(60)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def grow() -> int:
    return len(bytearray(4 << 30))


def refuse() -> None:
    raise Unprocessable("bits", "Bits Stored does not fit")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(1, memory_bytes=LIMIT)
    yield made
    made.close()


def test_a_child_returns_what_the_work_returns(sandbox: Sandbox) -> None:
    assert sandbox.run(double, 30, 21) == 42


def test_a_child_that_hangs_is_stopped_and_the_next_task_is_done(sandbox: Sandbox) -> None:
    with pytest.raises(ChildDied, match="longer than"):
        sandbox.run(hang, 1)
    assert sandbox.run(double, 30, 1) == 2


def test_a_child_that_crashes_costs_its_task_only(sandbox: Sandbox) -> None:
    with pytest.raises(ChildDied, match="died"):
        sandbox.run(crash, 30)
    assert sandbox.run(double, 30, 2) == 4


def test_a_child_cannot_grow_beyond_its_limit(sandbox: Sandbox) -> None:
    with pytest.raises(ChildDied, match="memory"):
        sandbox.run(grow, 30)


def test_a_child_that_had_too_little_memory_is_replaced(sandbox: Sandbox) -> None:
    before = sandbox.run(os.getpid, 30)
    with pytest.raises(ChildDied, match="memory"):
        sandbox.run(grow, 30)
    assert sandbox.run(os.getpid, 30) != before


def decode_with_little_memory_left(frame: bytes, shape: ImageShape, syntax: str) -> str:
    """What decoding says when other things hold nearly all the memory of the process."""
    decode_frame(frame, shape, syntax)  # the library itself is loaded
    taken = []
    for size in (2**24, 2**20):
        with contextlib.suppress(MemoryError):
            while True:
                taken.append(np.empty(size, dtype=np.uint8))
        if size > 2**20:
            taken.pop()  # room for small ones, however little was left behind the last of these
    del taken[-4:]  # 4 MiB: enough to work with, and not for this frame
    try:
        decode_frame(frame, shape, syntax)
    except Unprocessable as refusal:
        taken.clear()
        return refusal.reason
    return "decoded"


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless], ids=["JPEG 2000", "JPEG-LS"])
def test_a_codec_without_memory_is_tried_again_and_refuses_no_frame(sandbox: Sandbox, syntax: str) -> None:
    import jpeg_ls
    from openjpeg.utils import encode_array

    stored = np.random.default_rng(1).integers(0, 4096, (2000, 2000)).astype("<u2")
    frame = bytes(
        jpeg_ls.encode_buffer(stored.tobytes(), *stored.shape, 1, 12)
        if syntax == uid.JPEGLSLossless
        else encode_array(stored, bits_stored=12, photometric_interpretation=2)
    )
    shape = ImageShape(rows=2000, columns=2000, bits_allocated=16, bits_stored=12, signed=False)
    with pytest.raises(ChildDied, match="memory"):
        sandbox.run(decode_with_little_memory_left, 60, frame, shape, syntax)


def test_the_error_of_the_work_comes_back_as_it_was_raised(sandbox: Sandbox) -> None:
    with pytest.raises(Unprocessable) as caught:
        sandbox.run(refuse, 30)
    assert (caught.value.slug, caught.value.reason) == ("bits", "Bits Stored does not fit")


def test_an_engine_process_is_proved_before_it_scores() -> None:
    engine = EngineProcess(default_folder(), precision="f32", threads=0)
    try:
        outputs = engine.score(np.zeros((224, 224), dtype=np.float32))
        assert outputs.saliency.shape == (1, 14, 14)
        assert engine.name.startswith("openvino-")
    finally:
        engine.close()


def test_a_bundle_that_cannot_be_trusted_gives_no_engine(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"card\.toml"):
        EngineProcess(tmp_path, precision="f32", threads=0)


def test_a_child_killed_while_it_waits_costs_no_task(sandbox: Sandbox) -> None:
    pid = sandbox.run(os.getpid, 30)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert sandbox.run(double, 30, 3) == 6
    assert sandbox.run(os.getpid, 30) != pid


def test_a_child_is_replaced_after_its_number_of_tasks() -> None:
    made = Sandbox(1, recycle_after=2)
    try:
        pids = [made.run(os.getpid, 30) for _ in range(4)]
    finally:
        made.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


def no_process(*_: object) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_a_child_that_cannot_be_started_now_is_started_by_a_later_task(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Sandbox(1, recycle_after=1)
    try:
        with monkeypatch.context() as without_memory:
            without_memory.setattr(made_processes(), "start", no_process)
            first = made.run(os.getpid, 30)
            assert made.run(os.getpid, 30) == first, "it cannot be replaced now, and goes on"
            os.kill(first, signal.SIGKILL)
            time.sleep(0.2)
            for _ in range(3):
                with pytest.raises(Transient, match="no process can be started now"):
                    made.run(double, 30, 1)
        assert made.run(double, 30, 4) == 8
    finally:
        made.close()


def test_a_sandbox_whose_children_cannot_be_started_yet_starts_them_by_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without_memory:
        without_memory.setattr(made_processes(), "start", no_process)
        made = Sandbox(2)
        with pytest.raises(ModelError, match="no process can be started now"):
            EngineProcess(default_folder(), precision="f32", threads=0)
    try:
        assert [made.run(double, 30, number) for number in (1, 2, 3)] == [2, 4, 6]
    finally:
        made.close()


def made_processes() -> type:
    return multiprocessing.get_context("spawn").Process


def test_closing_ends_a_task_under_way() -> None:
    made = Sandbox(1)
    assert made.run(double, 30, 1) == 2
    ended: list[str] = []

    def work() -> None:
        try:
            made.run(hang, 60)
        except Transient as error:
            ended.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    made.close()
    thread.join(timeout=20)
    assert ended == ["prioritizer is stopping"]
