"""A deployment in use: from an image to its class, by its manifest and the runtime alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from hwnas import deployment as deployments
from hwnas.deployment import LoadedDeployment, Manifest, Prediction, Samples, TensorInfo, checked_artefact
from hwnas.deployment.shipped import DTYPES, LAYOUTS, read_shipped
from hwnas.errors import ArtefactError, DataError
from hwnas.workspace import Workspace
from tests.photos import deployed, photograph
from tests.runs import FinishedRun, as_of_the_first_schema, rewrite_manifest


@pytest.fixture
def network(finished: FinishedRun) -> LoadedDeployment:
    return deployments.load(finished.deployment)


@pytest.fixture
def samples(finished: FinishedRun) -> Samples:
    return Samples.read(finished.deployment)


def test_raw_samples_become_the_stored_inputs(network: LoadedDeployment, samples: Samples) -> None:
    assert len(samples.raw) == len(samples.inputs) > 0
    np.testing.assert_allclose(network.preprocess_batch(samples.raw), samples.inputs, atol=1e-5)
    np.testing.assert_array_equal(network.preprocess(samples.raw[0]), network.preprocess_batch(samples.raw)[0])


def test_the_predictions_are_those_that_were_promised(network: LoadedDeployment, samples: Samples) -> None:
    with network:
        found = network.predict_batch(samples.raw)
        alone = network.predict(samples.raw[3])
    classes = network.manifest.classes
    assert [p.class_name for p in found] == [classes[i] for i in samples.outputs.argmax(1)]
    assert alone == found[3]
    assert list(alone.scores) == list(classes)
    assert sum(alone.scores.values()) == pytest.approx(1.0)
    assert max(alone.scores, key=alone.scores.__getitem__) == alone.class_name
    assert np.array(list(alone.logits.values())) == pytest.approx(samples.outputs[3], abs=0.1)


def test_the_accuracy_promised_is_reached_from_the_images_alone(
    network: LoadedDeployment, finished: FinishedRun
) -> None:
    from hwnas.data import load_data

    promised = Manifest.read(finished.deployment).accuracy
    test = load_data("digits", seed=0).test
    rows = Workspace(finished.given).stream("test").rows(promised.n_test)
    with network:
        found = network.predict_batch(test.inputs[rows])
    right = [p.class_name == str(label) for p, label in zip(found, test.targets[rows], strict=True)]
    assert np.mean(right) == promised.test_runtime


def test_no_image_gives_no_prediction(network: LoadedDeployment) -> None:
    assert network.predict_batch([]) == []


def test_an_image_of_another_size_is_refused(network: LoadedDeployment) -> None:
    with pytest.raises(DataError, match="the network was trained on images of the shape"):
        network.predict(np.zeros((9, 9), np.uint8))


# a board may have no more than this; what a runtime imports is its own matter
ALONE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {allowed!r} | sys.stdlib_module_names:
            return None
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
import hwnas.deployment
"""


def alone(code: str, *, runtime: set[str]) -> subprocess.CompletedProcess[str]:
    """Some code where nothing is installed but hwnas, numpy, Pillow and a runtime."""
    allowed = {"hwnas", "numpy", "PIL", *runtime}
    whole = ALONE.format(allowed=allowed) + code
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("runtime", "format", "packages"),
    [
        ("onnxruntime", "onnx", {"onnxruntime"}),
        ("litert", "tflite", {"ai_edge_litert"}),
        ("openvino", "openvino-onnx", {"openvino"}),
    ],
)
def test_a_photo_is_predicted_with_numpy_pillow_and_the_runtime_alone(
    tmp_path: Path, runtime: str, format: str, packages: set[str]
) -> None:
    folder = deployed(tmp_path, runtime=runtime, format=format)
    Image.open(photograph(tmp_path / "photo.ppm")).save(tmp_path / "photo.jpg")
    done = alone(
        f"with hwnas.deployment.load({str(folder)!r}) as network:\n"
        f"    print(list(network.predict({str(tmp_path / 'photo.jpg')!r}).logits.values()))\n",
        runtime=packages,
    )
    assert done.returncode == 0, done.stderr
    with deployments.load(folder) as network:
        expected = network.predict(tmp_path / "photo.jpg")
    assert isinstance(expected, Prediction)
    np.testing.assert_array_equal(json.loads(done.stdout), list(expected.logits.values()))


def test_what_is_not_there_would_be_noticed() -> None:
    assert "No module named 'pydantic'" in alone("hwnas.deployment.Manifest", runtime=set()).stderr


def test_what_is_read_without_a_library_is_what_the_manifest_says(finished: FinishedRun) -> None:
    manifest, shipped = Manifest.read(finished.deployment), read_shipped(finished.deployment)
    assert shipped.artefact == checked_artefact(finished.deployment, manifest.artefact, precision=manifest.precision)
    device = manifest.described_device(here=True)
    assert shipped.device == replace(device, meter="", meter_options={}, idle_w=None)
    assert (shipped.runtime, shipped.classes) == (manifest.runtime, manifest.classes)
    assert shipped.input_shape == manifest.input.shape
    assert shipped.preprocessing == manifest.preprocessing
    assert asdict(shipped.output) == manifest.output.model_dump()
    assert get_args(TensorInfo.model_fields["layout"].annotation) == LAYOUTS
    assert get_args(TensorInfo.model_fields["dtype"].annotation) == DTYPES


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(runtime=3), "runtime is 3, but must be a text"),
        (lambda m: m.update(classes=["a", 1]), "classes is .* but must be a list of texts"),
        (lambda m: m["input"].update(shape=[1, 0, 8]), r"input\.shape is .* whole numbers from 1"),
        (lambda m: m["artefact"].pop("format"), r"artefact\.format is None"),
        (lambda m: m["artefact"].update(batch=0), r'artefact\.batch is 0, but must be "any"'),
        (lambda m: m["artefact"].update(path="../model.onnx"), "leads out of the folder"),
        (lambda m: m["artefact"]["input"].update(dtype="complex64"), r"artefact\.input\.dtype is 'complex64'"),
        (lambda m: m["artefact"]["output"].update(scale=0.0), r"artefact\.output\.scale is 0.0"),
        (lambda m: m["artefact"]["output"].update(zero_point=0.5), r"artefact\.output\.zero_point is 0.5"),
        (lambda m: m["device"].update(threads=10**6), r"device\.threads is 1000000, but must be at most 4096"),
        (lambda m: m["device"].update(options={"a": [1]}), r"device\.options is"),
        (lambda m: m.update(device=None), "device is None, but must be an object"),
        (lambda m: m["preprocessing"][0].update(step="sharpen"), "'sharpen' is no step that is known here"),
        (lambda m: m.update(preprocessing=None), "preprocessing is None, but must be a list of steps"),
        (lambda m: m.update(preprocessing=[]), "preprocessing has no steps"),
    ],
)
def test_a_manifest_that_means_no_network_is_refused(
    deployment: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    rewrite_manifest(deployment, change)
    with pytest.raises(ArtefactError, match=says) as caught:
        deployments.load(deployment)
    assert "\n" not in str(caught.value)


def test_a_changed_artefact_is_not_loaded(deployment: Path) -> None:
    data = bytearray((deployment / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (deployment / "model.onnx").write_bytes(data)
    with pytest.raises(ArtefactError, match="is not the file that was verified"):
        deployments.load(deployment)


def test_a_deployment_whose_manifest_lacks_steps_is_not_loaded(deployment: Path) -> None:
    as_of_the_first_schema(deployment)
    with pytest.raises(ArtefactError, match=r"does not hold every step.*export the network again"):
        deployments.load(deployment)
