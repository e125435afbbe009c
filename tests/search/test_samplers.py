"""Every registered sampler passes the conformance checks."""

from pathlib import Path

import pytest

from hwnas import registry
from hwnas.testing.search_suite import SAMPLER_CHECKS, SamplerCheck, small_space, suite_space


@pytest.mark.parametrize("name", registry.names("samplers"))
@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda c: c.__name__)
def test_registered_sampler(name: str, check: SamplerCheck, tmp_path: Path) -> None:
    check(name, tmp_path)


def test_suite_spaces_have_the_sizes_their_docs_say() -> None:
    assert (suite_space().count(), small_space().count()) == (312, 4)
