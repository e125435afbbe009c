"""What the stages of one run share: the folder's layout, the data, the space, the device, the supernet.

Everything is made when first asked for and kept; torch is loaded only by what needs it.

    config.toml                 the configuration
    last_used.json              what it said when the run was last used, and how long the tables were
    network_labels.safetensors  what a given network answers, where its answers are the labels
    data.json                   what was trained on: counts by part and class, what was left out, what was chosen
    checkpoint.safetensors      the supernet (and checkpoint.previous.safetensors)
    training.csv                losses and accuracies of its training
    tensorboard/                the same as TensorBoard's files, where asked
    alone/                      chosen networks that are trained by themselves before they ship, or were
    latency_tables/<device>/    <runtime>-<precision>.jsonl and its drift anchor
    search/                     journals, study.safetensors of the last search, and every study under its own name
    search/<device>/            the same, in a run for several devices
    search/accuracies-*.jsonl   of all networks evaluated so far, for any device
    deployments/<name>/         what ships
    report.html                 of the last deployment
    fleet.json, fleet.html,     of all devices and budgets, in a run for several; and the picture of their fronts
    fleet.png, fleet.svg
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hwnas import registry
from hwnas._console import Console
from hwnas._places import user_path
from hwnas.adapted_run import AdaptedRun
from hwnas.computing import Computing
from hwnas.config import CONFIG_FILE, Config, device_name
from hwnas.data import Data, augment_samples, load_data
from hwnas.errors import ConfigError
from hwnas.files import sha256_file, write_whole
from hwnas.integrity import digest
from hwnas.locking import locked
from hwnas.named_spaces import check_inputs, check_trainable, make_space, parts_of_space
from hwnas.network_labels import labelled_by_network
from hwnas.precisions import asked_as, is_quantized
from hwnas.spaces.adapted import AdaptedSpace
from hwnas.tasks import Task, make_task, task_identity
from hwnas.types import Device, Exporter, Runtime
from hwnas.zoo import Entry, find_entry
from hwnas.zoo.images import as_trained_on

if TYPE_CHECKING:
    from hwnas.spaces import Space
    from hwnas.supernet.batches import BatchStream
    from hwnas.supernet.descent import Descent
    from hwnas.supernet.kinds import AnySupernet

_EVALUATION_BATCH = 250  # images at most
_EVALUATION_VALUES = 4_000_000  # of a batch, at most: tensors within a network are many times as large
_LEAST_BATCH = 32  # statistics of normalisation are means over batches, which must not be small
_OF_NO_DEVICE = (
    "images",
    "data",
    "adapted_space",
    "training_space",
    "supernet",
)  # parts that are the same for every device of a run


class Workspace:
    """One run's folder and the parts its configuration names.

    Args:
        config: of the run.
        tell: says what people should know of the data and the space; by default once in the life of the process.
    """

    def __init__(self, config: Config, *, tell: Callable[[str], None] | None = None) -> None:
        self.config = config
        self._tell = tell or _tell_once
        self.folder = user_path(config.output.folder)

    def on(self, device: str) -> Workspace:
        """The same run on another device, its own or one that is not of it; what no device changes is shared.

        Args:
            device: a name or the path of a description.
        """
        other = Workspace(self.config.whole.part(device))
        for name in _OF_NO_DEVICE:
            # what was loaded: nothing is loaded to be shared
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @property
    def others(self) -> list[Workspace]:
        """The same run on each other device that its limits name, with the same networks to choose from."""
        offered = [asked_as(p) for p in self.space.precisions]
        entries = [entry for entry in self.config.limits.others if device_name(entry) != self.device.name]
        return [Workspace(self.config.beside(entry, offered)) for entry in entries]

    def begin(self) -> None:
        """Make the folder and write the configuration into it, once nothing there contradicts it.

        Raises:
            ConfigError: the folder cannot be made, or the runtime does not compute in a precision that is asked for.
        """
        for name in self.config.device.all:
            part = Workspace(self.config.part(name)) if self.config.is_fleet else self
            part.computing.check(part._wanted_precisions)
        self._make_folder()
        write_whole(self.folder / CONFIG_FILE, self.config.whole.to_toml().encode())

    @contextlib.contextmanager
    def alone(self, what: str, *, wait: bool = False) -> Iterator[None]:
        """Keep another process out of a stage that must not run twice in one folder.

        Args:
            what: the stage, as in "another process is training".
            wait: for the other process to come out.

        Raises:
            ConfigError: another process is in it, or the folder cannot be made.
        """
        self._make_folder()

        def busy(holder: str) -> ConfigError | None:
            told = f"another process is {what} in {self.folder} ({holder}); wait for it, or name another output folder"
            return None if wait else ConfigError(told)

        # a lock of the system: it ends with its process, however that ends
        with locked(self.folder / f".{what}.lock", what=what, busy=busy):
            yield

    @contextlib.contextmanager
    def measuring_alone(self, console: Console) -> Iterator[None]:
        """Wait until no other run measures for these tables: two at a time spoil each other, and measure twice.

        Args:
            console: told of whom is waited for.

        Raises:
            ConfigError: the folder of the tables cannot be made.
        """
        try:
            self.tables.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"the folder of latency tables {self.tables} cannot be made: {e.strerror}") from e
        if not os.access(self.tables, os.W_OK):  # tables that are complete can be used all the same
            yield
            return

        def busy(holder: str) -> None:
            console.note(f"waiting: another run measures for the tables in {self.tables} ({holder})")

        with locked(self.tables / ".measuring.lock", what=f"measuring for {self.folder}", busy=busy):
            yield

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"the output folder {self.folder} cannot be made: {e.strerror}") from e

    # ------------------------------------------------------------ places

    @property
    def checkpoint(self) -> Path:
        """Where the supernet's weights are kept: of a given network that is not trained, its own."""
        return self.folder / "checkpoint.safetensors" if self.is_trained else self.adapted.weights

    @property
    def alone_trained(self) -> Path:
        """Folder of networks that are trained by themselves, each where it stands."""
        return self.folder / "alone"

    @property
    def tables(self) -> Path:
        """Folder of the device's latency tables."""
        chosen = self.config.profile.tables
        return (user_path(chosen) if chosen else self.folder / "latency_tables") / self.device.name

    @property
    def study(self) -> Path:
        """The finished study, of the last search."""
        return self.searched / "study.safetensors"

    def study_called(self, name: str) -> Path:
        """A finished study by its name, also after another search."""
        return self.searched / f"{name}.safetensors"

    @property
    def searched(self) -> Path:
        """Folder of the device's studies: its own, if the run is for several devices."""
        folder = self.folder / "search"
        # studies of other devices have other values under the same trial numbers
        return folder if self.config.whole.device.names is None else folder / self.device.name

    @property
    def trials(self) -> Path | str:
        """Where the trials of searches are stored: a journal, or the URL of a database that machines share."""
        return self.config.search.storage or self.searched / "journal.log"

    # ------------------------------------------------------------ parts

    @cached_property
    def data(self) -> Data:
        """The images with the labels that networks are evaluated by.

        Raises:
            DataError: the images cannot be used.
            ConfigError, CheckpointError: their labels are the given network's answers, and there is none yet.
        """
        if self.config.data.labels == "source":
            return self.images
        self._asked_task = self._asked_task.with_parts(parts_of_space(self.adapted_space))
        return labelled_by_network(self.images, self.adapted, self.adapted_space, task=self._asked_task)

    @cached_property
    def images(self) -> Data:
        """The images, checked and split, with the labels that their source has; none where the network gives them.

        Raises:
            DataError: they cannot be used.
        """
        c, model = self.config.data, self.config.model
        found = load_data(
            c.source,
            seed=c.seed,
            validation_fraction=c.validation_fraction,
            test_fraction=c.test_fraction,
            labelled=c.labels == "source",
            targets=self._asked_task.targets,
            tell=self._tell,
        )
        if self.zoo_entry is not None:
            return as_trained_on(found, self.zoo_entry, tell=self._tell)
        if model is None or model.mean is None or model.std is None:
            return found
        # as the given network sees its images; to it others are other data, of other accuracies
        seen = digest([found.fingerprint, list(model.mean), list(model.std)])
        mean, std = model.normalisation(found.in_channels, are_images=found.are_images)
        return dataclasses.replace(found, mean=mean, std=std, fingerprint=seen)

    @cached_property
    def task(self) -> Task:
        """What networks are for, with what it has to know of the training targets, if there are any.

        Raises:
            ConfigError: it is not known, or not one for these targets.
        """
        images, given = self.images, self.config.model is not None
        train = images.train
        if given:
            with contextlib.suppress(ConfigError):  # it is being adapted: `check_fits` tells the task then
                self._asked_task = self._asked_task.with_parts(parts_of_space(self.adapted_space))
                check_inputs(self.adapted_space, images.inputs)  # the source may give others than when it was adapted
        if not train.is_labelled:
            try:
                train = self.data.validation  # what the given network answers
            except ConfigError:  # it is being adapted: there is nobody to ask yet
                return self._asked_task
        return self._asked_task.fitted(train, n_outputs=images.n_classes or None, given=given)

    @cached_property
    def _asked_task(self) -> Task:
        c = self.config.task
        task = make_task(c.name, settings={"class_weights": c.class_weights}, tell=self._tell)
        if not task.takes_labels and self.config.data.labels == "source":
            raise ConfigError(
                f"the task {task.name!r} learns what a given network answers, and knows no other labels: "
                '[data] labels = "network" takes its answers'
            )
        return task

    @cached_property
    def descent(self) -> Descent:
        """How weights are trained: as asked, else as suits the networks.

        Raises:
            ConfigError: there is no such space.
        """
        from hwnas.supernet.descent import Descent

        c = self.config.train
        optimizer = c.optimizer or self.training_space.optimizer
        return Descent.of(optimizer, learning_rate=c.learning_rate, weight_decay=c.weight_decay)

    @cached_property
    def descent_alone(self) -> Descent:
        """How the chosen network is trained by itself.

        Raises:
            ConfigError: there is no such space.
        """
        rate = self.config.deploy.train_learning_rate
        return self.descent if rate is None else dataclasses.replace(self.descent, learning_rate=rate)

    @cached_property
    def training_space(self) -> Space:
        """The space the supernet is trained on: both precisions as offered, because weights do not depend on them.

        Raises:
            ConfigError: there is no such space, or it does not take what the configuration asks of it.
            SpaceError: it does not fit the images, or a restriction names an option it does not have.
        """
        c = self.config.space
        if self.config.model is not None:
            self.check_fits(self.adapted_space)
            return self.adapted_space.restrict(resolutions=c.resolutions)
        if self.zoo_entry is not None:
            self.check_fits(self.zoo_entry.card.space)
            return self.zoo_entry.card.space.restrict(resolutions=c.resolutions, width_mults=c.width_mults)
        sizes = {"in_channels": self.images.in_channels, "n_classes": self.images.n_classes}
        # only what was said: presets have defaults of their own
        given = {"activation": c.activation, "se": c.se, "channel_divisor": c.channel_divisor}
        style = {k: v for k, v in given.items() if v is not None}
        length = self.images.input_shape[1] if len(self.images.input_shape) == 2 else None
        space = make_space(c.preset, style=style, length=length, tell=self._tell, **sizes)
        self.check_fits(space)
        return space.restrict(resolutions=c.resolutions, width_mults=c.width_mults)

    def check_fits(self, space: Space) -> None:
        """Hold that networks of a space can be evaluated on the images.

        Raises:
            SpaceError: they cannot.
        """
        images = self.images
        check_inputs(space, images.inputs)
        n_outputs = images.n_classes if self.config.data.labels == "source" else None
        self._asked_task = self._asked_task.with_parts(parts_of_space(space))
        check_trainable(space, of=images.input_shape, n_outputs=n_outputs, task=self._asked_task)

    @cached_property
    def zoo_entry(self) -> Entry | None:
        """The trained supernet that is taken, if one is.

        Raises:
            ConfigError: there is no such one, or it is damaged.
        """
        named = self.config.train.supernet
        return None if named is None else find_entry(named)

    @property
    def adapted(self) -> AdaptedRun:
        """What the run keeps of a network of one's own."""
        return AdaptedRun(folder=self.folder)

    @cached_property
    def adapted_space(self) -> AdaptedSpace:
        """The space that was made of the network which [model] names.

        Raises:
            ConfigError: none was made here, or of another network.
        """
        assert self.config.model is not None
        return self.adapted.space(self.config.model)

    @cached_property
    def space(self) -> Space:
        """The networks to choose from: those whose precisions are asked for and legal on the device, and their kernels.

        Raises:
            ConfigError: no precision is left.
        """
        wanted = self._wanted_precisions
        if self.config.space.precisions is None:  # then not more than the preset has
            kinds = {is_quantized(p) for p in self.training_space.precisions}
            wanted = tuple(p for p in wanted if is_quantized(p) in kinds)
        return self.computing.part_of(self.training_space, wanted, kernel_sizes=self.config.space.kernel_sizes)

    @property
    def widest_space(self) -> Space:
        """All networks, at the most exact precision the device computes in."""
        return self.computing.part_of(self.training_space, (self.computing.exact,))

    @property
    def widest_precision(self) -> str:
        """The most exact precision the device computes in; that of the network which fractions refer to."""
        return self.computed[self.computing.exact]

    @cached_property
    def computing(self) -> Computing:
        """What the device computes in."""
        return Computing(self.device, self.runtime, tables=self.tables)

    @property
    def computed(self) -> Mapping[str, str]:
        """What a space offers -> what the device computes it in; see `Computing.names`."""
        return self.computing.names

    @property
    def _wanted_precisions(self) -> tuple[str, ...]:
        return self.computing.allowed(self.config.space.precisions)

    def found_on(self, context: Mapping[str, str]) -> list[str]:
        """Take note of what the runtime says of the machine it runs on; see `Computing.found_on`.

        Returns:
            For people: each of the device's precisions that is computed in another one, and why.
        """
        return self.computing.found_on(context, wanted=self._wanted_precisions)

    @cached_property
    def device(self) -> Device:
        """Where networks will run.

        Raises:
            UnknownNameError, ConfigError: it is not described, or its description is wrong.
        """
        c = self.config.device
        load = registry.load_object("hwnas.devices:load_device", needed_for="[device]")
        (name,) = c.all  # a run for several devices is worked on by its parts
        device: Device = load(name)
        return device if c.threads is None else dataclasses.replace(device, threads=c.threads)

    @cached_property
    def runtime(self) -> Runtime:
        """The adapter of the device's runtime, which loads nothing before it is asked to."""
        runtime: Runtime = registry.load("runtimes", self.device.runtime)()
        return runtime

    @property
    def symmetric(self) -> bool:
        """Whether the runtime wants quantized activations with zero point 0."""
        return self.runtime.quantization == "symmetric"

    @cached_property
    def exporter(self) -> Exporter:
        """Writes files the device's runtime loads.

        Raises:
            ConfigError: no registered exporter writes a format the runtime reads, or the one that does has not the
                method that is called.
        """
        runtime = self.runtime
        # exporters are registered by the format they write
        for name in registry.names("exporters"):
            if name in runtime.formats:
                return _checked(registry.load("exporters", name)(), name=name)
        raise ConfigError(
            f"no exporter writes what runtime {self.device.runtime!r} reads ({', '.join(sorted(runtime.formats))}); "
            f"known: {', '.join(registry.names('exporters'))}"
        )

    @cached_property
    def supernet(self) -> AnySupernet:
        """The trained supernet, with its averaged weights; that of a given network where nothing is trained.

        Raises:
            CheckpointError: there is none yet, its training is not finished, or it is of another space or data.
        """
        from hwnas.run_supernet import trained_supernet

        return trained_supernet(self)

    def new_supernet(self) -> AnySupernet:
        """A supernet before its first step: of a given network's weights, or of such as torch begins with.

        Raises:
            CheckpointError: the given network's weights cannot be read.
        """
        from hwnas.run_supernet import new_supernet

        return new_supernet(self)

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must have been trained on to be used here."""
        found = {
            "space": self.training_space.fingerprint(),
            "data": self.data.fingerprint,
            "batch_norm": self.batch_norm,
            "task": task_identity(self.config.task.name),
            "class_weights": str(self.config.task.class_weights or "alike"),
            "supernet": "" if self.zoo_entry is None else self.zoo_entry.weights_digest,
        }
        return found if self.config.model is None else {**found, "weights": self.adapted.weights_digest()}

    def weights_and_data(self) -> str:
        """What tells accuracies of this run's sub-networks from those of other weights, statistics or images."""
        weights = sha256_file(self.checkpoint) if self.checkpoint.exists() else ""
        task = task_identity(self.config.task.name)
        if task != "classification":  # once there was no other
            weights = digest([weights, task])
        if not self.is_trained:
            return digest([weights, self.data.fingerprint, self.config.train.batch_norm])
        # that of a trained supernet tells the data by itself. Of a given network, accuracies from before the better of
        # what was given and what was trained counted are of the trained one alone
        return weights if self.config.model is None else digest([weights, "the better of two"])

    @property
    def batch_norm(self) -> str:
        """Whose statistics networks normalise by, as in train.batch_norm; of a packed supernet its card tells."""
        return self.config.train.batch_norm if self.zoo_entry is None else self.zoo_entry.card.batch_norm

    @property
    def is_trained(self) -> bool:
        """Whether smaller networks are trained; those of a given network may be taken as they are."""
        return self.config.model is None or self.config.train.steps != 0

    def stream(self, part: str, *, batch_size: int | None = None, augmented: bool = False) -> BatchStream:
        """Batches of `train`, `validation` or `test`; of a size to evaluate networks by, if none is given."""
        from hwnas.supernet.batches import BatchStream

        data = self.images if part == "train" else self.data  # training images have what labels their source has
        return BatchStream(
            getattr(data, part),
            batch_size=batch_size or self._evaluation_batch,
            mean=data.mean,
            std=data.std,
            seed=self.config.train.seed,
            augment=functools.partial(augment_samples, policy=data.augment) if augmented and data.are_images else None,
        )

    @property
    def _evaluation_batch(self) -> int:
        images, model = self.images, self.config.model
        values = math.prod(images.input_shape)
        if model is not None and model.input is not None:  # images are brought to its size
            values = max(values, math.prod(model.input[0].shape))
        elif self.zoo_entry is not None and isinstance(space := self.zoo_entry.card.space, AdaptedSpace):
            graph = space.network.largest.graph
            values = max(values, math.prod(graph.by_name[graph.inputs[0]].shape))
        return max(_LEAST_BATCH, min(_EVALUATION_BATCH, _EVALUATION_VALUES // values))


@functools.cache
def _tell_once(text: str) -> None:
    """Say something that each stage of a run would say again."""
    Console().note(text)


def _checked(exporter: object, *, name: str) -> Exporter:
    """An exporter of whoever's, known to be called as one.

    Raises:
        ConfigError: it has not the one method, with the arguments that it is given.
    """
    try:
        # calls nothing: one for an earlier version fails here, where it can be said what to do
        inspect.signature(exporter.export).bind(None, None, None, precision="", ends=None)  # type: ignore[attr-defined]
    except (AttributeError, TypeError) as e:
        raise ConfigError(
            f"exporter {name!r} ({type(exporter).__name__}) cannot be called as "
            f"export(model, example, path, *, precision, ends): {e}. That is the one method an exporter has "
            "(hwnas.types.Exporter; try yours with hwnas.testing.exporter_suite); blocks and networks to be timed are "
            "made by hwnas.supernet.untrained"
        ) from e
    return cast("Exporter", exporter)
