"""Encodings, counting and variation, on small spaces whose answers are known."""

import collections
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings

from hwnas.errors import SpaceError
from hwnas.spaces import CategoricalSpace, space_from_json
from hwnas.spaces.encoding import ChoiceTree
from hwnas.spaces.presets import mobilenet_v3_large
from hwnas.testing.spaces import tiny_space
from hwnas.types import Choice
from tests.spaces.strategies import categorical_spaces, seeds


@pytest.fixture
def stage():
    """A depth of 1 or 2, a kernel for each block: 3 + 3 * 3 networks."""
    return CategoricalSpace(
        {"depth": (1, 2), "kernel0": (3, 5, 7), "kernel1": (3, 5, 7)}, conditions={"kernel1": ("depth", (2,))}
    )


# ---------------------------------------------------------------- encode and decode


def test_decode_leaves_out_what_is_switched_off(stage):
    assert stage.decode(np.array([0, 1, 2])) == {"depth": 1, "kernel0": 5}


def test_encode_needs_nothing_for_what_is_switched_off(stage):
    assert stage.encode({"depth": 1, "kernel0": 7}).tolist() == [0, 2, 0]


def test_encode_ignores_what_is_switched_off(stage):
    assert stage.encode({"depth": 1, "kernel0": 7, "kernel1": 7}).tolist() == [0, 2, 0]


def test_encode_takes_any_order_and_numpy_numbers(stage):
    assert stage.encode({"kernel1": np.int64(5), "kernel0": 3, "depth": np.int32(2)}).tolist() == [1, 0, 1]


def test_encode_lists_the_choices_when_one_is_unknown(stage):
    with pytest.raises(SpaceError, match=r"no choice 'width'; the choices: depth, kernel0, kernel1"):
        stage.encode({"width": 1})


@pytest.mark.parametrize("value", [4, "3", None, [3], True])
def test_encode_lists_the_options_when_one_is_unknown(stage, value):
    with pytest.raises(SpaceError, match="no option of choice 'kernel0'; allowed: 3, 5, 7"):
        stage.encode({"depth": 1, "kernel0": value})


def test_encode_refuses_a_number_for_a_boolean():
    with pytest.raises(SpaceError, match="allowed: False, True"):
        CategoricalSpace({"se": (False, True)}).encode({"se": 1})


def test_encode_names_an_active_choice_that_is_missing(stage):
    with pytest.raises(SpaceError, match="nothing about 'kernel1'; give it one of 3, 5, 7"):
        stage.encode({"depth": 2, "kernel0": 3})


@pytest.mark.parametrize(
    ("encodings", "message"),
    [
        (np.array([0.0, 0.0, 0.0]), "must be integers"),
        (np.array([True, False, True]), "must be integers"),
        (np.array([0, 0]), r"shape \(3,\) or \(N, 3\)"),
        (np.zeros((1, 1, 3), int), r"got \(1, 1, 3\)"),
        (np.array(0), "shape"),
        (np.array([[0, 0, 0], [0, 3, 0]]), "option index 3 for choice 'kernel0'; allowed: 0 to 2"),
        (np.array([0, -1, 0]), "option index -1 for choice 'kernel0'"),
    ],
)
def test_validate_says_what_is_wrong(stage, encodings, message):
    for method in (stage.validate, stage.canonical, stage.active):
        with pytest.raises(SpaceError, match=message):
            method(encodings)


def test_validate_takes_any_integer_type(stage):
    assert stage.validate(np.array([1, 2, 2], np.uint8)).dtype == np.int64


def test_decode_refuses_a_batch(stage):
    with pytest.raises(SpaceError, match="one encoding"):
        stage.decode(np.zeros((2, 3), int))


# ---------------------------------------------------------------- counting and sampling


def test_count_follows_conditions(stage):
    assert stage.count() == 3 + 9


def test_count_follows_conditions_of_conditions():
    space = CategoricalSpace(
        {"a": (0, 1), "b": (0, 1, 2), "c": (0, 1, 2, 3, 4)}, conditions={"b": ("a", (1,)), "c": ("b", (0, 2))}
    )
    assert space.count() == 1 + (5 + 1 + 5)


