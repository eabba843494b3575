"""A small space of recurrent networks: LSTMs of a few sizes, for tests of what is done with sequences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import networkx
import numpy as np
from pydantic import TypeAdapter
from torch import Tensor, nn

from nas_lib.evaluation.settings import Training
from nas_lib.experiment import Experiment, parse
from nas_lib.records import Genotype
from nas_lib.settings import Settings
from nas_lib.tasks import TaskSettings
from nas_lib.tasks.data import SequenceShape


class LSTM(nn.Module):
    """Embedding or linear layer, LSTM, linear layer."""

    def __init__(self, shape: SequenceShape, hidden: int) -> None:
        super().__init__()
        self.encoder: nn.Module = (nn.Embedding if shape.tokens else nn.Linear)(shape.inputs, hidden)
        self.cell = nn.LSTM(hidden, hidden, batch_first=True)
        self.decoder = nn.Linear(hidden, shape.outputs)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Outputs of every step, and the state after the last one."""
        outputs, state = self.cell(self.encoder(inputs), state)
        return self.decoder(outputs), state


class LSTMSpace(Settings):
    """A genotype is a number of hidden units, and a name by which equal ones may differ."""

    name: Literal["lstm"] = "lstm"
    modality: ClassVar[str] = "sequences"
    hidden: tuple[int, ...] = (4, 8)

    def operators(self) -> frozenset[str]:
        """Further ones: `size`, `inherit`."""
        return frozenset({"sample", "hash", "build", "graph", "size", "inherit"})

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Any of the sizes."""
        return {"hidden": int(rng.choice(self.hidden))}

    def hash(self, genotype: Genotype) -> str:
        """The genotype."""
        return str(sorted(genotype.items()))

    def same(self, first: Genotype, second: Genotype) -> bool:
        """Whether they are equal."""
        return first == second

    def build(self, genotype: Genotype, shape: SequenceShape) -> LSTM:
        """The network."""
        return LSTM(shape, genotype["hidden"])

    def size(self, genotype: Genotype) -> dict[str, float]:
        """As blocks, the hidden units."""
        return {"blocks": genotype["hidden"]}

    def inherit(
        self, parent: Mapping[str, Tensor], child: nn.Module, records: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Take all tensors of equal name and shape."""
        taken = {name: parent[name] for name, value in child.state_dict().items() if parent[name].shape == value.shape}
        child.load_state_dict(taken, strict=False)
        return [name for name in child.state_dict() if name not in taken]

    def describe(self, genotype: Genotype) -> str:
        """For example `LSTM of 8`."""
        return f"LSTM of {genotype['hidden']}"

    def graph(self, genotype: Genotype) -> "networkx.DiGraph[int]":
        """One node."""
        graph: networkx.DiGraph[int] = networkx.DiGraph()
        graph.add_node(0, label="lstm", kind="operation", stage=0, group=())
        return graph


def experiment_of(folder: Path, task: Mapping[str, Any], **changes: Any) -> Experiment:
    """An experiment whose space is that of LSTMs, which no configuration can name."""
    content = {
        "experiment": "recurrent",
        "results": str(folder),
        "task": {"name": "digits"},
        "space": {"name": "generator"},
        "strategies": ["random"],
        "objectives": ["error", "parameters"],
        "budget": {"rounds": 2, "proposals": 2, "jobs": 1, "epochs": 2},
        "finalists": {"count": 1, "repeats": 1, "epochs": 1},
        "resources": {"devices": ["cpu"]},
    }
    experiment = parse(content | changes, "recurrent")
    settings: Any = TypeAdapter(TaskSettings).validate_python(task)
    update = {"task": settings, "space": LSTMSpace(), "training": Training(**settings.training_defaults)}
    return experiment.model_copy(update=update)
