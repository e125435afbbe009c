"""Files of weights as people have them: which are read, how names are understood, and what is said of the others."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from hwnas.errors import ModelError
from hwnas.supernet.given import load_given
from hwnas.supernet.given_weights import fill_, read_weights
from hwnas.supernet.reparametrized import bake_

from .test_given import Net, compiled, net, same

States = dict[str, Tensor]


def states(seed: int = 1) -> States:
    return dict(net(seed).state_dict())


def saved(content: object, folder: Path, name: str = "weights.pth", **options: Any) -> Path:
    path = folder / name
    torch.save(content, path, **options)
    return path


def filled(path: Path, module: nn.Module | None = None) -> tuple[nn.Module, list[str]]:
    """A network with the weights of a file, and what was told."""
    made, told = module or net(), list[str]()
    fill_(made, read_weights(path), tell=told.append)
    return made, told


def refused(path: Path, module: nn.Module | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        filled(path, module)
    return str(caught.value)


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "pytorch_model.bin"])
@pytest.mark.parametrize("archive", [True, False])
def test_files_of_torch_are_read_whatever_they_are_called(name: str, archive: bool, tmp_path: Path) -> None:
    made, told = filled(saved(states(), tmp_path, name, _use_new_zipfile_serialization=archive))
    same(made, net(1))
    assert told == []


def test_a_file_of_safetensors_is_read_and_what_is_tied_stands_there_once(tmp_path: Path) -> None:
    safetensors.torch.save_model(net(1), str(tmp_path / "w.safetensors"))
    made, told = filled(tmp_path / "w.safetensors")
    same(made, net(1))
    assert isinstance(made, Net)
    assert made.first.weight is made.second.weight
    assert told == []


def test_a_function_and_a_file_give_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text("from tests.supernet.test_given import net as make")
    monkeypatch.chdir(tmp_path)
    saved({"state_dict": {f"module.{k}": v.half() for k, v in states().items() if "num" not in k}}, tmp_path)
    told: list[str] = []
    made = load_given(f"python:{name}:make", weights="weights.pth", tell=told.append)
    torch.testing.assert_close(made.get_parameter("conv.weight"), net(1).conv.weight, rtol=1e-3, atol=1e-3)
    assert told[1:] == [
        "weights: 'state_dict' of weights.pth is taken; the prefix 'module.' left out; 10 tensors in float16 are taken "
        "as float32"
    ]


# ---------------------------------------------------------------- wrappers and prefixes


@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda s: {"state_dict": s}, "state_dict"),
        (lambda s: {"model": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "epoch": 3}, "model"),
        (lambda s: {"model_state": s, "best": 0.5, "name": "net", "history": [1, 2]}, "model_state"),
        (lambda s: {"ema": {"shadow": s}}, "ema.shadow"),
        (lambda s: {"args": None, "state": {"net": {"weights": s}}}, "state.net.weights"),
    ],
)
def test_the_one_dictionary_of_tensors_is_found_and_told(
    wrap: Callable[[States], object], where: str, tmp_path: Path
) -> None:
    made, told = filled(saved(wrap(states()), tmp_path))
    same(made, net(1))
    assert told == [f"weights: '{where}' of {tmp_path}/weights.pth is taken"]


def test_of_several_dictionaries_the_one_that_fits_is_taken(tmp_path: Path) -> None:
    discriminator = dict(nn.Linear(2, 2).state_dict())
    made, told = filled(saved({"generator": states(), "discriminator": discriminator}, tmp_path))
    same(made, net(1))
    assert "'generator' of" in told[0]


def test_of_several_that_fit_none_is_guessed(tmp_path: Path) -> None:
    message = refused(saved({"state_dict": states(), "state_dict_ema": states(2)}, tmp_path))
    assert "hold several that fit the network: state_dict, state_dict_ema; save the one you mean alone" in message


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "backbone.", "a.b.c."])
def test_a_prefix_that_all_names_share_is_left_out_and_told(prefix: str, tmp_path: Path) -> None:
    made, told = filled(saved({prefix + k: v for k, v in states().items()}, tmp_path))
    same(made, net(1))
    assert told == [f"weights: the prefix {prefix!r} left out"]


def test_a_prefix_that_all_of_the_network_share_is_added(tmp_path: Path) -> None:
    made, told = filled(saved(states(), tmp_path), nn.ModuleDict({"backbone": net()}))
    same(made["backbone"], net(1))  # type: ignore[index]
    assert told == ["weights: the prefix 'backbone.' added"]


def test_names_of_a_compiled_and_of_an_averaged_network_are_understood(tmp_path: Path) -> None:
    made, told = filled(saved(nn.Sequential(compiled(net(1))).state_dict(), tmp_path), nn.Sequential(net()))
    same(made, nn.Sequential(net(1)))
    assert told == ["weights: '_orig_mod.' left out"]
    same(filled(saved(AveragedModel(net(1)).state_dict(), tmp_path))[0], net(1))


# ---------------------------------------------------------------- what may differ


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    given = {k: v for k, v in states().items() if "num_batches" not in k}
    same(filled(saved(given, tmp_path))[0], net(1))


def test_what_the_network_makes_itself_may_be_there(tmp_path: Path) -> None:
    module = net()
    module.register_buffer("positions", torch.arange(4), persistent=False)
    made, told = filled(saved({**states(), "positions": torch.zeros(4)}, tmp_path), module)
    same(made, net(1))
    assert told == ["weights: positions left out: the network makes them itself"]


def test_older_names_that_the_modules_know_are_taken(tmp_path: Path) -> None:
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state: States, prefix: str, *more: Any) -> None:
            if f"{prefix}kernel" in state:
                state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")
            super()._load_from_state_dict(state, prefix, *more)

    given = {"kernel": torch.ones(2, 2), "bias": torch.zeros(2)}
    made, told = filled(saved(given, tmp_path), Renamed(2, 2))
    assert torch.equal(made.get_parameter("weight"), given["kernel"])
    assert told == [f"weights: those of {tmp_path}/weights.pth are taken, under older names"]


@pytest.mark.parametrize("baked", [True, False])
def test_a_network_whose_weights_are_computed_takes_files_of_either_form(
    baked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = net(1)
    parametrizations.weight_norm(trained.conv)
    if baked:
        bake_(trained, tell=lambda _: None)
    saved(trained.state_dict(), tmp_path)
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(_NORMALISED)
    monkeypatch.chdir(tmp_path)
    made = load_given(f"python:{name}:make", weights="weights.pth")
    assert made.state_dict().keys() == net().state_dict().keys()
    same(made, net(1))


_NORMALISED = """
from torch.nn.utils.parametrizations import weight_norm
from tests.supernet.test_given import net
def make():
    made = net()
    weight_norm(made.conv)
    return made
