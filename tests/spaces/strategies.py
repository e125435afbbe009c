"""Random spaces for property tests: any tree of choices, any small MobileNet."""

from __future__ import annotations

from hypothesis import strategies as st

from hwnas.errors import SpaceError
from hwnas.spaces import CategoricalSpace, MobileNetSpace, MobileNetSpec, Space, StageSpec

seeds = st.integers(0, 2**32 - 1)


def subsets(options, *, max_size=3):
    return st.lists(st.sampled_from(options), min_size=1, max_size=max_size, unique=True).map(tuple)


@st.composite
def categorical_spaces(draw, *, max_choices=7):
    """Trees of any shape: each choice may depend on any earlier one."""
    n = draw(st.integers(1, max_choices))
    choices, conditions = {}, {}
    for i in range(n):
        name = f"c{i}"
        choices[name] = tuple(range(draw(st.integers(1, 4))))
        if i and draw(st.booleans()):
            parent = f"c{draw(st.integers(0, i - 1))}"
            conditions[name] = (parent, draw(subsets(choices[parent], max_size=4)))
    return CategoricalSpace(choices, conditions=conditions)


@st.composite
def mobilenet_spaces(draw):
    stages = [
        StageSpec(
            channels=draw(st.sampled_from((8, 16, 24, 40))),
            stride=draw(st.sampled_from((1, 2))),
            depths=draw(subsets((1, 2, 3))),
            kernel_sizes=draw(subsets((1, 3, 5, 7))),
            expand_ratios=draw(subsets((1, 2, 3, 4.5, 6))),
            activations=draw(subsets(("relu6", "hswish"))),
            se=draw(subsets((False, True))),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    arguments = {
        "in_channels": draw(st.sampled_from((1, 3))),
        "n_classes": draw(st.integers(1, 10)),
        "resolutions": draw(subsets((16, 17, 20, 32))),
        "width_mults": draw(subsets((0.5, 1.0, 1.4))),
        "stem_channels": draw(st.sampled_from((8, 16, 20))),
        "stem_stride": draw(st.sampled_from((1, 2))),
        "stages": stages,
        "head_channels": draw(st.sampled_from((32, 100))),
        "head_features": draw(st.sampled_from((0, 64))),
        "se_gate": draw(st.sampled_from(("sigmoid", "hard_sigmoid"))),
        "precisions": draw(subsets(("fp32", "int8"))),
    }
    try:
        return MobileNetSpace("random", MobileNetSpec(**arguments))
    except SpaceError:  # some draws name one network twice; one expand ratio and one width never do
        stages = [StageSpec.from_json({**s.to_json(), "expand_ratios": [3]}) for s in stages]
        return MobileNetSpace("random", MobileNetSpec(**{**arguments, "width_mults": (1.0,), "stages": stages}))


spaces: st.SearchStrategy[Space] = st.one_of(categorical_spaces(), mobilenet_spaces())
