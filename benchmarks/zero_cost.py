"""Whether zero-cost scores tell more of a trained supernet's networks than what costs nothing, and what they take.

Every network that a run's study evaluated is extracted and its BatchNorm recalibrated, as the evaluation does it, and
scored on a few training images in fp32: NASWOT (Mellor et al., 2021), synflow (Tanaka et al., 2020), the gradient's
norm (Abdelfattah et al., 2021), and the gradient kernel's trace (Xu et al., 2021).
Then the predictor's Gaussian process is fitted anew with each score as one more feature beside MACs, parameters and
peak memory, with all of them, and with their mean rank; compared is how each predicts networks left out. Its standard
errors are those of a bootstrap over networks, in pairs. The run is only read.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, borrowed_run, run_folder, script

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from hwnas._console import Console
    from hwnas.config import Config
    from hwnas.search import Study
    from hwnas.types import FloatArray

_RESAMPLED = 1000
_TINY = 1e-12  # of a kernel's diagonal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="of a run with a finished search")
    parser.add_argument("--images", type=int, default=32, help="training images that networks are scored on (32)")
    bench = Benchmark("zero_cost", parser, argv)
    n_images = 8 if bench.smoke else bench.options.images
    with run_folder(bench.options.run, smoke=bench.smoke) as folder, borrowed_run(folder) as config:
        figures, details = measured(config.single, n_images=n_images, console=bench.console)
    return bench.publish(figures, details=details)


def measured(config: Config, *, n_images: int, console: Console) -> tuple[list[Figure], dict[str, Any]]:
    """Figures, and what they come from, of one run's study."""
    import numpy as np

    from hwnas.catalogue.predicting import FEATURES
    from hwnas.pipeline.costs import load_costs
    from hwnas.pipeline.workers import make_evaluator
    from hwnas.search import load_study
    from hwnas.workspace import Workspace

    work = Workspace(config)
    study, costs = load_study(work.study), load_costs(work)
    encodings, accuracy = study.encodings.astype(np.int64), study.values["accuracy"]
    x, y = next(iter(work.stream("train", batch_size=n_images).unaugmented(n_images)))
    evaluator = make_evaluator(work)
    rows: list[dict[str, float]] = []
    with console.progress("networks") as progress:
        for encoding in encodings:
            blocks = work.space.named_blocks(encoding)
            repeated, evaluating = _timed(lambda blocks=blocks: evaluator(blocks).value)
            network, extracting = _timed(lambda blocks=blocks: evaluator.extract(blocks))
            row = {"accuracy": repeated, "evaluating_s": evaluating, "extracting_s": extracting}
            rows.append(row | scored(network, x, y, resolution=network.in_shape[1:]))
            progress(len(rows), len(encodings), "")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    scores = {name: columns[name] for name in SCORES}
    scores["mean_rank"] = mean_rank(scores)
    closed = {m: costs.models[m].estimate(encodings).value for m in FEATURES if m in costs.models}
    figures = [
        Figure(name="networks", value=len(rows)),
        Figure(name="accuracies_that_repeat", value=int((columns["accuracy"] == accuracy).sum())),
        Figure(name="accuracy_spread_points", value=100 * float(accuracy.std())),
        Figure(name="accuracy_standard_error_points", value=100 * float(study.standard_errors["accuracy"].mean())),
        Figure(name="different_accuracies", value=len(np.unique(accuracy))),
        *_time_figures(columns),
        *_tau_figures({**closed, **scores}, accuracy),
        *_prediction_figures(study, closed, scores, seed=config.search.seed),
    ]
    columns["study_accuracy"] = accuracy
    return figures, {"images": n_images, "networks": {name: c.tolist() for name, c in columns.items()}}


def scored(network: nn.Module, x: Tensor, y: Tensor, *, resolution: tuple[int, ...]) -> dict[str, float]:
    """Every score of a network, and `<score>_s`, the seconds it took.

    Args:
        network: recalibrated, in evaluation mode.
        x: (N, C, any, any) preprocessed images.
        y: (N,) their labels.
        resolution: (H, W) of the network.
    """
    from hwnas.data.tensors import resize

    x = resize(x, resolution)
    found: dict[str, float] = {}
    for name, score in SCORES.items():
        found[name], found[f"{name}_s"] = _timed(lambda score=score: score(network, x, y))
    return found


