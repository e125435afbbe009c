"""Names of groups of operators, by the modules they lie in."""

from __future__ import annotations

from hwnas.graph import GraphBuilder, OpGraph
from hwnas.graph.elasticity.naming import containers, group_names


def graph(*names: str) -> OpGraph:
    """Layers in a row; what is called an activation, a norm or a pool is one."""
    g = GraphBuilder()
    x = g.input((4, 8, 8))
    for name in names:
        last = name.rpartition(".")[2]
        if "bn" in last:
            x = g.batch_norm(x, name=name)
        elif "act" in last:
            x = g.op("relu", x, name=name)
        else:
            x = g.conv2d(x, 4, name=name)
    return g.build(x)


def named(*groups: str) -> tuple[str, ...]:
    """Of groups written as `conv bn`."""
    whole = graph(*(name for group in groups for name in group.split()))
    ops = {op.name: op for op in whole.ops}
    return group_names(whole, [[ops[name] for name in group.split()] for group in groups])


def test_containers_are_all_modules_around_the_outermost_first() -> None:
    assert list(containers("a.b.c")) == ["a", "a.b"]
    assert list(containers("a")) == []


def test_a_group_is_called_as_the_module_of_its_layers() -> None:
    assert named("layer1.0.conv1 layer1.0.bn1 layer1.0.conv2", "layer1.1.conv1 layer1.1.conv2") == (
        "layer1.0",
        "layer1.1",
    )


def test_operators_elsewhere_that_hold_nothing_do_not_change_the_name() -> None:
    assert named("body.conv1 body.conv2 act", "head.conv") == ("body", "head")


def test_all_operators_have_a_say_where_they_agree() -> None:
    assert named("stage.1.act stage.1.branch2.conv1 stage.1.branch2.conv2", "stage.2.conv") == ("stage.1", "stage.2")


def test_a_module_that_others_lie_in_too_is_no_name() -> None:
    assert named("features.0 features.1_act", "features.3") == ("features.0", "features.3")
    assert named("a.conv1 a.conv2", "a.conv3") == ("a.conv1", "a.conv3")


def test_layers_without_a_module_give_the_name_of_the_first_that_multiplies() -> None:
    assert named("bn0 conv1 conv2", "conv3") == ("conv1", "conv3")


def test_the_shortest_path_that_holds_nothing_else_is_taken() -> None:
    assert named("features.2.conv.0 features.2.conv.1", "features.3.conv.0") == ("features.2", "features.3")
    assert named("patch.embed.proj patch.embed.bn", "head.fc") == ("patch", "head")


def test_a_numbered_block_keeps_its_number_though_it_is_the_only_one() -> None:
    assert named("layer1.0.conv1 layer1.0.conv2", "layer2.0.conv1") == ("layer1.0", "layer2.0")


def test_a_norm_of_its_own_keeps_a_module_from_being_anothers_name() -> None:
    assert named("blocks.a.norm_bn", "blocks.a.mlp.fc1 blocks.a.mlp.fc2") == ("blocks.a.norm_bn", "blocks.a.mlp")


def test_what_neither_multiplies_nor_holds_weights_has_the_name_of_its_operator() -> None:
    assert named("tail.act", "tail.conv") == ("tail.act", "tail")


def test_names_that_would_be_the_same_are_numbered() -> None:
    whole = graph("conv1", "conv2")
    assert group_names(whole, [whole.ops[:1], whole.ops]) == ("conv1", "conv1_1")
