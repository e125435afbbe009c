"""The way from torch modules to operator graphs: `trace`.

A module is exported by `torch.export` as it trains, before anything is taken apart for gradients, and each of torch's
operators becomes one of ours by one rule (`layers`, `numbers`, `shapes`). What meets no rule stays in the graph under
its name in torch (`aten.cumsum`): it is told, not refused. This package knows operators of torch and of graphs; never
blocks, spaces or what a network is for.
"""

from hwnas.supernet.tracing.trace import trace, trace_with_numbers

__all__ = ["trace", "trace_with_numbers"]
