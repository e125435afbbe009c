"""The four reference networks of MLPerf Tiny (Banbury et al., 2021), and a keyword spotter over time, in plain torch.

Knows torch alone. Where the trained ResNet8 is at hand (`trained_resnet8`), it can be given its weights.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.errors import ConfigError


class ConvBN(nn.Module):
    """A convolution with a bias, and its BatchNorm, padded as TensorFlow does it ("SAME")."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, *, stride: int = 1) -> None:
        super().__init__()
        self.uneven = stride == 2 and kernel_size == 3
        # of an even side, a stride of 2 takes one position more at its end only
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, 0 if self.uneven else kernel_size // 2)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H / stride, W / stride)."""
        return self.bn(self.conv(F.pad(x, (0, 1, 0, 1)) if self.uneven else x))


class Shortcut(nn.Module):
    """A convolution alone, 1x1 with a stride."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H / 2, W / 2)."""
        return self.conv(x)


class ResNet8(nn.Module):
    """Image classification: three residual blocks at 32 px; its weights have the names of the file they come in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBN(3, 16)
        self.b1a, self.b1b = ConvBN(16, 16), ConvBN(16, 16)
        self.b2a, self.b2b, self.b2s = ConvBN(16, 32, stride=2), ConvBN(32, 32), Shortcut(16, 32)
        self.b3a, self.b3b, self.b3s = ConvBN(32, 64, stride=2), ConvBN(64, 64), Shortcut(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) float pixels from 0 to 255, red, green, blue -> (N, 10)."""
        x = F.relu(self.stem(x))
        x = F.relu(x + self.b1b(F.relu(self.b1a(x))))
        x = F.relu(self.b2s(x) + self.b2b(F.relu(self.b2a(x))))
        x = F.relu(self.b3s(x) + self.b3b(F.relu(self.b3a(x))))
        return self.fc(x.mean((2, 3)))


def trained_resnet8(weights: Path) -> ResNet8:
    """MLPerf Tiny's own ResNet8 for CIFAR-10, in evaluation mode.

    Args:
        weights: a `.safetensors` file of the reference network's weights (mlcommons/tiny, `pretrainedResnet.h5`) in
            torch's layout, under the names of `ResNet8`.

    Raises:
        ConfigError: there is no such file, or it holds another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = ResNet8()
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as e:
        raise ConfigError(f"{weights} cannot be read: {e}") from e
    own = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    if odd := sorted(own ^ set(state)):
        raise ConfigError(f"{weights} is not MLPerf Tiny's ResNet8: {', '.join(odd[:3])}")
    network.load_state_dict(state, strict=False)
    return network.eval()


def _separable(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """A convolution of each channel, then one of all channels at each position (Howard et al., 2017)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class MobileNetV1(nn.Module):
    """Visual wake words: MobileNetV1 at a quarter of its width, 96 px, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        widths = (8, 16, 32, 32, 64, 64, *(128,) * 6, 256, 256)
        strides = (1, 2, 1, 2, 1, 2, *(1,) * 5, 2, 1)
        steps = zip(widths, widths[1:], strides, strict=False)
        self.blocks = nn.Sequential(*(_separable(i, o, stride=s) for i, o, s in steps))
        self.head = nn.Linear(256, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 96, 96) -> (N, 2)."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class DSCNN(nn.Module):
    """Keyword spotting: 49 frames of 10 coefficients, twelve words (Zhang et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(), nn.Dropout(0.2))
        self.blocks = nn.Sequential(*(_separable(64, 64) for _ in range(4)), nn.Dropout(0.4))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 49, 10) -> (N, 12)."""
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


class Autoencoder(nn.Module):
    """Anomaly detection: five frames of 128 mel bands through eight numbers and back."""

    def __init__(self) -> None:
        super().__init__()
        widths = (640, *(128,) * 4, 8, *(128,) * 4)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.body, self.out = nn.Sequential(*layers), nn.Linear(128, 640)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 640) -> the same."""
        return self.out(self.body(x))


class KeywordSpotter(nn.Module):
    """Convolutions over time alone, separable, with ways past them (as MatchboxNet, Majumdar & Ginsburg, 2020)."""

    def __init__(self, *, classes: int = 12) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(40, 32, 11, 2, 5, bias=False), nn.BatchNorm1d(32), nn.ReLU())
        self.blocks = nn.ModuleList(self._block(32, kernel_size) for kernel_size in (13, 15, 17))
        self.head = nn.Linear(32, classes)

    @staticmethod
    def _block(channels: int, kernel_size: int) -> nn.Sequential:
        depthwise = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        return nn.Sequential(depthwise, nn.Conv1d(channels, channels, 1, bias=False), nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 40 mel bands, 98 frames) -> (N, classes)."""
        x = self.stem(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.head(x.mean(2))
