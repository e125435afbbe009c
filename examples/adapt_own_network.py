"""A network of your own, made elastic and deployed within half of its latency.

A small ResNet, written as torchvision writes its own, is first trained on scikit-learn's digits, as your network is
already. Then `hwnas adapt` finds out what of it can be smaller, and `hwnas run` trains the smaller networks from it,
measures their parts on the device and deploys the best network within the limit. The deployment reads a digit.

    python examples/adapt_own_network.py [--output FOLDER] [--tiny]

It takes a few minutes on this machine's processor; with --tiny less than a minute on a simulated device, where numbers
mean nothing. It prints the given network's accuracy, the deployed one's with its latency and the limit, and what the
deployed one takes a digit for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hwnas.deployment import Prediction, load

TINY = ["device.name=fake", "train.epochs=0.1", "profile.n_networks=4", "search.n_trials=4", "deploy.test_samples=60"]
TINY += ['space.precisions=["fp32"]', "model.elastic.width=[0.5, 1.0]", "deploy.torch_program=false"]


class BasicBlock(nn.Module):
    """Two convolutions, and what comes in is added (He et al., 2016)."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(channels, out_channels, 3, stride)
        self.conv2, self.bn2 = convolution(out_channels, out_channels, 3, 1)
        self.downsample = nn.Sequential(*convolution(channels, out_channels, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


def convolution(channels: int, out_channels: int, size: int, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=False), nn.BatchNorm2d(out_channels)


class ResNet(nn.Module):
    """(N, 1, 8, 8) pixels from 0 to 1 -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(1, 32, 3, 1), nn.ReLU())
        self.layer1 = nn.Sequential(BasicBlock(32, 32, 1), BasicBlock(32, 32, 1))
        self.layer2 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))
        return logits


def train(network: nn.Module, x: Tensor, y: Tensor, *, epochs: int) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for i in range(0, len(x), 64):
            optimizer.zero_grad()
            batch = order[i : i + 64]
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def hwnas(*arguments: object) -> str:
    """What a command of hwnas prints as a result; what it tells on the way passes through."""
    command = [sys.executable, "-m", "hwnas", *map(str, arguments), "--json"]
    # functions that are named, as `python:adapt_own_network:ResNet`, are looked for in the working directory
    return subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default="runs/adapt-own-network", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    output: Path = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)

    digits, network = load_digits(), ResNet()
    pixels = (digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    (x, x_test), (y, y_test) = np.split(pixels, [1400]), np.split(digits.target, [1400])
    np.savez(output / "digits.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    train(network, torch.from_numpy(x)[:, None] / 255, torch.from_numpy(y), epochs=1 if options.tiny else 15)
    torch.save(network.state_dict(), output / "trained.pth")
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(x_test)[:, None] / 255).argmax(1)
    print(f"given network: accuracy {np.mean(found.numpy() == y_test):.1%}")

    given = ["--input=1x8x8", f"--weights={output / 'trained.pth'}", f"--data=npz:{output / 'digits.npz'}"]
    # the network saw pixels from 0 to 1 as they are; the limit is half of its latency
    settings = ["model.mean=[0.0]", "model.std=[1.0]", "limits.latency_fraction=0.5", *(TINY if options.tiny else ())]
    settings = [f"--set={each}" for each in settings]
    hwnas("adapt", "python:adapt_own_network:ResNet", *given, *settings, f"--output={output}")
    folder = json.loads(hwnas("run", output))["deployment"]

    with load(folder) as deployed:
        manifest, prediction = deployed.manifest, deployed.predict(x_test[0])
    assert isinstance(prediction, Prediction)
    latency, limit = manifest.measured.latency_ms.minimum, manifest.limits["latency_ms"]
    print(
        f"deployed:      accuracy {manifest.accuracy.test_runtime:.1%}, latency {latency:.4f} ms, limit {limit:.4f} ms"
    )
    print(f"a {y_test[0]} is taken for a {prediction.class_name}; the deployment is {folder}")


if __name__ == "__main__":
    main()
