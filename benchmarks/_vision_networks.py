"""Networks for images with more than a class to give, and some that move channels about, written for this project.

Small, with random weights, each as the paper in its docstring describes the idea. Knows torch alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel_size: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; positions stay unless there is a stride."""
    layer = nn.Conv2d(
        inputs, outputs, kernel_size, stride, dilation * (kernel_size // 2), dilation=dilation, bias=False
    )
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


# ---------------------------------------------------------------- segmentation


class UNet(nn.Module):
    """Down three times and up again, with what was there before beside it (Ronneberger et al., 2015)."""

    def __init__(self, *, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(4)]
        before = [3, *widths[:-1]]
        self.down = nn.ModuleList(nn.Sequential(conv(i, o), conv(o, o)) for i, o in zip(before, widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairs)
        self.up = nn.ModuleList(nn.Sequential(conv(2 * o, o), conv(o, o)) for _, o in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes, H, W)."""
        skips: list[Tensor] = []
        for i, stage in enumerate(self.down):
            x = stage(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([grow(x), skips.pop()], 1))
        return self.head(x)


class ASPP(nn.Module):
    """The same tensor through windows of several widths, and as a whole (Chen et al., 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv(inputs, outputs, 1), *(conv(inputs, outputs, dilation=d) for d in (2, 4))])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(inputs, outputs, 1))
        self.project = nn.Sequential(conv(4 * outputs, outputs, 1), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H, W)."""
        whole = F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat([*(branch(x) for branch in self.branches), whole], 1))


class DeepLab(nn.Module):
    """Atrous convolutions where strides would lose positions, and a decoder (DeepLabV3+, Chen et al., 2018)."""

    def __init__(self, *, classes: int = 4) -> None:
        super().__init__()
        self.low = nn.Sequential(conv(3, 12, stride=2), conv(12, 16, stride=2))
        self.high = nn.Sequential(conv(16, 24, stride=2), conv(24, 32, dilation=2))
        self.aspp, self.reduce = ASPP(32, 16), conv(16, 8, 1)
        self.head = nn.Sequential(conv(24, 16), nn.Conv2d(16, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes, H, W)."""
        low = self.low(x)
        high = F.interpolate(self.aspp(self.high(low)), size=low.shape[-2:], mode="bilinear", align_corners=False)
        y = self.head(torch.cat([high, self.reduce(low)], 1))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


# ---------------------------------------------------------------- features at several resolutions


class Residual(nn.Module):
    """Two convolutions beside a way past them (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = conv(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.short = nn.Identity() if stride == 1 and inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H / stride, W / stride)."""
        return F.relu(self.second(self.first(x)) + self.short(x))


class Backbone(nn.Module):
    """A small ResNet that gives what it has at four resolutions."""

    def __init__(self, widths: tuple[int, int, int, int] = (12, 16, 24, 32)) -> None:
        super().__init__()
        self.stem = conv(3, widths[0], stride=2)
        before = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(i, o, stride=1 + (n > 0)), Residual(o, o))
            for n, (i, o) in enumerate(zip(before, widths, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> four tensors, the last an eighth as high as the first."""
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class FPN(nn.Module):
    """What a backbone sees small, enlarged and added to what it sees large (Lin et al., 2017); four outputs."""

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        widths = (12, 16, 24, 32)
        self.backbone = Backbone(widths)
        self.lateral = nn.ModuleList(nn.Conv2d(n, width, 1) for n in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in widths)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> maps of `width` channels at four resolutions."""
        rows = [lateral(y) for lateral, y in zip(self.lateral, self.backbone(x), strict=True)]
        for i in range(len(rows) - 1, 0, -1):
            rows[i - 1] = rows[i - 1] + F.interpolate(rows[i], size=rows[i - 1].shape[-2:], mode="nearest")
        return {f"p{i + 2}": smooth(row) for i, (smooth, row) in enumerate(zip(self.smooth, rows, strict=True))}


class Partial(nn.Module):
    """Half of the channels pass by, half go through a bottleneck (CSPNet, Wang et al., 2020)."""

    def __init__(self, inputs: int, outputs: int, *, add: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.by, self.through, self.body = conv(inputs, half, 1), conv(inputs, half, 1), conv(half, half)
        self.add, self.join = add, conv(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H, W)."""
        y = self.through(x)
        y = y + self.body(y) if self.add else self.body(y)
        return self.join(torch.cat([y, self.by(x)], 1))


class Detector(nn.Module):
    """Backbone, a pyramid down and up again (PANet, Liu et al., 2018), and a head at each of three resolutions."""

    def __init__(self, *, classes: int = 3, anchors: int = 2) -> None:
        super().__init__()
        self.stem = conv(3, 8, stride=2)
        widths = (16, 24, 32)
        before = (8, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(conv(i, o, stride=2), Partial(o, o)) for i, o in zip(before, widths, strict=True)
        )
        self.down = nn.ModuleList([Partial(32 + 24, 24, add=False), Partial(24 + 16, 16, add=False)])
        self.shrink = nn.ModuleList([conv(16, 16, stride=2), conv(24, 24, stride=2)])
        self.up = nn.ModuleList([Partial(16 + 24, 24, add=False), Partial(24 + 32, 32, add=False)])
        self.heads = nn.ModuleList(nn.Conv2d(n, anchors * (5 + classes), 1) for n in widths)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> (N, anchors * (5 + classes), h, w) at 1/4, 1/8 and 1/16 of the positions."""
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        large, middle, small = found
        middle = self.down[0](torch.cat([F.interpolate(small, scale_factor=2.0, mode="nearest"), middle], 1))
        large = self.down[1](torch.cat([F.interpolate(middle, scale_factor=2.0, mode="nearest"), large], 1))
        middle = self.up[0](torch.cat([self.shrink[0](large), middle], 1))
        small = self.up[1](torch.cat([self.shrink[1](middle), small], 1))
        first, second, third = (head(y) for head, y in zip(self.heads, (large, middle, small), strict=True))
        return first, second, third


# ---------------------------------------------------------------- channels that move


class ShuffleUnit(nn.Module):
    """Half of the channels are worked on, then both halves are mixed (ShuffleNetV2, Ma et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        depthwise = nn.Sequential(nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half))
        self.body = nn.Sequential(conv(half, half, 1), depthwise, conv(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, self.body(right)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleNet(nn.Module):
    """Units of ShuffleNetV2 between strided convolutions."""

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        self.first = nn.Sequential(ShuffleUnit(16), ShuffleUnit(16), conv(16, 32, stride=2))
        self.second = nn.Sequential(ShuffleUnit(32), ShuffleUnit(32))
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        return self.head(self.second(self.first(self.stem(x))).mean((2, 3)))


class SuperResolution(nn.Module):
    """Channels become positions at the very end (ESPCN, Shi et al., 2016)."""

    def __init__(self, *, scale: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 24, 5, padding=2), nn.Tanh(), nn.Conv2d(24, 16, 3, padding=1), nn.Tanh())
        self.grow, self.shuffle = nn.Conv2d(16, scale**2, 3, padding=1), nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, scale * H, scale * W)."""
        return self.shuffle(self.grow(self.body(x)))