def _timed(what: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds it took."""
    began = time.perf_counter()
    return what(), time.perf_counter() - began


# ---------------------------------------------------------------- scores: network, (N, C, H, W), (N,) labels -> number


def naswot(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Log-determinant of how many units are on or off alike for two images (Mellor et al., 2021, section 3).

    A unit is on where what goes into its activation is positive; where a ReLU6 saturates does not count.
    """
    import torch

    codes: list[Tensor] = []
    hooks = [
        m.register_forward_pre_hook(lambda _, given: codes.append((given[0] > 0).flatten(1).double()))
        for m in _activations(network)
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    code = torch.cat(codes, dim=1)  # (N, units)
    kernel = code @ code.T + (1 - code) @ (1 - code).T
    # images with one code make it singular
    return float(torch.linalg.slogdet(kernel + _TINY * kernel.max() * torch.eye(len(x))).logabsdet)


def synflow(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Logarithm of the sum of |weight x gradient| of a pass of ones with all weights positive (Tanaka et al., 2020).

    BatchNorm only scales, as it would folded into the weights before it; no ReLU cuts anything, for all is positive,
    and none saturates.
    """
    import torch
    from torch import nn

    network = copy.deepcopy(network).double()
    with torch.no_grad():
        for m in network.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
                m.running_mean.zero_()
                m.bias.zero_()
        for p in network.parameters():
            p.abs_()
    for m in _activations(network):
        m.register_forward_hook(lambda _, given, made: given[0])
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(network(torch.ones_like(x[:1], dtype=torch.float64)).sum(), parameters)
    return math.log(sum(float((p.detach() * g).abs().sum()) for p, g in zip(parameters, gradients, strict=True)))


def gradient_norm(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Logarithm of the norm of the loss's gradient by all weights (Abdelfattah et al., 2021, section 3.1)."""
    import torch

    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(network(x), y), list(network.parameters()))
    return 0.5 * math.log(sum(float((g.double() ** 2).sum()) for g in gradients))


def kernel_trace(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Logarithm of the trace of the gradient kernel (Xu et al., 2021): of each image's logit of its own class.

    Of the sum of all logits, as of networks without training, the gradient tells nothing after training: softmax does
    not see it.
    """
    from torch.func import functional_call, grad, vmap

    def logit(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, weights, (image[None],))[0]
        return logits.gather(0, label[None])[0]  # type: ignore[no-any-return]

    weights = {name: p.detach() for name, p in network.named_parameters()}
    gradients = vmap(grad(logit), in_dims=(None, 0, 0))(weights, x, y)  # (N, ...) of each weight
    return math.log(sum(float((g.double() ** 2).sum()) for g in gradients.values()))


def _activations(network: nn.Module) -> list[nn.Module]:
    from torch import nn

    return [m for m in network.modules() if isinstance(m, nn.ReLU | nn.ReLU6 | nn.Hardswish | nn.SiLU | nn.GELU)]


SCORES: Mapping[str, Callable[[nn.Module, Tensor, Tensor], float]] = {
    "naswot": naswot,
    "synflow": synflow,
    "gradient_norm": gradient_norm,
    "kernel_trace": kernel_trace,
}


def mean_rank(scores: Mapping[str, FloatArray]) -> FloatArray:
    """(N,) a robust combination: the mean of each network's ranks."""
    import numpy as np
    from scipy.stats import rankdata

    return np.asarray(np.mean([rankdata(values) for values in scores.values()], axis=0))


# ---------------------------------------------------------------- figures


def _time_figures(columns: Mapping[str, FloatArray]) -> list[Figure]:
    import numpy as np

    def median_ms(name: str) -> float:
        return 1000 * float(np.median(columns[f"{name}_s"]))

    names = ("evaluating", "extracting", *SCORES)
    all_of_it = sum(median_ms(name) for name in names[1:])
    return [
        *(Figure(name=f"{name}_ms", value=median_ms(name)) for name in names),
        Figure(name="extracting_and_all_scores_percent_of_evaluating", value=100 * all_of_it / median_ms("evaluating")),
    ]


def _tau_figures(told: Mapping[str, FloatArray], accuracy: FloatArray) -> list[Figure]:
    """Kendall's tau of costs and scores with the accuracy, of all networks and of those not below the median."""
    import numpy as np

    better = accuracy >= np.median(accuracy)
    n, half = len(accuracy), int(better.sum())
    found = [
        Figure(name="tau_of_chance_standard_deviation", value=_chance(n)),
        Figure(name="tau_of_chance_standard_deviation_better_half", value=_chance(half)),
    ]
    for name, values in told.items():
        found.append(Figure(name=f"tau_{name}", value=_tau(values, accuracy)))
        found.append(Figure(name=f"tau_{name}_better_half", value=_tau(values[better], accuracy[better])))
    return found


def _tau(a: FloatArray, b: FloatArray) -> float:
    """Kendall's tau-b; 0 where one of them is the same for all."""
    import numpy as np
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic) if min(np.ptp(a), np.ptp(b)) > 0 else 0.0


def _chance(n: int) -> float:
    """Standard deviation of the tau of n independent pairs (Kendall, 1938)."""
    return math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))


