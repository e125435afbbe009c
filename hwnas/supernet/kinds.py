"""The two kinds of supernet, which the rest of hwnas uses alike: of a space's blocks, and of a given network."""

from __future__ import annotations

from typing import TypeAlias

from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.elastic import Supernet

AnySupernet: TypeAlias = Supernet | AdaptedSupernet
