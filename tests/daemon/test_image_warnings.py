"""What was passed over when an image was drawn stands beside its score, and is the reason where the image then looks strange."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import uid

from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.receive import read_arrival
from prioritizer.daemon.score import ScoreWorker
from prioritizer.db.processing.receive import receive
from prioritizer.db.worklist import study
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.read.decode import frame_of
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import Unprocessable
from prioritizer.file_scoring.score_one import FileScore, look_at
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Outputs
from prioritizer.scope.out_of_distribution import Figures
from tests.support.ledgers import NOW, POLICY
from tests.support.radiograph_files import STORED, radiograph, receipt

MEBI = 2**20


class Here:
    """The sandbox's work, done in this process; and a network that saw something this far from a chest radiograph."""

    name, precision = "openvino", "f32"

    def __init__(self, distance: float = 0.1) -> None:
        self._distance = distance

    def run(self, task: Callable[..., Any], _timeout_s: float, *arguments: Any) -> Any:
        return task(*arguments)

    def score(self, _picture: np.ndarray) -> Outputs:
        return Outputs(
            logit=np.zeros(1),
            saliency=np.zeros((1, 7, 7), np.float32),
            embedding=np.zeros((1, 4)),
            figures=Figures(image_kind=self._distance),
        )


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(None)


def look(folder: Path, bundle: Bundle, data: bytes, distance: float = 0.1, *, ignore_scope: bool = False) -> FileScore:
    (folder / "film.dcm").write_bytes(data)
    here = Here(distance)
    return look_at(folder / "film.dcm", bundle, here, here, Settings(), is_picture=False, ignore_scope=ignore_scope)


WEAK = {"WindowCenter": "2048", "WindowWidth": "4096", "VOILUTFunction": "LOG"}


def test_what_was_passed_over_is_a_warning_of_the_score(tmp_path: Path, bundle: Bundle):
    assert "the VOI LUT Function is unknown: read as LINEAR" in look(tmp_path, bundle, radiograph(**WEAK)).warnings


def test_a_doubtful_drawing_is_the_reason_where_the_image_looks_strange(tmp_path: Path, bundle: Bundle):
    doubtful, sound = look(tmp_path, bundle, radiograph(**WEAK), 1.5), look(tmp_path, bundle, radiograph(), 1.5)
    assert "VOI LUT Function" in doubtful.reason
    assert "frontal chest" not in doubtful.reason
    assert "frontal chest" in sound.reason


BEYOND = {"BitsStored": 10, "HighBit": 9, "WindowCenter": "2048", "WindowWidth": "4096"}


def test_what_the_pixels_alone_show_is_a_warning_of_the_score_and_a_doubt(tmp_path: Path, bundle: Bundle):
    assert any("beyond Bits Stored" in warning for warning in look(tmp_path, bundle, radiograph(**BEYOND)).warnings)
    assert "beyond Bits Stored" in look(tmp_path, bundle, radiograph(**BEYOND), 1.5).reason


def test_what_the_pixels_alone_show_is_on_the_row(tmp_path: Path, bundle: Bundle, ledger: sa.Engine):
    (tmp_path / "film.dcm").write_bytes(radiograph(**BEYOND))
    receive(ledger, [read_arrival(tmp_path / "film.dcm")], POLICY, NOW)
    renderer = SimpleNamespace(model_input=lambda path: sandboxed.model_input(path, bundle.preprocessing))
    spool = SimpleNamespace(find=lambda _uid: tmp_path / "film.dcm")
    site = {"engine": ledger, "spool": spool, "bundle": bundle, "renderer": renderer, "settings": Settings(), "worker": "w"}
    assert ScoreWorker(**site, scorer=Here(), policy=policy_of(site["settings"], bundle)).step()
    assert any("beyond Bits Stored" in warning for warning in study.study_instances(ledger, "1.2.3")[0].warnings or [])


def test_raw_values_are_scored_only_where_the_scope_is_ignored_and_say_so(tmp_path: Path, bundle: Bundle):
    raw = radiograph(PresentationIntentType="FOR PROCESSING", PixelIntensityRelationshipSign=1)
    assert look(tmp_path, bundle, raw).reason.startswith("FOR PROCESSING")
    assert any("FOR PROCESSING" in warning for warning in look(tmp_path, bundle, raw, ignore_scope=True).warnings)


@pytest.mark.parametrize(("told", "state"), [(False, "INELIGIBLE"), (True, "SCORED")])
def test_a_peer_may_be_told_to_send_raw_values(told: bool, state: str, tmp_path: Path, bundle: Bundle, ledger: sa.Engine):
    raw = radiograph(PresentationIntentType="FOR PROCESSING", PixelIntensityRelationshipSign=1, **WEAK)
    spool = Spool(tmp_path / "spool")
    (tmp_path / "film.dcm").write_bytes(raw)
    receive(ledger, [read_arrival(tmp_path / "film.dcm")], POLICY, NOW)
    peer = {"ae_title": "DX1", "host": "192.0.2.7", "score_for_processing": told}
    renderer = SimpleNamespace(model_input=lambda _path: sandboxed.ModelInput(picture=np.zeros((224, 224), np.float32)))
    spool = SimpleNamespace(find=lambda _uid: tmp_path / "film.dcm")
    settings = Settings(peers=(peer,))
    site = {"engine": ledger, "spool": spool, "bundle": bundle, "renderer": renderer, "settings": settings, "worker": "w"}
    assert ScoreWorker(**site, scorer=Here(), policy=policy_of(site["settings"], bundle)).step()
    image = study.study_instances(ledger, "1.2.3")[0]
    assert image.state == state
    if told:
        assert any("VOI LUT Function" in warning for warning in image.warnings or [])


def test_result_and_page_show_the_image_upright_and_in_true_shape(tmp_path: Path):
    (tmp_path / "film.dcm").write_bytes(radiograph(stored=np.rot90(STORED), PatientOrientation="F\\R", PixelSpacing="0.1\\0.2"))
    shown = sandboxed.display_picture(tmp_path / "film.dcm")
    page = sandboxed.film_png(tmp_path / "film.dcm")
    assert shown.shape == (page.rows, page.columns) == (48, 32)
    assert shown[0].mean() < shown[-1].mean()


@pytest.mark.parametrize("claimed", [590, 20])
def test_a_deflated_bomb_costs_no_more_than_its_frame(claimed: int):
    head = radiograph(PixelData=None)[len(receipt()) :]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    element = b"\xe0\x7f\x10\0OW\0\0" + (claimed * MEBI).to_bytes(4, "little")
    data = packer.compress(head + element + STORED.astype("<u2").tobytes())
    data += b"".join(packer.compress(bytes(MEBI)) for _ in range(claimed)) + packer.flush()
    tracemalloc.start()
    frame = frame_of(receipt(uid.DeflatedExplicitVRLittleEndian) + data)
    peak = tracemalloc.get_traced_memory()[1] / MEBI
    tracemalloc.stop()
    assert (frame.pixels == STORED).all()
    assert peak < 8


def test_a_header_that_claims_more_than_is_there_is_refused():
    with pytest.raises(Unprocessable):
        frame_of(radiograph(Rows=16384, Columns=16384))
