import numpy as np
import pytest

from hwnas.cost._layers import Layers
from tests.cost.chains import ALL, SIZES, random_costs

NO_CAPS = np.full(2, np.inf)


@pytest.mark.parametrize("neighbours", [5, 3])
def test_an_assignment_costs_in_layers_what_its_entries_come_to(neighbours: int) -> None:
    costs = random_costs(["sum", "max"], seed=0, neighbours=neighbours)
    layers = Layers.of(costs, SIZES)
    assert all(layers.values(x).tolist() == [c.combined(x) for c in costs] for x in ALL)


def test_variables_are_set_together_as_long_as_nothing_can_be_forgotten() -> None:
    layers = Layers.of(random_costs(["sum"], seed=0), SIZES)
    assert [la.variables.tolist() for la in layers.layers] == [[0], [1, 2], [3], [4], [5]]


@pytest.mark.parametrize("neighbours", [5, 3])
def test_a_part_costs_what_the_whole_costs_with_that_option(neighbours: int) -> None:
    layers = Layers.of(random_costs(["sum", "max"], seed=1, neighbours=neighbours), SIZES)
    assert layers.can_part
    for x in ALL:
        part = layers.part(int(x[0]))
        assert part.values(x).tolist() == layers.values(x).tolist()


@pytest.mark.parametrize("neighbours", [5, 3])
def test_the_least_of_each_part_is_known_of_the_whole(neighbours: int) -> None:
    costs = random_costs(["sum", "sum"], seed=2, neighbours=neighbours)
    layers, weights = Layers.of(costs, SIZES), np.array([1.0, 0.5])
    bound = layers.bound(weights, NO_CAPS)
    totals = np.array([weights @ [c.combined(x) for c in costs] for x in ALL])
    for option in range(SIZES[0]):
        least = totals[ALL[:, 0] == option].min()
        part = layers.part(option)
        mine = part.bound(weights, NO_CAPS)
        assert (bound.by_first[option], mine.total) == (least, least)
        found = part.minimizer(mine, NO_CAPS)
        assert found[0] == option
        assert weights @ layers.values(found) == least


def test_costs_that_soon_forget_the_first_variable_are_not_parted() -> None:
    assert not Layers.of(random_costs(["sum"], seed=0, neighbours=1), SIZES).can_part
