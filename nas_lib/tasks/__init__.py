"""Tasks: a data set with fixed splits, a loss and a metric.

To add a task: one file, and one line in `TaskSettings`.
"""

from typing import Annotated

from pydantic import Field

from nas_lib.tasks.folder import ImageFolder
from nas_lib.tasks.images import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, ImageFile

TaskSettings = Annotated[
    Digits | MNIST | FashionMNIST | CIFAR10 | CIFAR100 | ImageFile | ImageFolder, Field(discriminator="name")
]