def _prediction_figures(
    study: Study, closed: Mapping[str, FloatArray], scores: Mapping[str, FloatArray], *, seed: int
) -> list[Figure]:
    """How the Gaussian process predicts networks left out, and what each score adds."""
    import numpy as np

    from hwnas.predict.ensemble import rank_correlation

    accuracy = study.values["accuracy"]
    added = {**{name: [name] for name in scores}, "all_scores": list(SCORES)}
    without = left_out(study, list(closed.values()), seed=seed)
    found = [
        Figure(name="without_scores_rank_correlation", value=rank_correlation(without, accuracy)),
        Figure(name="without_scores_error_points", value=100 * rmse(without, accuracy)),
    ]
    for name, used in added.items():
        predicted = left_out(study, [*closed.values(), *(scores[s] for s in used)], seed=seed)
        rng = np.random.default_rng(seed)
        correlation = gained(rank_correlation, without, predicted, accuracy, rng=rng)
        error = gained(rmse, without, predicted, accuracy, rng=rng)
        found += [
            Figure(name=f"{name}_adds_to_rank_correlation", value=correlation[0]),
            Figure(name=f"{name}_adds_to_rank_correlation_standard_error", value=correlation[1]),
            Figure(name=f"{name}_adds_to_error_points", value=100 * error[0]),
            Figure(name=f"{name}_adds_to_error_points_standard_error", value=100 * error[1]),
        ]
    return found


def left_out(study: Study, features: Sequence[FloatArray], *, seed: int) -> FloatArray:
    """(N,) accuracies, each predicted from the other networks of the study, with (N,) features beside the choices."""
    import numpy as np

    from hwnas.predict import GaussianProcess, Representation

    encodings, raw = study.encodings.astype(np.int64), np.stack(features, axis=1)
    represented = Representation(study.choices, encodings, features=lambda _: raw)
    inputs = represented(encodings, raw)
    return GaussianProcess(represented.distances, inputs, study.values["accuracy"], seed=seed).left_out()[0]


def rmse(predicted: FloatArray, known: FloatArray) -> float:
    """Root of the mean squared error."""
    return float(((predicted - known) ** 2).mean() ** 0.5)


def gained(
    measure: Callable[[FloatArray, FloatArray], float],
    without: FloatArray,
    predicted: FloatArray,
    known: FloatArray,
    *,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """By how much the measure of what is predicted lies over that of what was without, and its standard error."""
    import numpy as np

    def over(rows: Any) -> float:
        return measure(predicted[rows], known[rows]) - measure(without[rows], known[rows])

    resampled = rng.integers(len(known), size=(_RESAMPLED, len(known)))
    return over(slice(None)), float(np.std([over(rows) for rows in resampled]))


if __name__ == "__main__":
    script(main)
