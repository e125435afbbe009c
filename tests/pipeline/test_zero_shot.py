"""What slices of a given network are worth before any training."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.errors import SpaceError
from tests.pipeline.test_adapting import folder, own  # noqa: F401 - a fixture
from tests.runs import ReadConsole


def test_slices_are_told_where_images_are_named(folder: Path) -> None:  # noqa: F811
    result = pipeline.adapt(own(folder, data__source="digits"), console=ReadConsole())
    names = [s.name for s in result.slices]
    assert names == [
        "as it is", "widths at 0.75", "widths at 0.5", "widths at 0.25", "half of the blocks", "the smallest",
    ]  # fmt: skip
    by_name = {s.name: s for s in result.slices}
    assert by_name["as it is"].macs == result.macs[1]
    assert by_name["the smallest"].macs == result.macs[0]
    assert by_name["half of the blocks"].macs < by_name["as it is"].macs
    assert all(0 <= s.accuracy <= 1 and s.images >= 100 for s in result.slices)
    assert "accuracy, as it is" in str(result.shown.rows)


def test_images_of_other_classes_are_refused(folder: Path) -> None:  # noqa: F811
    (folder / "nets.py").write_text((folder / "nets.py").read_text().replace("classes=10", "classes=7"))
    with pytest.raises(SpaceError, match="gives 7 outputs; the images have 1 channels and 10 classes"):
        pipeline.adapt(own(folder, data__source="digits"), console=ReadConsole())
