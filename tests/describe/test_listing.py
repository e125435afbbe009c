"""What there is: spaces of other packages among ours."""

from __future__ import annotations

import pytest

from hwnas import registry
from hwnas.describe.listing import all_spaces, one_space
from hwnas.spaces import MobileNetSpace
from hwnas.testing.spaces import tiny_space


def test_a_space_that_must_be_told_channels_and_classes_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(in_channels: int, n_classes: int) -> MobileNetSpace:
        return tiny_space(in_channels, n_classes)

    monkeypatch.setattr(registry, "_REGISTERED", {"spaces": {"small": small}})
    monkeypatch.setattr(registry, "names", lambda kind: ("small",))
    assert [size.name for size in all_spaces().spaces] == ["small"]


def test_the_sizes_are_those_of_the_space_whatever_the_images() -> None:
    size, space = one_space("test-tiny").size, tiny_space(in_channels=1, n_classes=7)
    assert (size.n_networks, size.n_choices) == (space.count(), len(space.choices))
    assert (size.n_slots, size.n_blocks) == (len(space.slots), len(space.distinct_blocks()))
