"""FLOPs of what PyTorch computes."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counting:
    """Adds up the FLOPs of every operation by the formulas of `torch.utils.flop_counter`."""

    flops = 0
    elements = 0
    """Numbers in the outputs of all operations, views of other outputs left out."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = operation(*args, **kwargs)
        formula = flop_registry.get(_out_of_place(operation._overloadpacket))
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=output)
        if not operation.is_view:
            self.elements += numbers(output)
        return output


def _out_of_place(packet: Any) -> Any:
    """An operation, or the one that an operation in place (`addmm_`) computes, for formulas are of those alone."""
    name: str = packet.__name__
    return getattr(torch.ops.aten, name.removesuffix("_"), packet) if name.endswith("_") else packet


class FlopCounter(_Counting, TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`FlopCounterMode` counts the same, but importing PyTorch's compiler for it takes 2 s of CPU per process.

    A mode that inherits its method, as here, does without.
    """


def numbers(output: Any) -> int:
    """Numbers in a tensor, or in all tensors of a tuple or list."""
    if isinstance(output, Tensor):
        return output.numel()
    return sum(map(numbers, output)) if isinstance(output, tuple | list) else 0
