"""What scores ask of a network: passes forward and backward, each made once, when the first score asks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, NamedTuple, Never

import torch
from torch import Tensor, nn

from nas_lib.randomness import seed_of
from nas_lib.scores.attention import Trace
from nas_lib.scores.batch import Batch, classes_of, last, loss_of
from nas_lib.scores.passes import NotApplicableError, Pass, Watch, forward_pass
from nas_lib.spaces.recurrent.network import RecurrentNetwork

Need = Literal[
    "size",
    "hidden states",
    "activations",
    "attention",
    "sequences",
    "graph",
    "input gradient",
    "loss gradient",
    "output gradient",
    "state gradient",
    "layer gradient",
    "second derivative",
    "sample gradients",
    "positive weights",
]
"""What a score is computed from."""
WITHOUT_GRAPH: frozenset[Need] = frozenset({"size", "hidden states", "activations", "attention", "sequences"})
BLOCK_BY_BLOCK: frozenset[Need] = frozenset({"activations", "state gradient", "layer gradient", "second derivative"})
"""Needs for which recurrent cells are run block by block."""


class Pulled(NamedTuple):
    """A tensor and the gradient of something with respect to it."""

    value: Tensor
    gradient: Tensor


class Probe:
    """One network in evaluation mode and one batch. Gradients that its parameters hold are left as they are.

    Args:
        needs: of all scores that will ask.
    """

    def __init__(self, network: nn.Module, batch: Batch, needs: frozenset[Need], seed: int = 0) -> None:
        self.network, self.batch, self.needs, self.seed = network, batch, needs, seed
        self.graph = not needs <= WITHOUT_GRAPH
        self.watch = Watch(codes="activations" in needs, maps="layer gradient" in needs)
        self.passed: Pass = forward_pass(network, batch.inputs, self.watch, slow=bool(needs & BLOCK_BY_BLOCK))
        self._noisy: dict[float, Tensor] = {}

    def weights(self) -> list[nn.Parameter]:
        """Parameters of two or more dimensions: matrices and kernels, no biases; shared ones once."""
        return [parameter for parameter in self.network.parameters() if parameter.dim() > 1]

    def traces(self) -> Sequence[Trace]:
        """What layers with attention show. Raises NotApplicableError."""
        return self.passed.traces() or self._none("layers with attention")

    def kernel(self) -> Tensor:
        """(n, n): bits of activation codes that two samples have in common. Raises NotApplicableError."""
        self.passed.outputs()
        return self._none("activation functions") if self.watch.kernel is None else self.watch.kernel

    def loss_weights(self) -> list[Pulled]:
        """Weights with gradients of the loss. Raises NotApplicableError."""
        return self._of_loss[0]

    def loss_layers(self) -> list[tuple[nn.Module, list[Pulled]]]:
        """Layers with weights, and their outputs (n, ...) of every call with gradients of the loss.

        Raises NotApplicableError.
        """
        return self._of_loss[1] or self._none("layers with weights")

    def loss_heads(self) -> list[Pulled]:
        """Per layer what its heads give, with gradients of the loss. Raises NotApplicableError."""
        self.traces()
        return self._of_loss[2]

    @cached_property
    def _of_loss(self) -> tuple[list[Pulled], list[tuple[nn.Module, list[Pulled]]], list[Pulled]]:
        if self.batch.targets is None:
            raise NotApplicableError("needs targets, and the batch has none")
        loss = loss_of(self.passed.outputs(), self.batch.targets, self.batch.lengths)
        weights, layers = self.weights(), self.watch.outputs
        maps = [output for outputs in layers.values() for output in outputs]
        heads = [trace.heads for trace in self.passed.traces()] if "attention" in self.needs else []
        pulled = iter(_pulled(loss, [*weights, *maps, *heads], differentiable="second derivative" in self.needs))
        return (
            [next(pulled) for _ in weights],
            [(module, [next(pulled) for _ in outputs]) for module, outputs in layers.items()],
            list(pulled),
        )

    def curvature(self) -> list[Pulled]:
        """Weights, and the Hessian of the loss times its gradient. Raises NotApplicableError."""
        weights = self.loss_weights()
        product = torch.stack([(each.gradient * each.gradient.detach()).sum() for each in weights]).sum()
        try:
            return _pulled(product, [each.value for each in weights])
        except RuntimeError as error:
            raise NotApplicableError(f"needs second derivatives: {str(error).splitlines()[0]}") from None

    @cached_property
    def squares(self) -> list[Pulled]:
        """Weights with gradients of half the sum of all squared features, which sends the features back themselves."""
        return _pulled(self.passed.features().square().sum() / 2, self.weights())

    def jacobian(self) -> Tensor:
        """Gradients of the sum of all features by what enters, one row per sample (n, ...).

        Raises NotApplicableError.
        """
        return self.passed.entrance.rows(self._of_features[0].gradient)

    def sequence(self) -> tuple[Tensor, Tensor]:
        """What enters (n, time, size) and the features at every position (n, time, size). Raises NotApplicableError."""
        features, entrance = self.passed.positions(), self.passed.entrance
        entered = entrance.positions(entrance.found())
        if entered.shape[:2] != features.shape[:2]:
            self._none("features at every position")
        return entered, features

    def last_jacobian(self) -> Tensor:
        """Gradients (n, time, size) of the summed features of the last position by what enters at each.

        Raises NotApplicableError.
        """
        _, features = self.sequence()
        if self.passed.traces():
            self._none("an answer at the last position")  # its last layer is normalised: the sum is a constant
        entrance = self.passed.entrance
        return entrance.positions(_pulled(features[:, -1].sum(), [entrance.found()])[0].gradient)

    def states(self) -> list[Pulled]:
        """Recurrent states of all steps and layers with gradients of the sum of all features.

        Raises NotApplicableError.
        """
        return self._of_features[1:] or self._none("recurrent states")

    @cached_property
    def _of_features(self) -> list[Pulled]:
        features = self.passed.features()
        states = self.passed.states() if "state gradient" in self.needs else []
        return _pulled(features.sum(), [self.passed.entrance.found(), *states])

    def noisy_jacobian(self, amount: float) -> Tensor:
        """Like `jacobian`, at inputs plus `amount` times their variance over the batch times normal noise."""
        if amount not in self._noisy:
            self._noisy[amount] = self._at_noise(amount)
        return self._noisy[amount]

    def _at_noise(self, amount: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "noise", str(amount)))

        def enter(values: Tensor, axis: int) -> Tensor:
            noise = torch.randn(values.shape, generator=generator).to(values)
            return values + amount * values.var(axis, keepdim=True) * noise

        passed = forward_pass(self.network, self.batch.inputs, Watch(), slow=False, enter=enter)
        features = passed.features()
        return passed.entrance.rows(_pulled(features.sum(), [passed.entrance.found()])[0].gradient)

    def positive(self) -> list[Pulled]:
        """Absolute weights, and gradients of the sum of the outputs they give for inputs of ones.

        In float64; batch normalisation is passed by.
        """
        network = copy.deepcopy(self.network).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.abs_()
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    _pass_by(module)
        inputs = self.batch.inputs[:1]
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        passed = forward_pass(network, inputs, Watch(), slow=False, enter=_ones)
        weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
        return _pulled(passed.outputs().sum(), weights)

    def sample_kernel(self) -> Tensor:
        """Products (n, n) of the gradients of samples: of the sum of the outputs of one, by all parameters."""
        parameters, rows = list(self.network.parameters()), []
        for index in range(len(self.batch)):
            one = self.batch.one(index)
            outputs = last(forward_pass(self.network, one.inputs, Watch(), slow=False).outputs(), one.lengths)
            rows.append(torch.cat([each.gradient.flatten() for each in _pulled(outputs.sum(), parameters)]))
        gradients = torch.stack(rows)
        return gradients @ gradients.T

    def classes(self) -> Tensor:
        """One class per sample (n,). Raises NotApplicableError."""
        found = classes_of(self.batch)
        if found is None:
            raise NotApplicableError("needs classes as targets, and the batch has none")
        return found

    def _none(self, what: str) -> Never:
        raise NotApplicableError(f"needs {what}, and {type(self.network).__name__} shows none")


def _ones(values: Tensor, axis: int) -> Tensor:
    return torch.ones_like(values)


def _pass_by(norm: Any) -> None:
    """Make a batch normalisation the identity."""
    for tensor, value in ((norm.running_mean, 0), (norm.running_var, 1 - norm.eps), (norm.weight, 1), (norm.bias, 0)):
        if tensor is not None:
            tensor.fill_(value)


def _pulled(of: Tensor, values: Sequence[Tensor], *, differentiable: bool = False) -> list[Pulled]:
    """Values with gradients; zeros where nothing depends on them."""
    gradients = torch.autograd.grad(of, list(values), retain_graph=True, create_graph=differentiable, allow_unused=True)
    return [
        Pulled(value, torch.zeros_like(value) if gradient is None else gradient)
        for value, gradient in zip(values, gradients, strict=True)
    ]


def probes(network: nn.Module, batch: Batch, needs: Mapping[str, frozenset[Need]], seed: int = 0) -> dict[str, Probe]:
    """Per name the probe to ask: one for all, of recurrent networks one more for what is run block by block.

    Args:
        needs: of each name.
    """
    slow = {name for name, own in needs.items() if own & BLOCK_BY_BLOCK}
    groups = [slow, needs.keys() - slow] if isinstance(network, RecurrentNetwork) else [needs.keys()]
    found: dict[str, Probe] = {}
    for group in groups:
        probe = Probe(network, batch, frozenset(need for name in group for need in needs[name]), seed)
        found |= dict.fromkeys(group, probe)
    return {name: found[name] for name in needs}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In evaluation mode, all parameters with gradients; afterwards as before."""
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        network.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(True)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)