def _is_distributed(observed, expected):
    """Chi-square within its mean and six standard deviations, and a margin for few degrees of freedom."""
    chi2 = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    degrees = len(observed) - 1
    return chi2 < degrees + 6 * math.sqrt(2 * degrees) + 15


@settings(deadline=None, max_examples=25)
@given(space=categorical_spaces(max_choices=5), seed=seeds)
def test_sampling_is_uniform_over_networks(space, seed):
    per_network = 100
    if not 2 <= space.count() <= 200:
        return
    drawn = space.sample(per_network * space.count(), np.random.default_rng(seed))
    counts = collections.Counter(map(bytes, drawn))
    assert len(counts) == space.count()
    assert _is_distributed(counts.values(), [per_network] * space.count())


def test_sampling_over_encodings_draws_each_option_equally(stage):
    depth = stage.sample(4000, np.random.default_rng(0), over="encodings")[:, 0]
    assert np.bincount(depth).tolist() == pytest.approx([2000, 2000], abs=200)


def test_sampling_over_networks_draws_the_deep_stage_more_often(stage):
    depth = stage.sample(4000, np.random.default_rng(0))[:, 0]
    assert np.bincount(depth).tolist() == pytest.approx([1000, 3000], abs=200)


def test_sampling_of_a_huge_space_has_the_exact_depth_frequencies():
    space = mobilenet_v3_large().restrict(precisions=("fp32",), resolutions=(224,))
    drawn = space.sample(20_000, np.random.default_rng(0))
    total = 9**2 + 9**3 + 9**4
    for stage in range(1, 6):
        depth = drawn[:, [c.name for c in space.choices].index(f"stages.{stage}.depth")]
        expected = [20_000 * 9**d / total for d in (2, 3, 4)]
        assert _is_distributed(np.bincount(depth, minlength=3), expected)


def test_thresholds_stay_exact_where_counts_exceed_floats():
    below = [Choice(name=f"c{i}", options=tuple(range(9)), parent=0, active_when=frozenset({1})) for i in range(400)]
    tree = ChoiceTree([Choice(name="on", options=(False, True)), *below])
    assert tree.count() == 1 + 9**400
    drawn = tree.sample_networks(50, np.random.default_rng(0))
    assert (drawn[:, 0] == 1).all()


def test_sample_refuses_a_negative_number(stage):
    with pytest.raises(SpaceError, match="cannot sample -1"):
        stage.sample(-1, np.random.default_rng(0))


def test_sample_lists_what_it_samples_over(stage):
    with pytest.raises(SpaceError, match="allowed: networks, encodings"):
        stage.sample(1, np.random.default_rng(0), over="blocks")


# ---------------------------------------------------------------- variation


def test_mutation_changes_the_expected_share_of_choices():
    space = CategoricalSpace({f"c{i}": (0, 1, 2) for i in range(10)})
    parents = space.sample(2000, np.random.default_rng(0))
    mutants = space.mutate(parents, np.random.default_rng(1), probability=0.2)
    assert np.mean(mutants != parents) == pytest.approx(0.2, abs=0.02)


def test_mutation_draws_the_other_options_equally():
    space = CategoricalSpace({"c": (0, 1, 2, 3)})
    mutants = space.mutate(np.full((3000, 1), 2), np.random.default_rng(0), probability=1.0)
    assert np.bincount(mutants[:, 0]).tolist() == pytest.approx([1000, 1000, 0, 1000], abs=150)


def test_mutation_gives_a_random_option_to_what_it_switches_on(stage):
    mutants = stage.mutate(np.zeros((3000, 3), int), np.random.default_rng(0), probability=1.0)
    assert (mutants[:, 0] == 1).all()
    assert np.bincount(mutants[:, 2]).tolist() == pytest.approx([1000] * 3, abs=150)


def test_mutation_keeps_the_shape(stage):
    rng = np.random.default_rng(0)
    assert stage.mutate(stage.largest(), rng, probability=0.5).shape == (3,)
    assert stage.mutate(np.zeros((0, 3), int), rng, probability=0.5).shape == (0, 3)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_mutation_refuses_what_is_no_probability(stage, probability):
    with pytest.raises(SpaceError, match="allowed: 0 to 1"):
        stage.mutate(stage.largest(), np.random.default_rng(0), probability=probability)


