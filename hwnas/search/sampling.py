"""How a search proposes architectures, as it is asked for: names and numbers; Optuna is loaded by who uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.types import Option

if TYPE_CHECKING:
    from hwnas.search.space_sampler import SamplerFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What proposes architectures, and which come first.

    Attributes:
        sampler: registered name, or a factory `(problem, *, seed) -> BaseSampler`.
        seed: of the proposals, 0 to 2^32 - 1.
        initial: architectures (choice name -> option) to evaluate first; one that breaks a limit is moved to the
            nearest that does not.

    Raises:
        ConfigError: another seed.
    """

    sampler: str | SamplerFactory = "predictor"
    seed: int = 0
    initial: tuple[Mapping[str, Option], ...] = ()

    def __post_init__(self) -> None:
        # Optuna's samplers draw from NumPy's older generators, which take no other seed
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"the seed of a search is {self.seed}; it must be 0 to {2**32 - 1}")

    def factory(self) -> SamplerFactory:
        """What makes the sampler.

        Raises:
            UnknownNameError: no such sampler; lists the known ones.
        """
        if not isinstance(self.sampler, str):
            return self.sampler
        factory: SamplerFactory = registry.load("samplers", self.sampler)
        return factory
