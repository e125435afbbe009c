"""The C++ program among the examples, compiled: the bits of its input and the logits it prints are Python's."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hwnas import deployment as deployments
from hwnas.data import Preprocessing
from hwnas.data.decoding import DecodingRule
from hwnas.deployment import Samples, TensorInfo
from hwnas.measure.interface import to_artefact
from hwnas.types import TensorSpec
from tests.photos import CLASSES, deployed, photograph
from tests.runs import FinishedRun

SOURCE = Path(__file__).parents[2] / "examples" / "cpp" / "predict.cpp"
STAND_IN = Path(__file__).parent  # of ONNX Runtime's header
SIDES = st.integers(1, 60)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program; it finds ONNX Runtime's library where Python has it."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    import onnxruntime

    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("this build of ONNX Runtime has no library of its own")
    folder = tmp_path_factory.mktemp("cpp")
    # the loader looks for the name that the library has inside
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(libraries[0])
    command = [compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    command += [str(SOURCE), "-I", str(STAND_IN), "-L", str(folder), "-lonnxruntime", f"-Wl,-rpath,{folder}"]
    done = subprocess.run([*command, "-o", str(folder / "predict")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "predict"


def predict(program: Path, folder: Path, photo: Path, *more: object) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Class names, shares and logits that the program prints."""
    done = subprocess.run(
        [str(program), str(folder), str(photo), *map(str, more)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return (
        [name for name, _, _ in lines],
        np.array([float(share) for _, share, _ in lines]),
        np.array([np.float32(logit) for _, _, logit in lines], np.float32),
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_photo_gets_the_logits_it_gets_in_python(program: Path, tmp_path: Path, precision: str) -> None:
    folder = deployed(tmp_path, precision=precision)
    with deployments.load(folder) as network:
        for seed in range(8):
            photo = photograph(tmp_path / "photo.ppm", seed=seed)
            expected = network.predict(photo)
            names, shares, logits = predict(program, folder, photo, tmp_path / "input")
            given = np.frombuffer((tmp_path / "input").read_bytes(), np.float32).reshape(1, 3, 24, 24)
            np.testing.assert_array_equal(given, network.preprocess_batch([photo]))
            assert names == list(CLASSES)
            wanted = np.array(list(expected.logits.values()), np.float32)
            if precision == "int8":
                np.testing.assert_array_equal(logits, wanted)
            else:
                np.testing.assert_allclose(logits, wanted, atol=1e-5, rtol=1e-5)
            np.testing.assert_allclose(shares, list(expected.scores.values()), atol=1e-5)


def test_a_jpeg_is_read_by_libjpegs_own_program_as_by_pillow(program: Path, tmp_path: Path) -> None:
    """What the documentation says to do with one."""
    if shutil.which("djpeg") is None:
        pytest.skip("there is no djpeg (Debian: libjpeg-turbo-progs)")
    folder = deployed(tmp_path)
    Image.open(photograph(tmp_path / "photo.ppm")).save(tmp_path / "photo.jpg", quality=90)
    (tmp_path / "photo.ppm").write_bytes(
        subprocess.run(["djpeg", str(tmp_path / "photo.jpg")], capture_output=True, check=True).stdout
    )
    predict(program, folder, tmp_path / "photo.ppm", tmp_path / "input")
    given = np.frombuffer((tmp_path / "input").read_bytes(), np.float32).reshape(3, 24, 24)
    np.testing.assert_array_equal(given, deployments.load(folder).preprocess(tmp_path / "photo.jpg"))


def test_the_deployment_of_a_run_gets_the_logits_that_were_promised(
    program: Path, finished: FinishedRun, tmp_path: Path
) -> None:
    samples = Samples.read(finished.deployment)
    for raw, stored, promised in zip(samples.raw, samples.inputs, samples.outputs, strict=True):
        assert not isinstance(raw, bytes)
        Image.fromarray(raw[..., 0]).save(tmp_path / "digit.pgm", "PPM")
        names, _, logits = predict(program, finished.deployment, tmp_path / "digit.pgm", tmp_path / "input")
        found = np.frombuffer((tmp_path / "input").read_bytes(), np.float32)
        np.testing.assert_allclose(found, stored.ravel(), atol=1e-5)  # (torch made these, whose last bits are others)
        assert names == [str(digit) for digit in range(10)]
        np.testing.assert_allclose(logits, promised, atol=0.1)


# ---------------------------------------------------------------- every step, at every size


def averaging(folder: Path, *, spec: TensorSpec, channels: int) -> None:
    """A model that takes images of any size, laid out and typed as said, and gives the mean of each channel."""
    import onnx
    from onnx import TensorProto, helper

    types = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
    axes = [1, 2] if spec.layout == "NHWC" else [2, 3]
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["y"], keepdims=0),
    ]
    shape = ["n", "h", "w", channels] if spec.layout == "NHWC" else ["n", channels, "h", "w"]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", types[spec.dtype], shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], axes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "model.onnx")


def described(folder: Path, steps: Preprocessing, *, shape: tuple[int, int, int], spec: TensorSpec) -> None:
    """As much of a manifest as the program reads."""
    document: dict[str, Any] = {
        "preprocessing": steps.to_json(),
        "input": {"shape": shape},
        "artefact": {
            "path": "model.onnx",
            "input": {"layout": spec.layout, "dtype": spec.dtype, "scale": spec.scale, "zero_point": spec.zero_point},
            "output": TensorInfo().model_dump(),
        },
        "classes": [f"channel {c}" for c in range(shape[0])],
        "device": {"threads": 1},
    }
    (folder / "manifest.json").write_text(json.dumps(document))


@given(
    height=SIDES,
    width=SIDES,
    stored=st.sampled_from([1, 3]),
    channels=st.sampled_from([1, 3]),
    size=SIDES,
    resolution=st.tuples(SIDES, SIDES),
    spec=st.sampled_from(
        [
            TensorSpec(),
            TensorSpec(layout="NHWC"),
            TensorSpec(layout="NHWC", dtype="int8", scale=0.0186, zero_point=-7),
            TensorSpec(dtype="uint8", scale=0.021, zero_point=113),
        ]
    ),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_every_step_gives_the_same_bits(
    program: Path,
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    stored: int,
    channels: int,
    size: int,
    resolution: tuple[int, int],
    spec: TensorSpec,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    photo = photograph(folder / "photo.ppm", height=height, width=width, channels=stored, seed=seed)
    steps = Preprocessing.of(
        DecodingRule(channels=channels, size=size),
        shape=(size, size, channels),
        mean=(0.481, 0.457, 0.408)[:channels],
        std=(0.2291, 0.2243, 0.2251)[:channels],
        resolution=resolution,
    )
    averaging(folder, spec=spec, channels=channels)
    described(folder, steps, shape=(channels, *resolution), spec=spec)
    predict(program, folder, photo, folder / "input")
    expected = to_artefact(steps.apply(photo)[None], spec)
    found = np.frombuffer((folder / "input").read_bytes(), expected.dtype).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- what is refused


def refused(program: Path, folder: Path, photo: Path) -> str:
    done = subprocess.run([str(program), str(folder), str(photo)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest["preprocessing"][1].update(step="sharpen"), 'the step "sharpen"'),
        (lambda manifest: manifest["preprocessing"][3].update(width=31), "not of the size"),
        (lambda manifest: manifest["preprocessing"][5].update(std=[1.0]), "another number of channels"),
        (lambda manifest: manifest["artefact"]["input"].update(dtype="float16"), "takes float16"),
        (lambda manifest: manifest["classes"].pop(), "another number of logits"),
        (lambda manifest: manifest.pop("preprocessing"), 'no "preprocessing"'),
        (lambda manifest: manifest["artefact"].update(path="gone.onnx"), "gone.onnx"),
    ],
)
def test_what_it_does_not_know_is_refused_and_not_passed_over(
    program: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    manifest = json.loads((deployed(tmp_path) / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert says in refused(program, tmp_path, photograph(tmp_path / "photo.ppm"))


def test_a_manifest_that_is_cut_short_is_refused(program: Path, tmp_path: Path) -> None:
    whole = (deployed(tmp_path) / "manifest.json").read_text().rstrip()
    photo = photograph(tmp_path / "photo.ppm")
    for length in np.linspace(1, len(whole) - 1, 40).astype(int):
        (tmp_path / "manifest.json").write_text(whole[:length])
        assert "damaged at byte" in refused(program, tmp_path, photo)


@pytest.mark.parametrize(
    "content", [b"", b"P6\n4 4\n255\n" + bytes(47), b"P6\n4 4\n65535\n" + bytes(96), b"\xff\xd8\xff"]
)
def test_what_is_no_photo_is_refused(program: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.ppm").write_bytes(content)
    assert "photo.ppm" in refused(program, deployed(tmp_path), tmp_path / "photo.ppm")
