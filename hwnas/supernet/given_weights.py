"""Weights that people saved, from a file into a network: formats, wrappers, prefixes, and what does not fit.

No pickled code is ever run. It knows files of tensors and names in state dicts; never what a network computes.
"""

from __future__ import annotations

import re
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hwnas._places import user_path
from hwnas.errors import ModelError
from hwnas.foreign import printable, shown
from hwnas.supernet.fitting import Fit, best_fit, describe_misfit

Tell = Callable[[str], None]

_TENSORS_ALONE = (".safetensors",)
_PICKLED = (".pth", ".pt", ".bin")
_LARGEST_BYTES = 64 << 30  # of a file; it may be anybody's
_HEAD = 512
_DEEPEST = 3  # wrappers around each other: {"ema": {"model": {"state_dict": ...}}}
_SAVE = "save the tensors alone: torch.save(model.state_dict(), 'weights.pth'), or with safetensors.torch.save_file"
_UNREADABLE = f"the file is damaged, cut off, or not of torch.save. Where it was trained, {_SAVE}"
# how files begin that people take for weights
_NO_FILES = (
    (rb"version https://git-lfs", "it is a pointer of git-lfs, not the file itself; fetch that with: git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml)", "it is a web page, as of a download that failed or wants a login; get it again"),
)
# a file of safetensors may begin so too, with the length of its header
_NO_PICKLES = (
    (rb"\x89HDF", "it is HDF5, as of Keras; give weights of torch"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf", "it is compressed; unpack it first"),
    (rb"\s*[\[{]", "it is a text; give weights of torch"),
)
# what torch's reader may raise, led astray by a file
_ASTRAY = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, OSError),
    *(AssertionError, MemoryError, struct.error, UnpicklingError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedWeights:
    """What a file holds.

    Attributes:
        path: of the file.
        found: where in it (`ema.state_dict`; empty: it is nothing else) -> tensors by name.
    """

    path: Path
    found: Mapping[str, Mapping[str, Tensor]]


def read_weights(path: str | Path, *, any_name: bool = False) -> SavedWeights:
    """The tensors of a file.

    Args:
        path: `.safetensors`, or a file of `torch.save` (`.pth`, `.pt`, `.bin`) that holds tensors, texts and numbers.
        any_name: whether a name that ends in another way is one of `torch.save` too.

    Raises:
        ModelError: it is missing, of another kind, damaged, or holds more than such; says what to do.
    """
    path = user_path(path)
    where = f"the weights {shown(path)}"
    _check_kind(path, where, any_name=any_name)
    if path.suffix in _TENSORS_ALONE:
        try:
            return SavedWeights(path=path, found={"": safetensors.torch.load_file(path, device="cpu")})
        except (SafetensorError, OSError, ValueError, KeyError) as e:
            raise ModelError(f"{where} cannot be read: {_one_line(e)}; get or save the file again") from e
    candidates = dict(_mappings(_unpickled(path, where)))
    if not candidates:
        raise ModelError(f"{where} hold no tensors by name; {_SAVE}")
    return SavedWeights(path=path, found=candidates)


def fits(module: nn.Module, saved: SavedWeights) -> bool:
    """Whether some weights of a file have all of a network's names and shapes, and no others."""
    return any(best_fit(module, tensors).is_whole for tensors in saved.found.values())


def fill_(module: nn.Module, saved: SavedWeights, *, tell: Tell) -> None:
    """Give a network the weights of a file.

    Args:
        module: is changed; in float32.
        saved: its names may have a prefix, as `module.` of DataParallel, or lack one.
        tell: is told which weights were taken, and what was left out of their names.

    Raises:
        ModelError: they do not fit, or several of the file do.
    """
    where = f"the weights {shown(saved.path)}"
    tried = {key: best_fit(module, tensors) for key, tensors in saved.found.items()}
    whole = {key: fit for key, fit in tried.items() if fit.is_whole}
    if len(whole) > 1:
        raise ModelError(
            f"{where} hold several that fit the network: {', '.join(map(shown, whole))}; save the one you mean alone, "
            "as torch.save(found['NAME'], 'weights.pth')"
        )
    if whole:
        ((key, fit),) = whole.items()
        module.load_state_dict(dict(fit.tensors), strict=False)
        _tell(key, fit, saved=saved, tell=tell)
        return
    for key, tensors in saved.found.items():
        # modules may know older names of theirs
        if not tried[key].misshapen and _loads(module, tensors):
            tell(f"weights: {shown(key) or 'those'} of {shown(saved.path)} are taken, under older names")
            return
    key, nearest = min(tried.items(), key=lambda item: item[1].n_wrong)
    inside = f", under {shown(key)!r}," if key else ""
    raise ModelError(f"{where}{inside} do not fit the network: {describe_misfit(nearest)}")


def _loads(module: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    try:
        result = module.load_state_dict(dict(tensors), strict=False)
    except RuntimeError:
        return False
    return not result.missing_keys and not result.unexpected_keys


def _tell(key: str, fit: Fit, *, saved: SavedWeights, tell: Tell) -> None:
    told = [f"{shown(key)!r} of {shown(saved.path)} is taken"] if key else []
    told += fit.notes
    dtypes = Counter(str(t.dtype).removeprefix("torch.") for t in fit.tensors.values() if t.is_floating_point())
    told += [f"{n} tensors in {d} are taken as float32" for d, n in dtypes.items() if d != "float32"]
    if told:
        tell(f"weights: {'; '.join(told)}")


# ---------------------------------------------------------------- files


def _check_kind(path: Path, where: str, *, any_name: bool) -> None:
    """Hold that a file may be what its name says.

    Raises:
        ModelError: it is not.
    """
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in _TENSORS_ALONE + _PICKLED)
        hint = f" such as {', '.join(map(shown, inside[:3]))}" if inside else ""
        raise ModelError(f"{where} are a folder; name a file in it{hint}")
    if not path.exists():
        raise ModelError(f"there is no file {shown(path)}")
    if path.suffix not in _TENSORS_ALONE + _PICKLED and not any_name:
        allowed = ", ".join(_TENSORS_ALONE + _PICKLED)
        raise ModelError(f"{where} are no file that is read; allowed: {allowed}. Otherwise {_SAVE}")
    if not path.is_file():
        raise ModelError(f"{where} are no regular file")
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise ModelError(f"{where} have {size:,} bytes; at most {_LARGEST_BYTES:,} are read")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as e:
        raise ModelError(f"{where} cannot be read: {e.strerror}") from e
    if not head:
        raise ModelError(f"{where} are an empty file; get or save it again")
    for begin, reason in _NO_FILES if path.suffix in _TENSORS_ALONE else _NO_FILES + _NO_PICKLES:
        if re.match(begin, head, re.IGNORECASE):
            raise ModelError(f"{where} cannot be read: {reason}")


def _unpickled(path: Path, where: str) -> object:
    """What `torch.save` wrote, if that are tensors, texts, numbers, and lists and dictionaries of them.

    Raises:
        ModelError: it is more, or damaged.
    """
    _check_archive(path, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages in the way of old versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as e:
        if names := ", ".join(_foreign_names(path, str(e))):
            raise ModelError(
                f"{where} hold objects beyond tensors ({names}); pickled code is never run. "
                f"Where it was trained, {_SAVE}"
            ) from e
        raise ModelError(f"{where} cannot be read ({_reason(e)}); {_UNREADABLE}") from e
    except _ASTRAY as e:
        raise ModelError(f"{where} cannot be read ({type(e).__name__}: {_one_line(e)}); {_UNREADABLE}") from e


def _check_archive(path: Path, where: str) -> None:
    """Hold that an archive is one of tensors, and unpacks to what it is.

    Raises:
        ModelError: it holds a program, or far more than its size.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as e:
        raise ModelError(f"{where} cannot be read: {_one_line(e)}; get or save the file again") from e
    if any(e.filename.endswith("/constants.pkl") for e in entries):
        raise ModelError(f"{where} are a program of torch.jit, not weights; where the network is, {_SAVE}")
    # torch stores without compressing, so that much more means that the memory is aimed at
    if sum(e.file_size for e in entries) > 2 * path.stat().st_size + 2**20:
        raise ModelError(f"{where} are compressed, which torch.save does not do; {_SAVE}")


def _foreign_names(path: Path, message: str) -> list[str]:
    """The classes and functions that a pickle asks for."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except _ASTRAY:  # of the format before archives, or damaged
        found = re.findall(r"GLOBAL ([\w.]+)", message)
    return [shown(name) for name in sorted(set(found))[:5]]


def _reason(error: Exception) -> str:
    """What torch says, without its advice to trust the file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "Unsupported" in line or "but got" in line), lines[-1] if lines else "")
    return printable(told, limit=200)


def _one_line(error: Exception) -> str:
    return printable(next((line for line in str(error).splitlines() if line.strip()), "no reason told"), limit=200)


def _mappings(found: object, key: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every dictionary of tensors by name in what was saved, and where."""
    if not isinstance(found, Mapping):
        return
    names = [name for name in found if isinstance(name, str)]
    tensors = {name: found[name] for name in names if isinstance(found[name], Tensor)}
    if tensors:
        yield key, tensors
        return
    if depth < _DEEPEST:
        for name in names:
            if not name.startswith("optim"):  # its moments have the shapes of weights
                yield from _mappings(found[name], f"{key}.{name}".lstrip("."), depth + 1)
