"""How candidates are trained and measured, as the user writes it."""

from typing import Literal

from pydantic import Field

from nas_lib.settings import Settings


class Training(Settings):
    """Training by stochastic gradient descent with a cosine schedule."""

    batch_size: int = Field(default=128, ge=1)
    """Images per step."""
    learning_rate: float = Field(default=0.1, gt=0)
    """At the first step; falls to 0 along a cosine over the epochs of a full evaluation."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of Nesterov; 0 is plain gradient descent."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Factor of the weights that is added to their gradient."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target probability that is spread over all classes."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest 2-norm of the gradient; larger ones are scaled down. Default: no limit."""
    crop_padding: int = Field(default=0, ge=0)
    """Random crops from images padded by so many pixels on every side."""
    horizontal_flip: bool = False
    """Mirror half of the training images, drawn anew every epoch."""
    cutout: int = Field(default=0, ge=0)
    """Side in pixels of a square set to the mean at a random place of every training image."""
    mixed_precision: bool = True
    """bfloat16 autocast on CUDA devices that support it; has no effect on CPU."""
    checkpoint_seconds: float = Field(default=10.0, ge=0)
    """A killed training loses at most this much work plus one epoch."""


class Latency(Settings):
    """How latency is measured when it is an objective."""

    batch_size: int = Field(default=1, ge=1)
    """Images per forward pass."""
    warm_up: int = Field(default=10, ge=0)
    """Passes before the clock runs."""
    repetitions: int = Field(default=50, ge=3)
    """Passes measured; the objective is their median."""


class Resources(Settings):
    """What one job may use."""

    threads: int = Field(default=1, ge=1)
    """CPU threads of one job. More than 1 rarely helps with networks this small."""
    devices: tuple[str, ...] | Literal["auto"] = "auto"
    """Devices jobs are spread over, for example [cuda:0, cuda:1] or [cpu]; one job at a time on each CUDA
    device. `auto`: all CUDA devices, or the CPU where there is none."""
