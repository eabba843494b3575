"""How candidates are trained and measured, as the user writes it."""

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, StrictInt, field_validator

from nas_lib.settings import Settings

DEVICE = r"cpu|cuda(:(0|[1-9][0-9]*))?"
"""Names of devices; `cuda` is `cuda:0`."""


class EarlyStop(Settings):
    """Shorter training of a candidate that begins with the weights of another and is nearly as good from the start."""

    figure: Literal["error", "loss", "perplexity"] = "loss"
    """What is compared, on the validation split: of the candidate before its training, of its parent after its own."""
    threshold: float = Field(ge=0)
    """The candidate may be worse by less than this, in the unit of the figure. The published rule is a perplexity
    worse by less than 5."""
    short_epochs: StrictInt = Field(ge=1)
    """Epochs it is then trained for, instead of the budget's."""


class Training(Settings):
    """Training by gradient descent. What is not given has the default of the task, which is stored with the results."""

    batch_size: StrictInt = Field(default=128, ge=1)
    """Images or sequences per step; for running text the rows it is read in at the same time."""
    steps: StrictInt = Field(default=35, ge=1)
    """Running text only: tokens of each row between two updates, over which gradients are propagated back."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Stochastic gradient descent with Nesterov momentum, or Adam (Kingma and Ba 2015)."""
    learning_rate: float = Field(default=0.1, gt=0)
    """At the first step."""
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """How the learning rate goes on. `cosine`: it falls to 0 over the epochs of a full evaluation. `plateau`: it is
    multiplied by `plateau_factor` after every epoch whose validation loss is not the lowest so far."""
    plateau_factor: float = Field(default=0.25, gt=0, lt=1)
    """Of the schedule `plateau`."""
    keep_best: bool = False
    """Measure and keep the weights of the epoch with the lowest validation loss, not those of the last epoch."""
    early_stop: EarlyStop | None = None
    """Shorter training of candidates that inherit weights. Default: none."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of Nesterov; 0 is plain gradient descent. Without effect on Adam."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Factor of the weights that is added to their gradient."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target probability that is spread over all classes; where the loss is a cross-entropy."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest 2-norm of the gradient; larger ones are scaled down. Default: no limit."""
    crop_padding: StrictInt = Field(default=0, ge=0)
    """Random crops from images padded by so many pixels on every side."""
    horizontal_flip: bool = False
    """Mirror half of the training images, drawn anew every epoch."""
    cutout: StrictInt = Field(default=0, ge=0)
    """Side in pixels of a square set to the mean at a random place of every training image."""
    mixed_precision: bool = True
    """bfloat16 autocast on CUDA devices that support it; has no effect on CPU."""
    checkpoint_seconds: float = Field(default=10.0, ge=0)
    """A killed training loses at most this much work plus one epoch."""


class Latency(Settings):
    """How latency is measured when it is an objective or constrained."""

    batch_size: StrictInt = Field(default=1, ge=1)
    """Images per forward pass, or sequences that make one step."""
    warm_up: StrictInt = Field(default=10, ge=0)
    """Passes before the clock runs."""
    repetitions: StrictInt = Field(default=50, ge=3)
    """Passes measured; the objective is their median."""


class Scoring(Settings):
    """On what networks are scored without training, by strategies or as an objective: training data, in batches."""

    batch: StrictInt = Field(default=64, ge=2)
    """Images or sequences; fewer where there are fewer."""
    steps: StrictInt = Field(default=35, ge=2)
    """Tokens of each, of a running text."""


class Resources(Settings):
    """What one job may use."""

    threads: StrictInt = Field(default=1, ge=1)
    """CPU threads of one job. More than 1 rarely helps with networks this small."""
    devices: tuple[str, ...] | Literal["auto"] = "auto"
    """Devices jobs are spread over, for example [cuda:0, cuda:1] or [cpu]. `auto`: all CUDA devices, or the CPU where
    there is none."""
    gpu_slots: StrictInt = Field(default=1, ge=1)
    """Jobs at the same time on each CUDA device. Networks this small leave most of a GPU idle; energy per candidate is
    known only with 1."""

    @field_validator("devices", mode="before")
    @classmethod
    def _devices_differ(cls, devices: object) -> object:
        if devices == "auto":
            return devices
        if not isinstance(devices, list | tuple) or not devices:
            raise ValueError(f"found {devices!r}, allowed is auto or a list such as [cuda:0, cuda:1]")
        for device in devices:
            if not (isinstance(device, str) and re.fullmatch(DEVICE, device)):
                raise ValueError(f"found {device!r}, allowed is cpu, or cuda devices such as cuda:0")
        if len({"cuda:0" if device == "cuda" else device for device in devices}) < len(devices):
            raise ValueError(f"{list(devices)} repeats a device, allowed are different ones")
        if "cpu" in devices and len(devices) > 1:
            raise ValueError(f"found {list(devices)}, allowed is either cpu or cuda devices, not both")
        return devices

    @property
    def gpu_slots_here(self) -> int:
        """Candidates that may train on the GPUs of this machine at the same time; 0 where none is here or used.

        Found without CUDA, whose import takes seconds.
        """
        found: list[object]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if self.devices != "auto":
            found = [device for device in self.devices if device != "cpu"]
        elif visible is not None:
            found = [device for device in visible.split(",") if device.strip()]
        else:
            found = list(Path("/proc/driver/nvidia/gpus").glob("*"))
        return len(found) * self.gpu_slots
