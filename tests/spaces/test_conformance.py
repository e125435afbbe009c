"""Every space passes the shipped suite; random spaces do, too."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from hwnas.spaces import CategoricalSpace, MobileNetSpace, MobileNetSpec, StageSpec
from hwnas.spaces.presets import mobilenet_tiny, mobilenet_v3_large
from hwnas.testing import space_suite
from hwnas.testing.spaces import tiny_space
from hwnas.types import Block, Slot
from tests.spaces.strategies import categorical_spaces, mobilenet_spaces, seeds

PROPERTY = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
NAMED = {
    "tiny": tiny_space(),
    "tiny-int8": tiny_space().restrict(precisions=("int8",)),
    "tiny-fp32": tiny_space().restrict(precisions=("fp32",)),
    "mobilenet-tiny": mobilenet_tiny(),
    "mobilenet-v3-large": mobilenet_v3_large(),
    "categorical": CategoricalSpace({f"edge{i}": ("none", "skip", "conv1x1", "conv3x3", "pool") for i in range(6)}),
    "mixed options": CategoricalSpace({"lr": (0.1, 0.01), "on": (False, True), "n": (1, 2), "op": ("a", "b")}),
    "one network": MobileNetSpace(
        "one",
        MobileNetSpec(
            in_channels=1,
            n_classes=2,
            resolutions=(8,),
            stem_channels=8,
            stages=[StageSpec(channels=8, stride=1, depths=(1,), kernel_sizes=(3,), expand_ratios=(1,))],
            head_channels=8,
            precisions=("int8",),
        ),
    ),
}


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMED)
def test_named_space_conforms(name, check):
    check(NAMED[name], np.random.default_rng(7))


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
def test_any_mobilenet_space_conforms(check):
    @PROPERTY
    @given(space=mobilenet_spaces(), seed=seeds)
    def holds(space, seed):
        check(space, np.random.default_rng(seed))

    holds()


@pytest.mark.parametrize(
    "check", [*space_suite.CHECKS, space_suite.check_count_by_enumeration], ids=lambda check: check.__name__
)
def test_any_tree_of_choices_conforms(check):
    @PROPERTY
    @given(space=categorical_spaces(), seed=seeds)
    def holds(space, seed):
        check(space, np.random.default_rng(seed))

    holds()


@pytest.mark.parametrize("name", ["tiny", "tiny-int8", "tiny-fp32", "categorical", "mixed options", "one network"])
def test_count_is_what_enumeration_finds(name):
    space_suite.check_count_by_enumeration(NAMED[name], np.random.default_rng(0))


def test_enumeration_refuses_a_space_that_is_too_large():
    with pytest.raises(ValueError, match="can be enumerated"):
        space_suite.check_count_by_enumeration(mobilenet_tiny(), np.random.default_rng(0))


# ---------------------------------------------------------------- the suite finds what is broken


class _OneNetwork(MobileNetSpace):
    """Makes the same blocks whatever is chosen."""

    def block_at(self, slot, options):
        return super().block_at(slot, [0] * len(options))


class _ForgetsDependency(CategoricalSpace):
    """Its slot looks at a choice that another one switches off, and does not say so."""

    def __init__(self):
        super().__init__({"depth": (1, 2), "kernel": (3, 5)}, conditions={"kernel": ("depth", (2,))})
        self.slots = (Slot(name="block", depends_on=(1,)),)

    def block_at(self, slot, options):
        shape = (1, 1, 1)
        attributes = (("kernel_size", self.choices[1].options[options[0]]),)
        return Block(kind="conv", in_shape=shape, out_shape=shape, precision="fp32", attributes=attributes)


class _ForgetsConditions(CategoricalSpace):
    def canonical(self, encodings):
        return self.validate(encodings).copy()


def _broken(check, space):
    with pytest.raises(AssertionError):
        check(space, np.random.default_rng(0))


def test_suite_finds_canonical_that_forgets_conditions():
    space = _ForgetsConditions({"a": (1, 2), "b": (3, 4)}, conditions={"b": ("a", (2,))})
    _broken(space_suite.check_canonical, space)
    _broken(space_suite.check_count_by_enumeration, space)


def test_suite_finds_networks_that_are_one():
    space = _OneNetwork.from_arguments("one", tiny_space().arguments())
    _broken(space_suite.check_networks_are_distinct, space)


def test_suite_finds_a_slot_that_hides_a_dependency():
    _broken(space_suite.check_blocks_depend_on_slots_choices, _ForgetsDependency())


def test_suite_finds_a_wrong_count():
    space = CategoricalSpace({"a": (1, 2)})
    space.count = lambda: 3  # type: ignore[method-assign]
    _broken(space_suite.check_count_by_enumeration, space)
