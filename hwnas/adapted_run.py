"""What a run keeps of a network of one's own: the space that was made of it, and its weights.

    network.json             the space: the network's graph at each resolution, and what of it is elastic
    network.safetensors      its weights, and which units of each dimension stay in smaller networks

Later stages need neither the user's code nor another trace. Knows files and the space; torch inside functions only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas._places import user_path
from hwnas.config import ModelConfig, is_onnx
from hwnas.errors import CheckpointError, ConfigError, IntegrityError
from hwnas.files import read_document, sha256_file, write_document
from hwnas.spaces import space_from_json
from hwnas.spaces.adapted import AdaptedSpace

if TYPE_CHECKING:
    from hwnas.supernet.adapted import AdaptedSupernet

SPACE, WEIGHTS = "network.json", "network.safetensors"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class AdaptedRun:
    """A network of one's own in a run's folder.

    Attributes:
        folder: of the run.
    """

    folder: Path

    @property
    def exists(self) -> bool:
        """Whether a network was adapted here."""
        return (self.folder / SPACE).is_file()

    @property
    def weights(self) -> Path:
        """File of the given network's weights."""
        return self.folder / WEIGHTS

    def write(self, space: AdaptedSpace, supernet: AdaptedSupernet, *, model: ModelConfig) -> None:
        """Keep both, the weights first: a space is there once all of it is.

        Args:
            space: of the network.
            supernet: with the given weights, and with orders of importance.
            model: what it was made of.

        Raises:
            OSError: they cannot be written.
        """
        from hwnas.supernet.checkpoint import Checkpoint, save_checkpoint
        from hwnas.supernet.untrained_numbers import orders_of

        fingerprint = space.fingerprint()
        tensors = {f"weight.{name}": t for name, t in supernet.numbers().items()} | orders_of(supernet)
        save_checkpoint(self.weights, Checkpoint(tensors=tensors, meta={"space": fingerprint, "history": []}))
        document = {
            "schema": SCHEMA,
            "made_of": made_of(model),
            "weights_sha256": _sha256(model),
            "space": space.to_json(),
        }
        write_document(self.folder / SPACE, document)

    def space(self, model: ModelConfig) -> AdaptedSpace:
        """The space that was made of the network.

        Args:
            model: what it must have been made of.

        Raises:
            ConfigError: no network was adapted here, it was another one, or the file is damaged.
        """
        path = self.folder / SPACE
        if not path.is_file():
            raise ConfigError(
                f"[model] names a network of your own, and there is none in {self.folder} yet; adapt it first: "
                "`hwnas adapt`"
            )
        try:
            document = read_document(path)
            if document["schema"] != SCHEMA:
                raise IntegrityError(f"schema {document['schema']!r}; this version reads {SCHEMA}")
            before, value, weights = dict(document["made_of"]), document["space"], document["weights_sha256"]
        except (OSError, IntegrityError, KeyError, TypeError, ValueError) as e:
            raise ConfigError(f"{path} cannot be read ({e}); adapt the network again with `hwnas adapt`") from e
        now = made_of(model)
        changed = [f"{k} was {before.get(k)!r}, now {v!r}" for k, v in now.items() if before.get(k) != v]
        if changed:
            raise ConfigError(
                f"the network in {self.folder} was adapted from another [model] ({'; '.join(changed)}); adapt it again "
                "with `hwnas adapt`, or name another output folder"
            )
        if (content := _sha256(model)) is not None and content != weights:  # where it is still there
            raise ConfigError(
                f"{model.weights or model.source} is another file than when the network in {self.folder} was adapted; "
                "adapt it again with `hwnas adapt`, or name another output folder"
            )
        space = space_from_json(value)
        if not isinstance(space, AdaptedSpace):
            raise ConfigError(f"{path} holds no space of a given network; adapt the network again with `hwnas adapt`")
        return space

    def supernet(self, space: AdaptedSpace, *, whole: AdaptedSpace) -> AdaptedSupernet:
        """A supernet of the given weights.

        Args:
            space: whose networks are asked for.
            whole: as it was adapted.

        Raises:
            CheckpointError: the weights are missing, damaged or of another space.
        """
        from hwnas.supernet.adapted import AdaptedSupernet
        from hwnas.supernet.checkpoint import load_newest
        from hwnas.supernet.untrained_numbers import take_orders_

        found = load_newest(self.weights)
        if found is None or found.meta.get("space") != whole.fingerprint():
            told = "are missing" if found is None else "are of another network than network.json"
            raise CheckpointError(f"the weights in {self.weights} {told}; adapt the network again")
        weights = {k.removeprefix("weight."): t for k, t in found.tensors.items() if k.startswith("weight.")}
        supernet = AdaptedSupernet(space, weights)
        try:
            take_orders_(supernet, found.tensors)
        except CheckpointError as e:
            raise CheckpointError(f"{self.weights}: {e}; adapt the network again") from e
        return supernet

    def weights_digest(self) -> str:
        """What tells these weights from others.

        Raises:
            CheckpointError: they are missing.
        """
        try:
            return sha256_file(self.weights)
        except OSError as e:
            raise CheckpointError(f"the weights in {self.weights} cannot be read: {e.strerror}") from e


def made_of(model: ModelConfig) -> Mapping[str, Any]:
    """What decides which space is made: how its images are normalised does not."""
    values: dict[str, Any] = model.model_dump(mode="json", exclude={"mean", "std"})
    return values


def _sha256(model: ModelConfig) -> str | None:
    """Of the user's file of weights; None where none is named, or it is gone: a run can do without."""
    if is_onnx(model.source):
        return _sha256_onnx(model.source.removeprefix("onnx:"))
    if model.weights is None:
        return None
    try:
        return sha256_file(user_path(model.weights))
    except OSError:
        return None


def _sha256_onnx(path: str) -> str | None:
    """Of an ONNX file and the tensors beside it; None where it is gone."""
    from hwnas.supernet.importing import onnx_files

    if not user_path(path).is_file():
        return None
    digests = [sha256_file(file) if file.is_file() else "missing" for file in onnx_files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
