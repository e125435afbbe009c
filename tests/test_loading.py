"""A deployment in use: from an image to its class, by its manifest and the runtime alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas import deployment as deployments
from hwnas.deployment import LoadedDeployment, Manifest, Samples
from hwnas.errors import ArtefactError, DataError
from tests.runs import FinishedRun, as_of_the_first_schema


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
    with network:
        found = network.predict_batch(test.inputs[: promised.n_test])
    right = [p.class_name == str(label) for p, label in zip(found, test.targets, strict=False)]
    assert np.mean(right) == promised.test_runtime


def test_no_image_gives_no_prediction(network: LoadedDeployment) -> None:
    assert network.predict_batch([]) == []


def test_an_image_of_another_size_is_refused(network: LoadedDeployment) -> None:
    with pytest.raises(DataError, match="the network was trained on images of the shape"):
        network.predict(np.zeros((9, 9), np.uint8))


def test_it_needs_no_torch(finished: FinishedRun) -> None:
    code = (
        "import sys, numpy, hwnas.deployment as d\n"
        f"network = d.load({str(finished.deployment)!r})\n"
        "network.preprocess(numpy.zeros((8, 8), numpy.uint8))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
