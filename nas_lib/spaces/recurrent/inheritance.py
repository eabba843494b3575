"""Trained weights for a changed cell: those of blocks with the same name, and new blocks that change nothing yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from nas_lib.spaces.recurrent.edits import Record, Start
from nas_lib.spaces.recurrent.network import CellLayer, RecurrentNetwork

Inheritance = Literal["name", "preserving", "none"]


def inherit(
    parent: Mapping[str, Tensor],
    child: RecurrentNetwork,
    how: Inheritance = "name",
    records: Iterable[Record] = (),
) -> list[str]:
    """Give a network the weights of its parent, wherever both have one of the same name and shape.

    Args:
        parent: the state dictionary of the parent's network.
        how: `name`: all others stay as they are. `preserving`: new linear blocks start as the records of the changes
            say. `none`: nothing is done.
        records: of the changes that led from the parent's cell to the child's.

    Returns:
        The names of the weights that the child did not get from its parent.
    """
    own = child.state_dict()
    if how == "none":
        return list(own)
    taken = {
        name: parent[name] for name, tensor in own.items() if name in parent and parent[name].shape == tensor.shape
    }
    child.load_state_dict(taken, strict=False)
    if how == "preserving":
        for record in records:
            for name, start in record.starts.items():
                for layer in child.cells():
                    if name in layer.names:
                        _begin(layer, name, start)
    return [name for name in own if name not in taken]


@torch.no_grad()
def _begin(layer: CellLayer, name: str, start: Start) -> None:
    linear = layer.linear(name)
    if start == "identity":
        torch.nn.init.eye_(linear.weight)
    else:
        torch.nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        torch.nn.init.constant_(linear.bias, float(start == "one"))
