from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import CheckpointError
from hwnas.supernet.identity import refuse_other_identity


def test_a_checkpoint_that_does_not_say_it_is_of_recalibrated_statistics(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    refuse_other_identity(path, {"space": "a"}, {"space": "a", "batch_norm": "recalibrated"})
    with pytest.raises(CheckpointError, match="batch_norm was 'recalibrated', now 'frozen'"):
        refuse_other_identity(path, {"space": "a"}, {"space": "a", "batch_norm": "frozen"})