"""


# ---------------------------------------------------------------- what does not fit


def without(*names: str) -> Mapping[str, Tensor]:
    return {k: v for k, v in states().items() if k not in names}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (without("conv.bias", "norm.weight"), "2 of its 11 tensors are missing (conv.bias, norm.weight)"),
        ({**states(), "x.a": torch.ones(1)}, "1 in the file are not in the network (x.a). Check that the function"),
        (
            {k.replace("conv", "conv1"): v for k, v in states().items()},
            "perhaps conv1.weight is conv.weight, conv1.bias is conv.bias",
        ),
        (
            {**states(), "conv.weight": torch.ones(4, 1, 3, 3)},
            "1 are others there (conv.weight: 4x1x3x3 in the file, 4x3x3x3 in the network)",
        ),
        ({**states(), "conv.bias": torch.ones(4).char()}, "conv.bias: int8 in the file, float32 in the network"),
        ({**states(), "conv.bias": torch.ones(4).to_sparse()}, "conv.bias: no plain tensor in the file (float32, spar"),
        ({**states(), "first.weight": torch.ones(4, 4)}, "second.weight: it is tied to first.weight in the network"),
    ],
)
def test_weights_of_another_network_are_counted_and_the_first_are_named(
    given: object, said: str, tmp_path: Path
) -> None:
    assert said in refused(saved(given, tmp_path))


def test_another_number_of_classes_is_said_as_such(tmp_path: Path) -> None:
    message = refused(saved(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 9)).state_dict(), tmp_path), _classifier())
    assert "2 are others there (1.weight: 9x3 in the file, 5x3 in the network; 1.bias: 9 in the file, 5" in message
    assert "The layer '1' gives 9 outputs in the file and 5 in the network: let the function make" in message


def _classifier() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))


def test_long_lists_of_names_are_cut(tmp_path: Path) -> None:
    message = refused(saved({f"layer{i}": torch.ones(1) for i in range(2000)}, tmp_path))
    assert "2000 in the file are not in the network (layer0, layer1, layer2 and 1997 more)" in message
    assert len(message) < 600


def test_names_of_strangers_are_shown_in_one_printable_line(tmp_path: Path) -> None:
    message = refused(saved({**states(), "a\x1b[2J\nb": torch.ones(1)}, tmp_path))
    assert "a\\x1b[2J b" in message


# ---------------------------------------------------------------- files that are no weights


class Trap:
    """A pickle that makes a file when it is loaded by running it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("archive", [True, False])
