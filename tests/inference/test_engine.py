"""The shipped bundle on the serving engine, against torch and pytorch-grad-cam."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prioritizer.errors import ModelError
from prioritizer.imaging import preprocessing
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import Bundle, default_folder, open_bundle
from prioritizer.inference.engine import Engine


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(None)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine(bundle)


@pytest.fixture(scope="module")
def torch_network(bundle: Bundle):
    from safetensors.torch import load_file

    from prioritizer.learning.training import network

    model = network.build(bundle.card["architecture"]["timm"], stride=bundle.card["architecture"].get("stride", network.COARSE))
    state = load_file(bundle.folder / "weights.safetensors")
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    return model.eval()


def model_inputs(bundle: Bundle) -> np.ndarray:
    return preprocessing.normalised(bundle.golden().pictures.astype(np.float32) / np.float32(255), bundle.preprocessing)


def test_the_golden_inputs_are_answered_within_the_float32_tolerance(engine: Engine) -> None:
    assert bundle_selftest.prove(engine) <= 1e-4


def test_the_engine_agrees_with_torch_on_the_shipped_weights(bundle: Bundle, engine: Engine, torch_network) -> None:
    import torch

    images = model_inputs(bundle)
    with torch.no_grad():
        expected = torch_network(torch.from_numpy(images)).squeeze(1).numpy()
    calibrate = np.vectorize(bundle.calibration.probability)
    np.testing.assert_allclose(calibrate(engine.infer(images).logit), calibrate(expected), atol=1e-5)


def test_the_saliency_and_the_bias_sum_to_the_logit(bundle: Bundle, engine: Engine) -> None:
    outputs = engine.infer(model_inputs(bundle))
    np.testing.assert_allclose(outputs.saliency.sum(axis=(1, 2)) + bundle.bias, outputs.logit, atol=1e-4)


def test_the_closed_form_saliency_is_the_map_of_pytorch_grad_cam_before_its_normalisation(
    bundle: Bundle, engine: Engine, torch_network
) -> None:
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images = model_inputs(bundle)
    cells = 14 * 14
    with GradCAM(model=torch_network, target_layers=[torch_network.bn2]) as cam:
        cam(input_tensor=torch.from_numpy(images), targets=[ClassifierOutputTarget(0)] * len(images))
        weights = cam.get_cam_weights(
            images, None, None, cam.activations_and_grads.activations[0].numpy(), cam.activations_and_grads.gradients[0].numpy()
        )
        raw = (weights[:, :, None, None] * cam.activations_and_grads.activations[0].numpy()).sum(axis=1)
    np.testing.assert_allclose(engine.infer(images).saliency, raw, atol=1e-4)
    assert raw.shape == (len(images), 14, 14)
    assert cells == raw[0].size


def test_a_batch_gives_what_single_images_give(bundle: Bundle, engine: Engine) -> None:
    images = model_inputs(bundle)
    single = np.concatenate([engine.infer(images[i : i + 1]).logit for i in range(len(images))])
    np.testing.assert_allclose(engine.infer(images).logit, single, atol=1e-4)


def test_reduced_precision_scores_only_within_its_own_tolerance(bundle: Bundle) -> None:
    reduced = Engine(bundle, precision="bf16")
    golden = bundle.golden()
    calibrate = bundle.calibration.probability
    answers = [reduced.score(picture.astype(np.float32) / np.float32(255)).logit[0] for picture in golden.pictures]
    worst = max(abs(calibrate(float(a)) - calibrate(float(b))) for a, b in zip(answers, golden.logit, strict=True))
    if worst > 5e-3:
        with pytest.raises(ModelError, match=r"self-test failed.*bf16"):
            bundle_selftest.prove(reduced)
    else:
        assert bundle_selftest.prove(reduced) == pytest.approx(worst, abs=1e-6)


@pytest.fixture
def copy_of_bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_folder(), tmp_path / "bundle"))


@pytest.mark.parametrize("name", ["model.onnx", "calibration.json", "golden.npz", "weights.safetensors", "guard.npz"])
def test_a_changed_file_is_not_the_bundle_that_the_card_names(copy_of_bundle: Path, name: str) -> None:
    with (copy_of_bundle / name).open("r+b") as file:
        file.seek(40)
        byte = file.read(1)
        file.seek(40)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ModelError, match=name):
        open_bundle(copy_of_bundle)


def test_a_missing_file_is_named(copy_of_bundle: Path) -> None:
    (copy_of_bundle / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"lacks model\.onnx"):
        open_bundle(copy_of_bundle)


def test_a_card_that_names_a_file_outside_its_folder_is_refused(copy_of_bundle: Path) -> None:
    card = copy_of_bundle / "card.toml"
    card.write_text(card.read_text().replace('"model.onnx"', '"../model.onnx"'))
    with pytest.raises(ModelError):
        open_bundle(copy_of_bundle)


def test_golden_outputs_of_another_network_fail_the_self_test(bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = bundle.golden()
    shifted = dataclasses.replace(golden, logit=golden.logit - 0.5)
    monkeypatch.setattr(Bundle, "golden", lambda self: shifted)
    with pytest.raises(ModelError, match="self-test failed"):
        bundle_selftest.prove(engine)


def test_golden_saliency_of_another_network_fails_the_self_test(bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = bundle.golden()
    shifted = dataclasses.replace(golden, saliency=golden.saliency[:, ::-1])
    monkeypatch.setattr(Bundle, "golden", lambda self: shifted)
    with pytest.raises(ModelError, match="saliency"):
        bundle_selftest.prove(engine)


def test_serving_imports_no_torch() -> None:
    code = "import sys, prioritizer.daemon.daemon, prioritizer.cli.app, prioritizer.inference.worker; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_the_card_states_scope_data_and_figures_with_intervals(bundle: Bundle) -> None:
    card = bundle.card
    assert (bundle.scope.min_age_years, bundle.scope.max_age_years) == (0, 120)
    assert "CC BY 4.0" in card["data"]["licence"]
    assert set(card["metrics"]) >= {"val_report_guangzhou_children", "val_report_nih_adults"}
    for split, found in card["metrics"].items():
        assert card["metrics_of"][split]["films"] > 100
        for name, (value, low, high) in found.items():
            assert low <= value <= high, (split, name)
    assert set(card["files"]) == {"model.onnx", "weights.safetensors", "calibration.json", "golden.npz", "guard.npz"}
    assert "not a diagnosis" in (bundle.folder / "CARD.md").read_text().lower()