def test_crossover_takes_equally_from_both_parents():
    space = CategoricalSpace({f"c{i}": (0, 1) for i in range(10)})
    children = space.crossover(np.zeros((1000, 10), int), np.ones((1000, 10), int), np.random.default_rng(0))
    assert children.mean(axis=0).tolist() == pytest.approx([0.5] * 10, abs=0.08)


def test_crossover_takes_an_option_from_the_parent_where_it_is_active(stage):
    shallow, deep = np.tile([0, 1, 0], (200, 1)), np.tile([1, 1, 2], (200, 1))
    children = stage.crossover(shallow, deep, np.random.default_rng(0))
    assert set(map(tuple, children.tolist())) == {(0, 1, 0), (1, 1, 2)}


def test_crossover_refuses_parents_of_two_shapes(stage):
    with pytest.raises(SpaceError, match="one shape"):
        stage.crossover(np.zeros((2, 3), int), np.zeros((3, 3), int), np.random.default_rng(0))


# ---------------------------------------------------------------- equality and files


def test_fingerprint_is_the_same_in_another_process():
    code = "from hwnas.testing.spaces import tiny_space; print(tiny_space().fingerprint())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tiny_space().fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        CategoricalSpace({"b": (1, 2), "a": (1, 2)}),
        CategoricalSpace({"a": (2, 1), "b": (1, 2)}),
        CategoricalSpace({"a": (1, 2), "b": (1, 2)}, name="other"),
        CategoricalSpace({"a": (1, 2), "b": (1, 2)}, conditions={"b": ("a", (1,))}),
    ],
)
def test_spaces_differ_in_order_name_and_conditions(other):
    space = CategoricalSpace({"a": (1, 2), "b": (1, 2)})
    assert other != space
    assert other.fingerprint() != space.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2, this version of hwnas reads 1"),
        ({"type": "unheard-of"}, "unknown type of space 'unheard-of'; known: adapted, categorical, conv1d, mobilenet"),
        ({"name": ""}, "needs a name"),
        ({"colour": "red"}, "unknown key 'colour'; its keys: in_channels"),
        ({"stages": 3}, "must be a list"),
        ({"stages": [3]}, "must be an object"),
        ({"stages": [{"channels": 8}]}, "missing key 'stride'"),
        ({"resolutions": "8"}, "sequence of options"),
    ],
)
def test_reading_a_wrong_space_says_what_is_wrong(change, message):
    with pytest.raises(SpaceError, match=message):
        space_from_json({**tiny_space().to_json(), **change})


@pytest.mark.parametrize("key", sorted(tiny_space().to_json()))
def test_reading_a_space_with_a_missing_key_names_it(key):
    with pytest.raises(SpaceError, match=f"missing key '{key}'"):
        space_from_json({k: v for k, v in tiny_space().to_json().items() if k != key})


def test_reading_something_else_is_a_space_error():
    with pytest.raises(SpaceError, match="JSON object"):
        space_from_json([])  # type: ignore[arg-type]


def test_importing_spaces_loads_no_torch():
    code = "import sys, hwnas.spaces.presets, hwnas.testing.spaces; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- wrong definitions


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([Choice(name="a", options=())], "no options"),
        ([Choice(name="a", options=(1, 1))], "option 1 twice"),
        ([Choice(name="a", options=(1, True))], "option True twice"),
        ([Choice(name="a", options=(math.nan,))], "finite numbers"),
        ([Choice(name="a", options=(None,))], "options are text"),  # type: ignore[arg-type]
        ([Choice(name="a", options=(1,)), Choice(name="a", options=(1,))], "two choices are named 'a'"),
        ([Choice(name="a", options=(1,), parent=0, active_when=frozenset({0}))], "must stand before"),
        ([Choice(name="a", options=(1,), active_when=frozenset({0}))], "no parent"),
        (
            [Choice(name="a", options=(1,)), Choice(name="b", options=(1,), parent=0, active_when=frozenset({1}))],
            "each from 0 to 0",
        ),
        ([Choice(name="a", options=(1,)), Choice(name="b", options=(1,), parent=0)], "at least one"),
    ],
)
def test_choices_that_make_no_tree_are_refused(choices, message):
    with pytest.raises(SpaceError, match=message):
        ChoiceTree(choices)