def test_pickled_code_is_named_and_never_run(archive: bool, tmp_path: Path) -> None:
    content = {"state_dict": states(), "x": Trap(tmp_path / "ran")}
    message = refused(saved(content, tmp_path, _use_new_zipfile_serialization=archive))
    assert "hold objects beyond tensors (posix.mkdir); pickled code is never run" in message
    assert "save the tensors alone: torch.save(model.state_dict(), 'weights.pth')" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("content", "name"), [(net(), "Net"), ({"args": argparse.Namespace()}, "argparse.Namespace")])
def test_whole_networks_and_other_objects_are_refused_by_name(content: object, name: str, tmp_path: Path) -> None:
    message = refused(saved(content, tmp_path))
    assert "hold objects beyond tensors (" in message
    assert name in message


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {"epoch": 3}, {}, {0: torch.ones(2)}])
def test_a_file_without_tensors_by_name_is_refused(content: object, tmp_path: Path) -> None:
    assert "hold no tensors by name; save the tensors alone" in refused(saved(content, tmp_path))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "fetch that with: git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "it is a web page, as of a download that failed"),
        (b"", "are an empty file"),
    ],
)
def test_what_came_instead_of_a_file_is_recognised(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08\x00", "it is compressed; unpack it first"),
        (b"\x89HDF\r\n", "it is HDF5, as of Keras"),
        (b'{"a": 1}', "it is a text"),
        (b"not a pickle", "cannot be read"),
        (pickle.dumps({"a": 1}), "cannot be read"),
        (b"PK\x03\x04 cut off", "cannot be read"),
    ],
)
def test_files_that_are_not_of_torch_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    assert said in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_was_cut_off_is_refused(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        saved(states(), tmp_path)
    else:
        safetensors.torch.save_file({"a": torch.ones(100)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "cannot be read" in refused(path)


def test_a_program_of_torch_is_no_file_of_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
    assert "are a program of torch.jit, not weights" in refused(tmp_path / "w.pt")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data/0", bytes(3 << 20))
    assert "are compressed, which torch.save does not do" in refused(tmp_path / "w.pth")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "w.pth").open("wb") as file:
        file.truncate(65 << 30)  # of holes
    assert "have 69,793,218,560 bytes; at most 68,719,476,736 are read" in refused(tmp_path / "w.pth")


def test_other_endings_folders_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"x")
    assert "allowed: .safetensors, .pth, .pt, .bin. Otherwise save the tensors alone" in refused(tmp_path / "w.h5")
    assert "there is no file" in refused(tmp_path / "none.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    assert "are no regular file" in refused(tmp_path / "pipe.pth")
    os.remove(tmp_path / "pipe.pth")
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert "are a folder; name a file in it such as a.safetensors" in refused(tmp_path)
