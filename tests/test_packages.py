"""What hwnas asks for, read from metadata, and what pip is told to install what is missing."""

from __future__ import annotations

import pytest

from hwnas import packages
from hwnas.errors import MissingPackageError
from hwnas.packages import Requirement, installed_as, requirement_of, requirements, to_install

FULL = (
    "numpy>=2.0",
    "torch>=2.6",
    "scikit-learn>=1.5",
    'fastapi>=0.115; extra == "serve"',
    'pytest>=8; extra == "dev"',
)
LIGHT = (
    "numpy>=2.0",
    'fastapi>=0.115; extra == "serve"',
    'scikit-learn>=1.5; extra == "predict"',
    'torch>=2.6; extra == "full"',
    'scikit-learn>=1.5; extra == "full"',
)


def pretend(monkeypatch: pytest.MonkeyPatch, **asking: tuple[str, ...]) -> None:
    """Have these distributions installed, with what each asks for; their hyphens are underscores here."""
    known = {name.replace("_", "-"): texts for name, texts in asking.items()}
    monkeypatch.setattr(packages, "requires", lambda name: list(known[name]))
    monkeypatch.setattr(packages, "installed_version", lambda name: "1.0" if name in known else None)


def test_a_module_that_a_package_has_not_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, hwnas=FULL)
    for within in ("numpy.foo", "numpy.foo.bar", "hwnas.zoo.old"):  # both are imported
        assert MissingPackageError.of(ModuleNotFoundError(name=within), needed_for="it") is None
    missing = MissingPackageError.of(ModuleNotFoundError(name="sklearn"), needed_for="it")
    assert missing is not None
    assert missing.package == "scikit-learn"


def test_requirements_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, hwnas=FULL)
    assert requirements()[:2] == (
        Requirement(name="numpy", minimum="2.0"),
        Requirement(name="torch", minimum="2.6"),
    )
    assert requirements()[3] == Requirement(name="fastapi", minimum="0.115", extra="serve")
    assert str(requirements()[0]) == "numpy>=2.0"


def test_modules_without_metadata_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert installed_as() == requirements() == ()
    assert to_install("fastapi", extra="serve") == "'hwnas[serve]'"


@pytest.mark.parametrize("package", ["scikit-learn", "sklearn", "Scikit_Learn"])
def test_a_package_is_known_by_its_module_too(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    pretend(monkeypatch, hwnas=FULL)
    assert requirement_of(package) == Requirement(name="scikit-learn", minimum="1.5")


@pytest.mark.parametrize("package", ["pytest", "a_package_nobody_has"])
def test_what_no_user_needs_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    pretend(monkeypatch, hwnas=FULL)
    assert requirement_of(package) is None
    assert to_install(package) == package


@pytest.mark.parametrize(
    ("package", "told"), [("torch", "'torch>=2.6'"), ("fastapi", "'hwnas[serve]'"), ("sklearn", "'scikit-learn>=1.5'")]
)
def test_hwnas_names_a_package_or_an_extra(monkeypatch: pytest.MonkeyPatch, package: str, told: str) -> None:
    pretend(monkeypatch, hwnas=FULL)
    assert to_install(package) == told


@pytest.mark.parametrize(
    ("package", "told"),
    [("torch", "'hwnas-light[full]'"), ("fastapi", "'hwnas-light[serve]'"), ("sklearn", "'hwnas-light[predict]'")],
)
def test_hwnas_light_names_its_own_extras(monkeypatch: pytest.MonkeyPatch, package: str, told: str) -> None:
    pretend(monkeypatch, hwnas_light=LIGHT)
    assert to_install(package) == told


def test_of_several_extras_the_one_that_brings_most_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, hwnas_light=LIGHT)
    found = requirement_of("sklearn", with_most=True)
    assert found is not None
    assert found.extra == "full"


def test_a_failed_import_of_what_is_asked_for_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, hwnas_light=LIGHT)
    error = MissingPackageError.of(ModuleNotFoundError(name="sklearn"), needed_for="hwnas query")
    assert error is not None
    assert (error.package, error.extra) == ("scikit-learn", "predict")
    assert str(error) == (
        "hwnas query needs the package 'scikit-learn', which is not installed; "
        "install it with: pip install 'hwnas-light[predict]'"
    )


@pytest.mark.parametrize("name", ["pandas", None])
def test_a_failed_import_of_anything_else_is_not_ours_to_tell(name: str | None) -> None:
    assert MissingPackageError.of(ModuleNotFoundError(name=name), needed_for="hwnas query") is None
