"""An encoder as a PyTorch module: an embedding, layers of an operation and a feed-forward part, an answer.

Every layer is `y = norm(x + project(heads(x)))`, then `norm(y + feed_forward(y))` (Vaswani et al. 2017; the norm comes
last, as in BERT and ELECTRA). Weights start normal, biases at 0, norms as the identity (BERT).

Padding has no effect: nothing reads it, and transforms are those of the real tokens alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nas_lib.spaces.transformer.encoder import ATTENTION, TRANSFORM, Encoder, Layer, checked
from nas_lib.tasks.data import SequenceShape

PERIOD = 10_000.0
"""Of the slowest position encoding, in tokens over 2 pi (Vaswani et al. 2017)."""


class Tokens(NamedTuple):
    """Which steps of sequences are real, and where they are."""

    real: Tensor
    """Bool (n, time): no padding."""
    positions: Tensor
    """int64 (n, time): place among the real ones, from 0."""
    lengths: Tensor
    """int64 (n,): real ones."""


class Mixed(NamedTuple):
    """What the operation of a layer gives."""

    heads: Tensor
    """(n, heads, time, hidden / heads): what each head gives, before they are projected together."""
    attention: Tensor | None
    """(n, attending heads, time, time): probabilities with which each token (row) attends to each, before dropout.
    None of transforms."""


@dataclass(frozen=True)
class Trace:
    """What one layer computed in a forward pass; tensors of its graph."""

    layer: Layer
    heads: Tensor
    """See `Mixed`."""
    attention: Tensor | None
    """See `Mixed`; of convolutions that of the half of the heads that attend, which are the first ones."""
    output: Tensor
    """(n, time, hidden)."""


def tokens_of(real: Tensor) -> Tokens:
    """Of a mask (n, time); a sequence that is nothing but padding counts as real."""
    real = real | ~real.any(dim=1, keepdim=True)
    positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)
    return Tokens(real, positions, real.long().sum(dim=1))


def position_encoding(positions: Tensor, size: int) -> Tensor:
    """Sines and cosines (n, time, size) of geometrically spaced periods (Vaswani et al. 2017), for any length."""
    places = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32)
    angles = positions.unsqueeze(-1).float() * torch.exp(-math.log(PERIOD) / size * places)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :size]


def split(values: Tensor, heads: int) -> Tensor:
    """(n, time, hidden) to (n, heads, time, hidden / heads)."""
    n, time, hidden = values.shape
    return values.reshape(n, time, heads, hidden // heads).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention softmax(q k' / sqrt(d)) v with d = `size` / heads, SDP (Vaswani et al. 2017).

    WMA (multiplicative attention, Luong et al. 2015, with queries and keys): q W k' with a matrix W (size, size)
    between all queries and keys, as the released code of Serianni and Kalita has it.
    """

    def __init__(self, hidden: int, size: int, heads: int, dropout: float, *, weighted: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, size) for _ in range(3))
        self.weight = nn.Linear(size, size, bias=False) if weighted else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, tokens: Tokens) -> Mixed:
        """Mix (n, time, hidden)."""
        return self.attend(self.query(values), values, tokens)

    def attend(self, query: Tensor, values: Tensor, tokens: Tokens) -> Mixed:
        """The same with the queries (n, time, size), for those who need them too."""
        query, key, value = (
            split(each, self.heads)
            for each in (query if self.weight is None else self.weight(query), self.key(values), self.value(values))
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        attention = scores.masked_fill(~tokens.real[:, None, None, :], -math.inf).softmax(dim=-1)
        return Mixed(self.dropout(attention) @ value, attention)


def fourier(positions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (n, t, t) of the discrete Fourier transform over the first `lengths` of t places, unitary."""
    length = lengths[:, None, None]
    turns = (positions[:, :, None] * positions[:, None, :] % length).float() / length
    scale = length.float().rsqrt()
    return (2 * math.pi * turns).cos() * scale, (2 * math.pi * turns).sin() * scale


def cosine(positions: Tensor, lengths: Tensor) -> Tensor:
    """The discrete cosine transform of type II (n, t, t), orthonormal, over the first `lengths` of t places."""
    length = lengths[:, None, None]
    frequency, place = positions[:, :, None], positions[:, None, :]
    turns = (frequency * (2 * place + 1) % (4 * length)).float() / (4 * length)
    scale = torch.where(frequency == 0, 1.0, math.sqrt(2.0)) * length.float().rsqrt()
    return (2 * math.pi * turns).cos() * scale


class Transform(nn.Module):
    """A linear map, then of each head a two-dimensional transform over tokens and features, its real part.

    DFT (FNet: Lee-Thorp et al. 2021) or DCT of type II. Unlike in the released code of Serianni and Kalita both are
    scaled to keep norms, so that outputs do not grow with the sequence, and the projection and the sum with the input
    are as in the other layers. The transforms are matrix products over t^2 pairs of tokens, as attention is, for each
    sequence has a length of its own.
    """

    features: Tensor
    """Transforms of the features of a head: (2, d, d) of the DFT, (1, d, d) of the DCT."""

    def __init__(self, hidden: int, heads: int, kind: str) -> None:
        super().__init__()
        self.heads, self.kind = heads, kind
        self.input = nn.Linear(hidden, hidden)
        places, size = torch.arange(hidden // heads)[None], torch.tensor([hidden // heads])
        matrices = fourier(places, size) if kind == "DFT" else (cosine(places, size),)
        self.register_buffer("features", torch.cat(matrices), persistent=False)

    def forward(self, values: Tensor, tokens: Tokens) -> Mixed:
        """Mix (n, time, hidden)."""
        inner = split(self.input(values) * tokens.real[..., None], self.heads)
        if self.kind == "DCT":
            cosines = cosine(tokens.positions, tokens.lengths).to(inner.dtype)[:, None]
            return Mixed(cosines @ (inner @ self.features[0].T), None)
        # Real part of F x F with F = cosines - i sines.
        cosines, sines = (each.to(inner.dtype)[:, None] for each in fourier(tokens.positions, tokens.lengths))
        return Mixed(cosines @ (inner @ self.features[0]) - sines @ (inner @ self.features[1]), None)


class DynamicConvolution(nn.Module):
    """Span-based dynamic convolution (ConvBERT: Jiang et al. 2020): the kernel of each token and head comes from its
    query and a depthwise separable convolution of its surroundings.

    kernel = softmax(W (q * s)), s = pointwise(depthwise(x)), output = sum over the span of kernel and values.
    """

    def __init__(self, hidden: int, size: int, heads: int, kernel: int) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.depthwise = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.pointwise = nn.Linear(hidden, size)
        self.kernels = nn.Linear(size, heads * kernel)
        self.value = nn.Linear(hidden, size)

    def forward(self, values: Tensor, query: Tensor, tokens: Tokens) -> Tensor:
        """Heads (n, heads, time, size / heads) of (n, time, hidden) and the queries (n, time, size)."""
        real = tokens.real[..., None]
        span = self.pointwise(self.depthwise((values * real).transpose(1, 2)).transpose(1, 2))
        kernels = split(self.kernels(query * span), self.heads).softmax(dim=-1)
        padded = F.pad(split(self.value(values) * real, self.heads), (0, 0, self.kernel // 2, self.kernel // 2))
        steps = values.shape[1]
        windows = torch.stack([padded[:, :, place : place + steps] for place in range(self.kernel)], dim=-2)
        return (kernels.unsqueeze(-2) @ windows).squeeze(-2)


class MixedAttention(nn.Module):
    """Half of the heads attend (SDP), the other half are dynamic convolutions with the same queries (ConvBERT)."""

    def __init__(self, hidden: int, heads: int, dropout: float, kernel: int) -> None:
        super().__init__()
        self.attention = Attention(hidden, hidden // 2, heads // 2, dropout)
        self.convolution = DynamicConvolution(hidden, hidden // 2, heads // 2, kernel)

    def forward(self, values: Tensor, tokens: Tokens) -> Mixed:
        """Mix (n, time, hidden)."""
        query = self.attention.query(values)
        attending, attention = self.attention.attend(query, values, tokens)
        convolved = self.convolution(values, query, tokens)
        return Mixed(torch.cat([attending, convolved], dim=1), attention)


def operation(layer: Layer, hidden: int, dropout: float) -> nn.Module:
    """The module of a layer's operation: from (n, time, hidden) and `Tokens` to `Mixed`."""
    if layer.family == ATTENTION:
        return Attention(hidden, hidden, layer.heads, dropout, weighted=layer.kind == "WMA")
    if layer.family == TRANSFORM:
        return Transform(hidden, layer.heads, layer.kind)
    return MixedAttention(hidden, layer.heads, dropout, kernel=int(layer.kind))


class EncoderLayer(nn.Module):
    """One layer, see the module."""

    def __init__(self, layer: Layer, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layer = layer
        self.operation = operation(layer, hidden, dropout)
        self.project = nn.Linear(hidden, hidden)
        widths = [hidden, *[layer.feed_forward] * layer.stacks]
        inner = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.GELU())]
        self.feed_forward = nn.Sequential(*inner, nn.Linear(layer.feed_forward, hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, tokens: Tokens) -> Tensor:
        """(n, time, hidden) to the same."""
        return self.trace(values, tokens).output

    def trace(self, values: Tensor, tokens: Tokens) -> Trace:
        """The same, and what is computed on the way."""
        heads, attention = self.operation(values, tokens)
        joined = heads.transpose(1, 2).flatten(-2)
        values = self.norms[0](values + self.dropout(self.project(joined)))
        values = self.norms[1](values + self.dropout(self.feed_forward(values)))
        return Trace(self.layer, heads, attention, values)

    def operation_linears(self) -> list[nn.Linear]:
        """The linear layers of the operation block: those of the operation, and the projection of its heads."""
        return [module for module in (*self.operation.modules(), self.project) if isinstance(module, nn.Linear)]

    def feed_forward_linears(self) -> list[nn.Linear]:
        """The linear layers of the feed-forward part."""
        return [module for module in self.feed_forward if isinstance(module, nn.Linear)]


class TransformerNetwork(nn.Module):
    """Symbols or vectors in, one answer for each sequence out: a linear layer of the mean over its real tokens.

    Symbols are embedded, vectors encoded by a linear layer, to size `embedding`; the encoding of their positions is
    added, as large as embeddings are at the start, for it would drown them otherwise; the sum is normalised, and a
    linear layer brings it to the hidden size where that is another.

    Args:
        shape: `inputs`, `outputs`, `tokens` and `padding` of a task.
        deviation: standard deviation of the weights at the start.

    Raises:
        EncoderError: the encoder cannot be built.
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: SequenceShape,
        embedding: int = 128,
        dropout: float = 0.1,
        deviation: float = 0.02,
    ) -> None:
        super().__init__()
        hidden, self.padding, self.deviation = checked(encoder).hidden, shape.padding, deviation
        self.embedding: nn.Module = (nn.Embedding if shape.tokens else nn.Linear)(shape.inputs, embedding)
        self.norm = nn.LayerNorm(embedding)
        self.widen = nn.Linear(embedding, hidden) if embedding != hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(layer, hidden, dropout) for layer in encoder.layers)
        self.decoder = nn.Linear(hidden, shape.outputs)
        self.apply(partial(_start, deviation=deviation))

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Outputs (n, 1, outputs), and None: a sequence is read as a whole, so there is no state to go on with.

        Args:
            inputs: symbols, int64 (n, time), or vectors, float32 (n, time, inputs).
            state: nothing; there for what calls networks of sequences alike.
        """
        tokens = self.tokens(inputs)
        values = self.embedded(inputs, tokens)
        for layer in self.encoder_layers():
            values = layer(values, tokens)
        return self.answer(values, tokens), None

    def traced(self, inputs: Tensor) -> tuple[Tensor, list[Trace]]:
        """One forward pass: outputs (n, 1, outputs), and of every layer its heads, attention and output.

        The tensors belong to the graph of the outputs, so that `torch.autograd.grad` gives gradients of them.
        """
        tokens = self.tokens(inputs)
        values, traces = self.embedded(inputs, tokens), []
        for layer in self.encoder_layers():
            traces.append(layer.trace(values, tokens))
            values = traces[-1].output
        return self.answer(values, tokens), traces

    def encoder_layers(self) -> list[EncoderLayer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, EncoderLayer)]

    def tokens(self, inputs: Tensor) -> Tokens:
        """Which of the inputs are no padding."""
        if self.padding is None:
            return tokens_of(torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device))
        return tokens_of(inputs != self.padding)

    def embedded(self, inputs: Tensor, tokens: Tokens) -> Tensor:
        """What the first layer is given, (n, time, hidden)."""
        values = self.embedding(inputs)
        places = position_encoding(tokens.positions, values.shape[-1])  # of mean square 1/2
        values = self.norm(values + self.deviation * math.sqrt(2) * places)
        found: Tensor = self.widen(self.dropout(values))
        return found

    def answer(self, values: Tensor, tokens: Tokens) -> Tensor:
        """Outputs (n, 1, outputs) of what the last layer gives."""
        mean = (values * tokens.real[..., None]).sum(dim=1) / tokens.lengths[:, None]
        found: Tensor = self.decoder(mean).unsqueeze(1)
        return found


def _start(module: nn.Module, deviation: float) -> None:
    if isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d):
        nn.init.normal_(module.weight, std=deviation)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
