"""What is only timed: the same each time, as it would ship, and nothing of the process's own state."""

from pathlib import Path

import pytest
import torch

from hwnas.errors import SpaceError, UnknownNameError
from hwnas.precisions import EXACT
from hwnas.supernet.quantization import QuantizedNetwork
from hwnas.supernet.untrained import Untrained, drift_anchor, untrained_block, untrained_network, untrained_part
from hwnas.testing.exporter_suite import sample_blocks
from hwnas.types import NETWORK_ENDS, Artefact, Block, Ends


def weights(made: Untrained) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in made.model.parameters()])


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    block = sample_blocks("ffff")[1]
    first, again, other = (weights(untrained_block(block, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_anchor_is_the_same_every_time() -> None:
    assert torch.equal(weights(drift_anchor("int8")), weights(drift_anchor("int8")))


def test_nothing_is_drawn_from_the_global_generator_and_threads_stay_as_many() -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    untrained_block(sample_blocks("iiii")[1])
    drift_anchor("fp32")
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("place", "integers"), [(0, (False, True)), (1, (True, True)), (-2, (True, True)), (-1, (True, False))]
)
def test_an_int8_block_has_integers_where_its_neighbours_are(place: int, integers: tuple[bool, bool]) -> None:
    ends = untrained_block(sample_blocks("iiii")[place]).ends
    assert (ends.integer_input, ends.integer_output) == integers
    assert ends.fixed_batch


@pytest.mark.parametrize(("first", "integers"), [(1, (True, True)), (2, (True, True))])
def test_a_pair_of_int8_blocks_has_integers_at_its_ends(first: int, integers: tuple[bool, bool]) -> None:
    pair = sample_blocks("iiii")[first : first + 2]
    part = untrained_part(pair)
    assert (part.ends.integer_input, part.ends.integer_output) == integers
    assert tuple(part.example.shape[1:]) == pair[0].in_shape
    assert isinstance(part.model, QuantizedNetwork)


def test_a_float_block_has_float_ends() -> None:
    ends = untrained_block(sample_blocks("ffff")[1]).ends
    assert (ends.integer_input, ends.integer_output) == (False, False)


def test_a_network_has_the_ends_of_what_ships() -> None:
    assert untrained_network(sample_blocks("fiif"), precision="int8").ends == NETWORK_ENDS


@pytest.mark.parametrize("symmetric", [True, False])
def test_activations_have_the_zero_points_the_runtime_wants(symmetric: bool) -> None:
    model = untrained_network(sample_blocks("iiii"), precision="int8", symmetric=symmetric).model
    assert isinstance(model, QuantizedNetwork)
    output = model.output_quantizer
    assert output is not None
    assert (int(output.zero_point) == 0) == symmetric


def test_an_exporter_is_told_all_of_it(tmp_path: Path) -> None:
    class Told:
        format = "told"

        def export(self, *arguments: object, **how: object) -> Artefact:
            told.append((arguments, how))
            return Artefact(path=tmp_path, format="told", precision=EXACT, sha256="", size_bytes=0)

    told: list[tuple[tuple[object, ...], dict[str, object]]] = []
    made = drift_anchor("int8")
    made.write(Told(), tmp_path)
    how = {"precision": "int8", "ends": Ends(fixed_batch=True)}
    assert told == [((made.model, made.example, tmp_path), how)]


def test_an_unknown_kind_of_block_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"unknown .* 'attention'"):
        untrained_block(Block(kind="attention", in_shape=(4,), out_shape=(4,), precision="fp32"))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"known: .*fp32, int4w, int8"):
        drift_anchor("int4")
