from __future__ import annotations

import torch
from torch import nn

from hwnas.supernet.copies import WeightsCopy, copied_parameters


def first() -> tuple[nn.ParameterDict, nn.ParameterDict]:
    torch.manual_seed(0)
    weights = {"conv/weight": nn.Parameter(torch.randn(8, 8, 3, 3)), "bn/weight": nn.Parameter(torch.ones(8))}
    return nn.ParameterDict(weights), nn.ParameterDict({"3": nn.Parameter(torch.eye(9))})


def test_a_copy_without_noise_is_equal_and_apart() -> None:
    weights, transforms = first()
    copy = WeightsCopy(weights, transforms, noise=0.0)
    assert torch.equal(copy.weights["conv/weight"], weights["conv/weight"])
    with torch.no_grad():
        weights["conv/weight"].zero_()
        transforms["3"].zero_()
    assert copy.weights["conv/weight"].any()
    assert torch.equal(copy.transforms["3"], torch.eye(9))


def test_noise_is_in_deviations_of_a_weight_and_leaves_constants() -> None:
    weights, transforms = first()
    copy = WeightsCopy(weights, transforms, noise=0.5)
    difference = (copy.weights["conv/weight"] - weights["conv/weight"]).detach()
    assert 0.4 < float(difference.std() / weights["conv/weight"].detach().std()) < 0.6
    assert torch.equal(copy.weights["bn/weight"], weights["bn/weight"])
    assert torch.equal(copy.transforms["3"], transforms["3"])


def test_names_of_copies_lead_to_those_of_the_first() -> None:
    names = ["slots.a.weights.conv/weight", "slots.a.copies.1.weights.conv/weight", "slots.a.copies.0.transforms.3"]
    assert copied_parameters(names) == {
        "slots.a.copies.1.weights.conv/weight": "slots.a.weights.conv/weight",
        "slots.a.copies.0.transforms.3": "slots.a.transforms.3",
    }
