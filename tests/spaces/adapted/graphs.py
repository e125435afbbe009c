"""Graphs of small given networks, built by hand."""

from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight


def conv_bn(g: GraphBuilder, x: Ref, channels: int, name: str, *, act: bool = True, **more: int) -> Ref:
    y = g.batch_norm(g.conv2d(x, channels, name=f"{name}.conv", **more), name=f"{name}.bn")
    return g.op("relu", y, name=f"{name}.act") if act else y


def inverted_residual(g: GraphBuilder, x: Ref, name: str, *, hidden: int, kernel_size: int) -> Ref:
    y = conv_bn(g, x, hidden, f"{name}.expand")
    y = conv_bn(g, y, hidden, f"{name}.depthwise", kernel_size=kernel_size, groups=hidden)
    return g.op("add", x, conv_bn(g, y, x.shape[0], f"{name}.project", act=False), name=f"{name}.sum")


def mobile(side: int = 16, *, blocks: int = 2, hidden: int = 16) -> OpGraph:
    """A stem, residual blocks of one stage with a kernel of 5, a head."""
    g = GraphBuilder()
    x = conv_bn(g, g.input((3, side, side)), 8, "stem", kernel_size=3, stride=2)
    for i in range(blocks):
        x = inverted_residual(g, x, f"blocks.{i}", hidden=hidden, kernel_size=5)
    x = conv_bn(g, x, 32, "last")
    x = g.op("mean", x, name="pool", axes=(1, 2))
    return g.build(g.linear(x, 5, name="head"))


def plain(side: int = 8, *, widths: tuple[int, ...] = (8, 16, 16, 16)) -> OpGraph:
    """Convolutions in a row."""
    g = GraphBuilder()
    x = g.input((3, side, side))
    for i, channels in enumerate(widths):
        x = conv_bn(g, x, channels, f"features.{i}", kernel_size=3)
    return g.build(g.linear(g.flatten(x, name="flat"), 4, name="head"))


def dense(layers: int = 5) -> OpGraph:
    """Every layer reads all before it: one region of many dimensions."""
    g = GraphBuilder()
    x = conv_bn(g, g.input((3, 8, 8)), 8, "stem", kernel_size=3)
    for i in range(layers):
        x = g.op("concat", x, conv_bn(g, x, 8, f"block.{i}", kernel_size=3), name=f"cat{i}", axis=0)
    return g.build(g.linear(g.op("mean", x, name="pool", axes=(1, 2)), 4, name="head"))


def text(tokens: int = 6, *, width: int = 16) -> OpGraph:
    """Embedded tokens through two residual blocks."""
    g = GraphBuilder()
    ids = g.input((tokens,), dtype="int64")
    x = g.op("embedding", ids, name="table", weights={"weight": Weight(name="table.weight", shape=(10, width))})
    for i in range(2):
        y = g.op("relu", g.linear(x, 32, name=f"blocks.{i}.up"), name=f"blocks.{i}.act")
        x = g.op("add", x, g.linear(y, width, name=f"blocks.{i}.down"), name=f"blocks.{i}.sum")
    return g.build(g.linear(g.op("mean", x, name="pool", axes=(0,)), 4, name="head"))


def many_branches(stages: int = 8) -> OpGraph:
    """Residual branches of as many streams, and a way around them all: one region."""
    g = GraphBuilder()
    first = x = conv_bn(g, g.input((3, 8, 8)), 8, "stem", kernel_size=3)
    for i in range(stages):
        x = conv_bn(g, x, 8 * (i + 1), f"stage{i}.lead")
        for j in range(2):
            name = f"stage{i}.branch{j}"
            y = conv_bn(g, conv_bn(g, x, 8, f"{name}.a"), 8 * (i + 1), f"{name}.b", act=False)
            x = g.op("add", x, y, name=f"{name}.sum")
    x = g.op("concat", first, x, name="around", axis=0)
    return g.build(g.linear(g.op("mean", x, name="pool", axes=(1, 2)), 4, name="head"))
