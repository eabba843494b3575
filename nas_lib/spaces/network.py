"""The PyTorch network of a plan (reference: NAGO, sections 2.6 to 2.10)."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nas_lib.spaces.architecture import KERNELS, POOLS, Body, Node, Plan, separable_stem


class GraphNetwork(nn.Module):
    """Stem, graph of graphs, head: images (n, channels, height, width) to logits (n, classes)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        channels, width = plan.shape.channels, plan.width
        if separable_stem(plan.shape):
            narrow = max(1, width // 2)
            self.stem = nn.Sequential(
                *_separable(channels, narrow),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
                *_separable(narrow, width),
                nn.BatchNorm2d(width),
            )
        else:
            self.stem = nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
            )
        self.body = BodyModule(plan.body)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(plan.body.out, plan.head_channels, 1),
            nn.BatchNorm2d(plan.head_channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(plan.dropout),
            nn.Linear(plan.head_channels, plan.shape.classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        logits: Tensor = self.head(self.body(self.stem(images)))
        return logits


def _separable(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    return nn.Conv2d(inputs, inputs, 3, stride=2, padding=1, groups=inputs), nn.Conv2d(inputs, outputs, 1)


class BodyModule(nn.Module):
    """A graph: nodes without predecessors read its input, the outputs of nodes nobody reads are averaged."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(NodeModule(node) for node in body.nodes)
        self.sources = [node.sources for node in body.nodes]
        self.outputs = body.outputs
        self.size = body.size
        self.widen = nn.ModuleDict(
            {
                str(index): nn.Conv2d(body.nodes[index].out, body.out, 1)
                for index in body.outputs
                if body.nodes[index].out != body.out
            }
        )

    def forward(self, entering: Tensor) -> Tensor:
        """The average over the output nodes."""
        given: list[Tensor] = []
        for node, sources in zip(self.nodes, self.sources, strict=True):
            given.append(node([given[source] for source in sources] or [entering]))
        outputs = []
        for index in self.outputs:
            output = pooled(given[index], self.size)
            outputs.append(self.widen[str(index)](output) if str(index) in self.widen else output)
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)


class NodeModule(nn.Module):
    """Pool every input to the node's size, merge them, then an operation or a graph."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.size = node.size
        self.merge = MergeModule(node) if len(node.sources) > 1 else None
        self.body: nn.Module
        if isinstance(node.body, Body):
            self.body = BodyModule(node.body)
        elif node.body in POOLS:
            kernel = POOLS[node.body]
            self.body = nn.AvgPool2d(kernel, stride=1, padding=kernel // 2, count_include_pad=False)
        else:
            height, width = KERNELS[node.body]
            self.body = nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(node.width, node.out, (height, width), padding=(height // 2, width // 2)),
                nn.BatchNorm2d(node.out),
            )

    def forward(self, tensors: list[Tensor]) -> Tensor:
        """The node's output from the tensors of its sources."""
        tensors = [pooled(tensor, self.size) for tensor in tensors]
        output: Tensor = self.body(tensors[0] if self.merge is None else self.merge(tensors))
        return output


class MergeModule(nn.Module):
    """Several inputs into one (section 2.9); only used where there are at least two.

    sum: s = sum_i f_i(x_i) with f_i(x) = sigmoid(w_i) x, w_i = 1 at the start, where x_i has the merged width, and a
    1x1 convolution where it has not. concat: along the channels. attention: the first input makes a mask
    m = (f_0(x_0) - min) / (max - min), with the extrema of the whole batch as published, and
    s = sum_{i >= 1} f_i(x_i) gives sigmoid(w) s + s m.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.merge = node.merge
        narrower = [] if node.merge == "concat" else [r for r, width in enumerate(node.widths) if width != node.width]
        self.widen = nn.ModuleDict({str(rank): nn.Conv2d(node.widths[rank], node.width, 1) for rank in narrower})
        if node.merge == "concat":
            return
        scalars = sum(width == node.width for width in node.widths) + (node.merge == "attention")
        self.weights = nn.Parameter(torch.ones(scalars))
        self.ranks = {
            rank: position
            for position, rank in enumerate(rank for rank, width in enumerate(node.widths) if width == node.width)
        }

    def forward(self, tensors: list[Tensor]) -> Tensor:
        """The merged tensor."""
        if self.merge == "concat":
            return torch.cat(tensors, 1)
        gates = self.weights.sigmoid()
        parts = [
            gates[self.ranks[rank]] * tensor if rank in self.ranks else self.widen[str(rank)](tensor)
            for rank, tensor in enumerate(tensors)
        ]
        if self.merge == "sum":
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            return total
        low, high = parts[0].amin((0, 1, 2, 3)), parts[0].amax((0, 1, 2, 3))
        mask = (parts[0] - low) / (high - low).clamp_min(torch.finfo(parts[0].dtype).tiny)
        total = torch.stack(parts[1:]).sum(0)
        return gates[-1] * total + total * mask


def pooled(tensor: Tensor, size: tuple[int, int]) -> Tensor:
    """The tensor averaged down to `size` pixels (height, width)."""
    height, width = tensor.shape[-2:]
    if (height, width) == size:
        return tensor
    if height % size[0] == 0 and width % size[1] == 0:
        # Equal to adaptive pooling, and deterministic on CUDA, where the gradient of adaptive pooling is not.
        return F.avg_pool2d(tensor, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(tensor, size)
