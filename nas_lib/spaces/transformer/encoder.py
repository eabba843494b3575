"""What an encoder is: its width and, layer by layer, operation, heads, feed-forward width and stacks.

The space of Serianni and Kalita (2023, arXiv 2306.00288), a reduction of FlexiBERT (Tuli et al. 2022, arXiv
2205.11656). A genotype is a list of genes: hidden size, number of layers, then four genes for each layer that there can
be, see `GENES`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nas_lib.records import Genotype
from nas_lib.settings import UserError

GENES = ("operation", "heads", "feed_forward", "stacks")
"""Of each layer, in their order in a genotype."""
ATTENTION, TRANSFORM, CONVOLUTION = "SA", "LT", "DSC"
FIXED = {f"{ATTENTION}-SDP", f"{ATTENTION}-WMA", f"{TRANSFORM}-DFT", f"{TRANSFORM}-DCT"}
"""Operations; those of convolutions are `DSC-` and their kernel."""
ALLOWED = "SA-SDP, SA-WMA, LT-DFT, LT-DCT, or DSC-k with an odd kernel k of 3 or more, for example DSC-5"


class EncoderError(UserError):
    """An encoder that cannot be built; the message is one line."""


@dataclass(frozen=True)
class Layer:
    """One layer of an encoder."""

    operation: str
    """For example `SA-SDP` or `DSC-9`."""
    heads: int
    feed_forward: int
    """Width of the feed-forward part."""
    stacks: int
    """Layers of that width."""

    @property
    def family(self) -> str:
        """`SA`, `LT` or `DSC`."""
        return self.operation.partition("-")[0]

    @property
    def kind(self) -> str:
        """What comes after the family, for example `SDP` or `9`."""
        return self.operation.partition("-")[2]


@dataclass(frozen=True)
class Encoder:
    """A whole encoder."""

    hidden: int
    """Size of what goes from layer to layer."""
    layers: tuple[Layer, ...]


def operation_mistake(operation: object) -> str | None:
    """Why an operation is none, None where it is one."""
    kernel = re.fullmatch(rf"{CONVOLUTION}-([1-9][0-9]*)", str(operation))
    if operation in FIXED or (kernel and int(kernel[1]) % 2 and int(kernel[1]) >= 3):
        return None
    return f"found operation {operation!r}, allowed is {ALLOWED}"


def heads_mistake(hidden: int, operation: str, heads: int) -> str | None:
    """Why an operation cannot have so many heads, None where it can."""
    if hidden % heads:
        return f"found {heads} heads, allowed are numbers that divide the hidden size {hidden}"
    if operation.startswith(CONVOLUTION) and heads % 2:
        return f"found {heads} heads of {operation}, allowed are even numbers: half of them attend, half convolve"
    return None


def checked(encoder: Encoder) -> Encoder:
    """The encoder itself. Raises EncoderError: it cannot be built."""
    for number, layer in enumerate(encoder.layers, 1):
        mistake = operation_mistake(layer.operation) or heads_mistake(encoder.hidden, layer.operation, layer.heads)
        if mistake:
            raise EncoderError(f"layer {number}: {mistake}")
    return encoder


def encoder_of(genotype: Genotype) -> Encoder:
    """The encoder of a genotype; genes of layers that it does not have are not read.

    Raises:
        EncoderError: it cannot be built.
    """
    hidden, count, *genes = genotype["genes"]
    if count * len(GENES) > len(genes):
        raise EncoderError(f"found {count} layers, allowed are {len(genes) // len(GENES)}, as many as have genes")
    rows = [genes[len(GENES) * place : len(GENES) * (place + 1)] for place in range(count)]
    return checked(Encoder(hidden, tuple(Layer(*row) for row in rows)))
