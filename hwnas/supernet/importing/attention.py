"""Attention, found again in the products and the softmax that exporters write for it.

With it the heads of a network are known as such, and can be fewer. It knows nodes and constants; never torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.supernet.importing.folding import of_sizes
from hwnas.supernet.importing.nodes import Node, OnnxGraph

KIND = "ScaledDotProductAttention"  # inputs: query, key, value, mask, and numbers that the scores are scaled by


def fuse_attention(graph: OnnxGraph) -> None:
    """Put one operator in the place of softmax(q k^T) v (Vaswani et al., 2017), in place."""
    finder = _Finder(graph)
    graph.nodes = [finder.attention(node) or node for node in graph.nodes]
    graph.prune()


class _Finder:
    """Looks for attention in a graph.

    Args:
        graph: as it is now.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._producers: Mapping[str, Node] = graph.producers()
        self._sizes = of_sizes(graph)

    def attention(self, node: Node) -> Node | None:
        """The operator that a product is the end of; None: of none."""
        softmax = self._made(node.input(0), "Softmax") if node.kind == "MatMul" else None
        if softmax is None or softmax.attributes.get("axis", -1 if self._graph.opset >= 13 else 1) not in {-1, 3}:
            return None
        scales: list[tuple[str, int]] = []
        scores, mask = softmax.input(0), ""
        added = self._made(scores, "Add")
        if added is not None:
            first, second = added.inputs
            scores, mask = (first, second) if self._product(first) else (second, first)
        scores = self._unscaled(scores, scales)
        product = self._made(scores, "MatMul")
        found = None if product is None else self._turned(self._unscaled(product.input(1), scales))
        if product is None or found is None:
            return None
        key, order = found
        query = self._unscaled(product.input(0), scales)
        attributes = {
            "order": order,
            "powers": [power for _, power in scales],
        }
        inputs = [query, key, node.input(1), mask, *(name for name, _ in scales)]
        return Node(
            kind=KIND,
            name=softmax.name,
            scope=softmax.scope,
            inputs=inputs,
            outputs=node.outputs,
            attributes=attributes,
        )

    def _turned(self, value: str) -> tuple[str, list[int]] | None:
        """What is turned for a product, and the order of its axes with which it is the key: rows of numbers."""
        around = self._made(
            value, "Reshape"
        )  # torch's newer exporter turns three axes, with the heads among the samples
        turned = self._made(value if around is None else around.input(0), "Transpose")
        if turned is None:
            return None
        order = list(turned.attributes.get("perm", []))
        if around is None:
            return turned.input(0), [*order[:-2], *order[:-3:-1]]
        before = self._made(turned.input(0), "Reshape")
        return (before.input(0), []) if before is not None and order == [0, 2, 1] else None

    def _made(self, value: str, kind: str) -> Node | None:
        node = self._producers.get(value)
        return node if node is not None and node.kind == kind else None

    def _product(self, value: str) -> bool:
        return self._made(self._unscaled(value, []), "MatMul") is not None

    def _unscaled(self, value: str, scales: list[tuple[str, int]]) -> str:
        """A value before it is multiplied with a number, or divided by one; the number is added to a list."""
        node = self._producers.get(value)
        if node is None or node.kind not in {"Mul", "Div"}:
            return value
        first, second = node.inputs
        if self._is_number(second):
            scales.append((second, 1 if node.kind == "Mul" else -1))
            return first
        if node.kind == "Mul" and self._is_number(first):
            scales.append((first, 1))
            return second
        return value

    def _is_number(self, name: str) -> bool:
        return self._graph.is_scalar(name) or name in self._sizes
