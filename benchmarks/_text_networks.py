"""Transformers for rows of token ids, written for this project.

Small, with random weights, each in one of the ways that people write attention. Knows torch alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TextEncoder(nn.Module):
    """torch's own encoder layers, and the mean over tokens (Vaswani et al., 2017)."""

    def __init__(self, *, tokens: int, length: int, width: int = 32, classes: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(torch.zeros(1, length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, length) int64 -> (N, classes)."""
        return self.head(self.encoder(self.embed(ids) + self.positions).mean(1))


class SeparateAttention(nn.Module):
    """Queries, keys and values by layers of their own, products written out (as in BERT's implementations)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.drop = nn.Linear(width, width), nn.Dropout(0.1)

    def split(self, x: Tensor) -> Tensor:
        """(N, L, C) -> (N, heads, L, C / heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) -> the same."""
        q, k, v = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / q.shape[-1] ** 0.5
        y = torch.matmul(self.drop(scores.softmax(-1)), v)
        return self.out(y.transpose(1, 2).flatten(2))


class BertLike(nn.Module):
    """Normalised behind each sum, classified by the first token (Devlin et al., 2019)."""

    def __init__(self, *, tokens: int, length: int, width: int = 32, classes: int = 4) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.register_buffer("order", torch.arange(length)[None], persistent=False)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.ModuleList(SeparateAttention(width, 4) for _ in range(2))
        self.after = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)) for _ in range(2)
        )
        self.last = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, length) int64 -> (N, classes)."""
        x = self.norm(self.embed(ids) + self.places(self.order))
        for attention, after, mlp, last in zip(self.attention, self.after, self.mlp, self.last, strict=True):
            x = after(x + attention(x))
            x = last(x + mlp(x))
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class GroupedQueryAttention(nn.Module):
    """Several queries share a key and a value (Ainslie et al., 2023).

    Args:
        width: of the tensor.
        heads: of queries.
        groups: of keys and values.
        fused: torch repeats keys and values itself (`enable_gqa`); else they are repeated by hand.
    """

    def __init__(self, width: int, *, heads: int, groups: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.size, self.fused = heads, groups, width // heads, fused
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)

    def repeated(self, x: Tensor) -> Tensor:
        """(N, groups, L, size) -> (N, heads, L, size)."""
        n, groups, length, size = x.shape
        times = self.heads // groups
        return x[:, :, None].expand(n, groups, times, length, size).reshape(n, self.heads, length, size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) -> the same; each token reads those before it."""
        n, length, width = x.shape
        q = self.query(x).view(n, length, self.heads, self.size).transpose(1, 2)
        k, v = (layer(x).view(n, length, self.groups, self.size).transpose(1, 2) for layer in (self.key, self.value))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = F.scaled_dot_product_attention(q, self.repeated(k), self.repeated(v), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(n, length, width))


class GatedMLP(nn.Module):
    """One half gates the other (Shazeer, 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, 48), nn.Linear(width, 48), nn.Linear(48, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, C) -> the same."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class LanguageModel(nn.Module):
    """A small decoder of today's make: RMSNorm, grouped queries, a gated MLP, one table for both ends.

    Args:
        tokens: in the vocabulary.
        width: of the tensor.
        fused: see `GroupedQueryAttention`.
        tied: the table of embeddings is the output layer's weight (Press & Wolf, 2017).
    """

    def __init__(self, *, tokens: int, width: int = 32, fused: bool = False, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.before = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(4))
        self.attention = nn.ModuleList(GroupedQueryAttention(width, heads=4, groups=2, fused=fused) for _ in range(2))
        self.mlp = nn.ModuleList(GatedMLP(width) for _ in range(2))
        self.norm, self.head = nn.RMSNorm(width, eps=1e-6), nn.Linear(width, tokens, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(N, length) int64 -> (N, length, tokens)."""
        x = self.embed(ids)
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            x = x + attention(self.before[2 * i](x))
            x = x + mlp(self.before[2 * i + 1](x))
        return self.head(self.norm(x))
