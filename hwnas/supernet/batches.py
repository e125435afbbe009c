"""Deterministic streams of training batches: which images step t sees depends on the seed and t alone.

That is what lets a killed training go on exactly where it was, with no state but the step number. torch's BatchSampler
and DataLoader make the batches; only the order of the samples is ours.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from hwnas.data.arrays import ArrayDataset
from hwnas.data.streamed import StreamedImages, processors
from hwnas.data.tensors import normalise, to_unit_range
from hwnas.errors import DataError
from hwnas.types import IntArray

Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]  # of inputs and targets


def step_rng(seed: int, step: int, *, stream: int = 0) -> np.random.Generator:
    """The numpy generator of one step; `stream` separates independent uses.

    Taken are 1 (the order of an epoch, which stands in place of the step), 2 (random changes of a step's images),
    3 (the sub-networks a step trains), 4 (which of them compute in integers) and 5 (which are compared before networks
    are parted). Another number would give every existing seed another training.

    Args:
        seed: of the training.
        step: from 0.
        stream: which use.
    """
    return np.random.default_rng([seed, stream, step])


_DRAWN_BY = 0  # seed of the samples that are taken where not all are: the same for every run of the same data


class EpochOrder(Sampler[int]):
    """Indices of samples from one place of an endless training to another: epochs without replacement, each shuffled.

    A batch of them may end one epoch and begin the next, so that every sample is seen equally often.

    Args:
        n: samples in the data set.
        seed: the order of an epoch depends on it and on the epoch's number alone.
        start: how many samples were seen before.
        stop: how many are to be seen in all.
    """

    # torch's RandomSampler draws the order of an epoch from a generator that went through the epochs before: its state
    # would have to stand in the checkpoint, no epoch could be entered in its middle, and old runs had another order.
    def __init__(self, n: int, *, seed: int, start: int, stop: int) -> None:
        self.n, self.seed, self.start, self.stop = n, seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        position = self.start
        while position < self.stop:
            epoch, first = divmod(position, self.n)
            order = step_rng(self.seed, epoch, stream=1).permutation(self.n)[first : first + self.stop - position]
            yield from order.tolist()
            position += len(order)


class BatchStream:
    """Batches of a data set as normalised float tensors.

    Args:
        dataset: map-style. Ours (`hwnas.data.ArrayDataset`) is read a batch at a time; any other torch Dataset sample
            by sample: its images are (H, W) or (H, W, C) uint8 arrays, or (C, H, W) tensors, uint8 or float in [0, 1];
            targets are numbers or arrays.
        mean, std: per channel; of images on the [0, 1] scale.
        augment: applied to (N, C, H, W) floats in [0, 1] before normalisation, and to their targets.

    Attributes:
        is_labelled: whether the targets are known.
        is_streamed: whether samples are read from files whenever they are needed, by processes of their own.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        self.n = len(dataset)
        if self.n == 0:
            raise DataError("the data set is empty")
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}; it must be at least 1")
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.mean, self.std = mean, std
        self._fetch = _Fetch(dataset)
        self.is_streamed = isinstance(dataset, ArrayDataset) and isinstance(dataset.inputs, StreamedImages)
        self.is_labelled = not isinstance(dataset, ArrayDataset) or dataset.is_labelled

    def batches(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches of the steps from `first` to before `last`.

        Yields:
            (N, C, ...) normalised float32 inputs, and targets: (N,) int64 class indices, or (N, ...) as they are kept.
        """
        order = EpochOrder(self.n, seed=self.seed, start=first * self.batch_size, stop=last * self.batch_size)
        parts = BatchSampler(order, self.batch_size, drop_last=False)
        for step, (inputs, targets) in enumerate(self._load(parts), first):
            changed, known = inputs, targets
            if self.augment is not None:
                changed, known = self.augment(inputs, targets, self._generator(step))
            yield normalise(changed, mean=self.mean, std=self.std), known

    def rows(self, limit: int | None, *, shuffled: bool = False) -> IntArray:
        """Positions of `limit` samples (None: all), drawn once for all: the first ones may be all of one class.

        Args:
            limit: how many, at most.
            shuffled: in random order; else in that of the data set.
        """
        drawn = np.random.default_rng(_DRAWN_BY).permutation(self.n)[: self.n if limit is None else limit]
        return drawn if shuffled else np.sort(drawn)

    def unaugmented(self, limit: int | None = None, *, shuffled: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """`limit` samples (None: all), not augmented, in batches whose sizes differ by one at most.

        Statistics are means over batches: a last one of few samples would count as much as all others, and of sorted
        samples each batch would tell of one class.

        Args:
            limit: how many, at most; see `rows`.
            shuffled: in random order; else in that of the data set.
        """
        rows = self.rows(limit, shuffled=shuffled)
        parts = np.array_split(rows, -(-len(rows) // self.batch_size)) if len(rows) else []
        for inputs, targets in self._load([part.tolist() for part in parts]):
            yield normalise(inputs, mean=self.mean, std=self.std), targets

    def kept(self, limit: int | None = None, *, shuffled: bool = False) -> Iterable[tuple[Tensor, Tensor]]:
        """What `unaugmented` gives, to be gone through as often as wanted.

        In memory; of a data set that does not fit there it is made again each time.
        """
        if self.is_streamed:
            return _Again(self, limit, shuffled=shuffled)
        return list(self.unaugmented(limit, shuffled=shuffled))

    def at(self, rows: Sequence[int]) -> Tensor:
        """(n, C, ...) the inputs of some samples, not augmented."""
        ((inputs, _),) = self._load([list(rows)])
        return normalise(inputs, mean=self.mean, std=self.std)

    def _generator(self, step: int) -> torch.Generator:
        """Of the random changes to a step's inputs."""
        return torch.Generator().manual_seed(int(step_rng(self.seed, step, stream=2).integers(2**62)))

    def _load(self, batches: Iterable[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches by their indices: inputs, (N, C, ...) float32 with images in [0, 1], and targets."""
        # A whole batch is one "sample" of the loader, so that arrays are read at once. For arrays it has no workers:
        # the threads that train take all cores. Where images are decoded, workers get half as many. It draws a seed
        # for workers in any case: from a generator of its own, so that torch's stays as it was.
        workers = max(1, processors() // 2) if self.is_streamed else 0
        loader = DataLoader(
            self._fetch, sampler=batches, batch_size=None, generator=torch.Generator(), num_workers=workers
        )
        for found in loader:
            if isinstance(found, DataError):
                raise found
            x, y = found
            if self._fetch.gives_pixels:
                x = to_unit_range(x.permute(0, 3, 1, 2))  # (N, H, W, C) -> (N, C, H, W)
            yield x, y


def made_ahead(batches: Iterator[tuple[Tensor, Tensor]], *, ahead: int = 4) -> Generator[tuple[Tensor, Tensor]]:
    """The same batches, made by a thread while the last one is trained on: for a GPU, beside which processors are idle.

    Who stops early closes it (`contextlib.closing`), which ends the thread.

    Args:
        batches: made in order, in one thread.
        ahead: how many may wait.
    """
    waiting: queue.Queue[tuple[Tensor, Tensor] | Exception | None] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(item: tuple[Tensor, Tensor] | Exception | None) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def make() -> None:
        try:
            for x, y in batches:
                if not put((x.pin_memory(), y.pin_memory()) if torch.cuda.is_available() else (x, y)):
                    return
            put(None)
        except Exception as e:  # noqa: BLE001  # raised again where batches are taken
            put(e)

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


class _Again:
    """Samples that are read anew whenever they are gone through."""

    def __init__(self, stream: BatchStream, limit: int | None, *, shuffled: bool) -> None:
        self._stream, self._limit, self._shuffled = stream, limit, shuffled

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._stream.unaugmented(self._limit, shuffled=self._shuffled)


class _Fetch(Dataset[tuple[Tensor, Tensor] | DataError]):
    """A data set whose samples are batches: indices -> inputs and targets.

    Attributes:
        gives_pixels: inputs are (N, H, W, C) uint8, of which a worker's answer is a quarter as large; else (N, C, ...)
            float32, images in [0, 1].
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples
        self.gives_pixels = isinstance(samples, ArrayDataset) and samples.are_images

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor] | DataError:
        if isinstance(self.samples, ArrayDataset):
            try:
                # copies, so that nobody writes into the data set
                x = torch.from_numpy(self.samples.inputs[indices])
            except DataError as e:  # returned: what a worker raises comes wrapped in the text of its traceback
                return e
            return x, torch.from_numpy(self.samples.targets[indices])
        samples = [self.samples[i] for i in indices]
        x = torch.stack([_to_tensor(s[0]) for s in samples])  # N of (C, H, W) -> (N, C, H, W)
        return x, torch.stack([torch.as_tensor(s[1]) for s in samples])


def _to_tensor(image: Any) -> Tensor:
    """One sample's image -> (C, H, W) float32 in [0, 1].

    Raises:
        DataError: it has other axes than those of an image.
    """
    x = image if isinstance(image, Tensor) else torch.from_numpy(np.asarray(image))
    if x.dim() != 3 and (x.dim() != 2 or isinstance(image, Tensor)):
        raise DataError(f"an image has shape {tuple(x.shape)}; allowed: (C, H, W) tensors, (H, W) or (H, W, C) arrays")
    if not isinstance(image, Tensor):
        x = x[None] if x.dim() == 2 else x.permute(2, 0, 1)  # (H, W) or (H, W, C) -> (C, H, W)
    return to_unit_range(x) if x.dtype == torch.uint8 else x.float()
