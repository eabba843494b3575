"""Tasks: a data set with fixed splits, a loss and a metric.

To add a task: one file, and one line in `TaskSettings`.
"""

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

from nas_lib.tasks.folder import ImageFolder
from nas_lib.tasks.images import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, ImageFile
from nas_lib.tasks.labelled_text import LabelledText
from nas_lib.tasks.sequences import Adding, FormalLanguage
from nas_lib.tasks.text import RunningText

TaskSettings = Annotated[
    Digits
    | MNIST
    | FashionMNIST
    | CIFAR10
    | CIFAR100
    | ImageFile
    | ImageFolder
    | FormalLanguage
    | Adding
    | RunningText
    | LabelledText,
    Field(discriminator="name"),
]


def training_defaults(name: object) -> Mapping[str, object]:
    """Settings of `training` that the task of a name has instead of the usual defaults."""
    tasks = get_args(get_args(TaskSettings)[0])
    return next((task.training_defaults for task in tasks if task.model_fields["name"].default == name), {})
