"""Weights that are computed from other weights at every call, baked in: weight and spectral norm, pruning masks.

A network computes the same with the plain weight, which can be sliced. It knows torch's two ways of doing this,
parametrizations and hooks before forward; never what a network is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


def bake_(module: nn.Module, *, tell: Callable[[str], None]) -> None:
    """Make every computed weight a plain one, of the value that it has in evaluation mode.

    Args:
        module: is changed.
        tell: is told how many were.
    """
    module.eval()  # spectral_norm takes a step of its power iteration whenever it is called in training
    n = 0
    for part, name in list(_parametrized(module)):
        _remove_parametrization_(part, name)
        n += 1
    for part, name, remove in list(_hooked(module)):
        is_trained = any(p.requires_grad for p in part._parameters.values() if p is not None)
        remove(part, name)
        weight = getattr(part, name)
        if isinstance(weight, nn.Parameter):
            weight.requires_grad_(is_trained)
        n += 1
    if n:
        tell(f"model: {n} weights that were computed from others (weight_norm, spectral_norm, pruning) are baked in")


def _parametrized(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for part in module.modules():
        if parametrize.is_parametrized(part):
            assert isinstance(part.parametrizations, nn.ModuleDict)
            for name in part.parametrizations:
                yield part, name


def _hooked(module: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[[nn.Module, str], object]]]:
    for part in module.modules():
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                yield part, hook.name, remove_weight_norm
            elif isinstance(hook, SpectralNorm):
                yield part, hook.name, remove_spectral_norm
            elif isinstance(hook, prune.BasePruningMethod):
                yield part, hook._tensor_name, prune.remove


def _remove_parametrization_(part: nn.Module, name: str) -> None:
    # torch takes the property off the class, which a copied module shares with the module it was copied from
    cls = type(part)
    part.__class__ = type(cls.__name__, cls.__bases__, dict(cls.__dict__))
    assert isinstance(part.parametrizations, nn.ModuleDict)
    originals = list(part.parametrizations[name].parameters(recurse=False))
    with torch.no_grad():
        value = getattr(part, name).clone()
    parametrize.remove_parametrizations(part, name)
    if originals:
        # torch makes a buffer of a frozen weight that was computed from several
        delattr(part, name)
        part.register_parameter(name, nn.Parameter(value, requires_grad=any(p.requires_grad for p in originals)))
