"""Small networks of many families, written as people write them, to be traced."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel_size: int = 3, **more: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False, **more)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv(3, 8, stride=2), nn.Sequential(conv(8, 8), nn.Conv2d(8, 8, 3, padding="same"))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.body(y)
        z += y
        return self.head(F.relu(z, inplace=True).mean((2, 3)))


class Inception(nn.Module):
    """Four branches, one of them a pool, side by side (Szegedy et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (
            conv(3, 4, 1),
            conv(3, 6),
            nn.Sequential(conv(3, 2, 1), conv(2, 4, 5)),
            conv(3, 2),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.d(F.avg_pool2d(x, 3, stride=1, padding=1))
        y = torch.cat([self.a(x), self.b(x), self.c(x), pooled], 1)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(F.max_pool2d(y, 3, 2, ceil_mode=True), 1), 1))


class SqueezeExcite(nn.Module):
    """Channel attention, and branches left out by chance as timm writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.expand = conv(3, 8), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.act, self.gate, self.head = nn.Hardswish(), nn.Hardsigmoid(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))
        if self.training:
            y = y * y.new_empty((y.shape[0],) + (1,) * (y.ndim - 1)).bernoulli_(0.8).div_(0.8)
        return self.head(F.dropout((x + y).mean([2, 3]), 0.2, self.training))


class Shuffle(nn.Module):
    """Groups of channels that are mixed (Zhang et al., 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(8, 8, groups=4), nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        y = self.first(x).view(b, 4, c // 4, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        left, right = y.chunk(2, dim=1)
        return torch.cat((left, self.second(right)), dim=1)


class Dense(nn.Module):
    """Every layer reads all before it (Huang et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(4 + 3 * i, 3) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return torch.cat(found, 1)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


class ViT(nn.Module):
    """A class token, an embedding of positions, attention (Dosovitskiy et al., 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 5, 8))
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(8), Attention(8, 2), nn.LayerNorm(8, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class Windows(nn.Module):
    """Attention in shifted windows with biases by relative position (Liu et al., 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), Attention(8, 2)
        self.table = nn.Parameter(torch.zeros(9, 2))
        at = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None, :] + 1
        self.register_buffer("index", apart[0] * 3 + apart[1])
        self.register_buffer("mask", torch.arange(4 * 16).view(4, 4, 4) % 3 * -1.0)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        y = torch.roll(self.norm(x), shifts=(-1, -1), dims=(1, 2))
        y = y.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 4, c)
        a = self.attention
        q, k, v = a.qkv(y).reshape(y.shape[0], 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        scores = (q * (c // 2) ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.table[self.index.view(-1)].view(4, 4, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        scores = (scores.view(-1, 4, 2, 4, 4) + self.mask.unsqueeze(1).unsqueeze(0)).view(-1, 2, 4, 4)
        y = a.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, c))
        y = y.view(-1, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, c)
        return x + torch.roll(y, shifts=(1, 1), dims=(1, 2))


class UNet(nn.Module):
    """Down and up again, with what was seen on the way (Ronneberger et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = conv(3, 4), conv(4, 6, stride=2), nn.ConvTranspose2d(6, 4, 2, 2)
        self.deeper, self.out = conv(6, 6, stride=2), nn.Conv2d(14, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(x)
        b = self.deep(a)
        c = F.interpolate(self.deeper(b), size=a.shape[-2:], mode="bilinear", align_corners=False)
        d = F.interpolate(self.deeper(b), scale_factor=4)
        return self.out(torch.cat([a, self.up(b), c * d], 1))


class TwoInTwoOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.numbers, self.left, self.right = conv(3, 4), nn.Linear(6, 4), nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, image: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        joined = torch.cat([self.image(image).amax((2, 3)), self.numbers(numbers).tanh()], -1)
        return {"classes": self.left(joined), "score": 2 * self.right(joined).squeeze(-1) - 1}


class Series(nn.Module):
    """One axis of time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(6, 8, 5, 2, 2, groups=2), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool1d(F.leaky_relu(self.norm(self.conv(x)), 0.1), 2)
        return self.head(F.adaptive_avg_pool1d(y, 1).squeeze(-1))


class Shared(nn.Module):
    """A layer called twice, a table of rows that is also the last layer's weight, and activations used again."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix, self.act = nn.Embedding(11, 8), nn.Linear(8, 8), nn.SiLU()
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.act(self.mix(self.words(tokens)))
        return self.out(self.act(self.mix(x)))


class Waves(nn.Module):
    """Positions as waves, made anew in each call, which are projected and added to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.head = conv(3, 8), conv(8, 8), nn.Linear(8, 5)
        self.positions = nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        columns = torch.arange(x.shape[3]) / x.shape[3]
        waves = torch.stack([wave(n * columns) for n in (1, 4) for wave in (torch.sin, torch.cos)])[:, None]
        x = x + self.positions(waves.expand(x.shape[0], 4, *x.shape[2:]))
        return self.head(self.mix(x).mean((2, 3)))


class OneKernel(nn.Module):
    """A large kernel that several blocks share, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        around = nn.Conv2d(8, 8, 5, 1, 2, groups=8)
        self.stem, self.head = conv(3, 8), nn.Linear(8, 5)
        self.blocks = nn.ModuleList(nn.ModuleDict({"around": around, "mix": conv(8, 8, 1)}) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            y = block["around"](x)
            x = x + block["mix"](block["around"](y.relu()) if i == 0 else y)
        return self.head(x.mean((2, 3)))


class SequenceFirst(nn.Module):
    """torch's own attention, which wants the samples second and folds heads into them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, activation="gelu")

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


NETWORKS: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...]]] = {
    "residual": (Residual, ((3, 9, 9),)),
    "inception": (Inception, ((3, 8, 8),)),
    "squeeze-excite": (SqueezeExcite, ((3, 6, 6),)),
    "shuffle": (Shuffle, ((8, 5, 5),)),
    "dense": (Dense, ((4, 5, 5),)),
    "vit": (ViT, ((3, 8, 8),)),
    "windows": (Windows, ((4, 4, 8),)),
    "u-net": (UNet, ((3, 8, 8),)),
    "two-in-two-out": (TwoInTwoOut, ((3, 6, 6), (6,))),
    "series": (Series, ((6, 20),)),
    "shared": (Shared, ((7,),)),
    "waves": (Waves, ((3, 7, 7),)),
    "one-kernel": (OneKernel, ((3, 7, 7),)),
    "sequence-first": (SequenceFirst, ((5, 8),)),
}


def network(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network with random numbers everywhere, norms included, and two samples."""
    torch.manual_seed(0)
    make, shapes = NETWORKS[name]
    module = make()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
        for path, buffer in module.named_buffers():
            if "running" in path:
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    inputs = [torch.randint(0, 11, (2, *s)) if name == "shared" else torch.randn(2, *s) for s in shapes]
    return module, tuple(inputs)
