"""All scores by name. The more a score says of a network, the better: higher is better, as its authors claim.

Formulas: w are weights, parameters of two or more dimensions (no biases), shared ones once; L the mean loss of the
batch; y the features, what the last layer of a recurrent network gives before the decoder, the outputs of all others
(what the last layer of an encoder gives is normalised, so its sum is a constant); x what enters, images, vectors or
embedded symbols.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nas_lib.scores import sizes
from nas_lib.scores.formulas import (
    FADING,
    SKIPPED,
    alignment,
    cosine_score,
    covariance_score,
    fading_score,
    log_determinant,
    recall_score,
)
from nas_lib.scores.passes import NotApplicableError
from nas_lib.scores.probe import Need, Probe, Pulled


@dataclass(frozen=True)
class Score:
    """One number about a network without training; higher is better."""

    name: str
    title: str
    """For people."""
    compute: Callable[[Probe], float]
    """May raise NotApplicableError."""
    needs: frozenset[Need]
    networks: str = "any"
    """What it applies to."""

    @property
    def formula(self) -> str:
        """Formula and source."""
        function = self.compute.func if isinstance(self.compute, partial) else self.compute
        return " ".join((inspect.getdoc(function) or "").split())


def hidden_covariance(probe: Probe, layer: int) -> float:
    """- sum_i [ln(l_i + k) + 1 / (l_i + k)], l_i the eigenvalues of the correlation matrix (units, units) of a layer's
    hidden state over all samples and steps, k = 1e-5; the state as steps read it: zeros at first, never the last. The
    output of a traced layer at all positions. About -1e5 for each dimension that the state does not use (Serianni and
    Kalita 2023, arXiv 2306.00288)."""
    return covariance_score(probe.passed.hidden(layer))


def jacobian_covariance(probe: Probe) -> float:
    """The formula of hidden covariance, of the correlation matrix (samples, samples) of d sum(y) / dx (Mellor et al.
    2021, arXiv 2006.04647, first version)."""
    return covariance_score(probe.jacobian())


def jacobian_cosine(probe: Probe) -> float:
    """1 - sum_{i != j} abs(cos(J_i, J_j))^(1/20) / 2 / (n^2 - n) of the rows of J = d sum(y) / dx, from .5 to 1
    (as in Serianni and Kalita 2023)."""
    return cosine_score(probe.jacobian())


def noise_jacobian(probe: Probe, formula: Callable[[Tensor], float], amount: float) -> float:
    """1 - abs(s(J) - s(J_a)): s the covariance or the cosine score, J_a taken at x plus `amount` times the variance of
    x over the batch times normal noise (Serianni and Kalita 2023)."""
    return 1 - abs(formula(probe.jacobian()) - formula(probe.noisy_jacobian(amount)))


def more_noised_jacobian(probe: Probe, formula: Callable[[Tensor], float]) -> float:
    """s(J) s(J_0.1) s(J_10) s(J_100), see the noise Jacobian (Serianni and Kalita 2023)."""
    product = formula(probe.jacobian())
    for amount in (0.1, 10.0, 100.0):
        product *= formula(probe.noisy_jacobian(amount))
    return product


def activation_distance(probe: Probe) -> float:
    """ln det sum [c c' + (1 - c)(1 - c)'], c the binary codes (samples, units) of all activation functions, layers and
    steps: 1 where the input of the function is positive; so for sigmoid too, whose output always is (Mellor et al.
    2021, NASWOT, arXiv 2006.04647). One pass; gates without a batch dimension and softmax do not count."""
    return log_determinant(probe.kernel())


def synflow(probe: Probe) -> float:
    """sum abs(w dR/dw), R the sum of all outputs for inputs of ones with all parameters replaced by their absolute
    values, in float64; batch normalisation is passed by, layer normalisation is not (Tanaka et al. 2020, arXiv
    2006.05467)."""
    return _total((each.value * each.gradient).abs() for each in probe.positive())


def synaptic_saliency(probe: Probe) -> float:
    """sum abs(w dw), dw the gradient when the features y are sent back themselves, that is of sum(y^2) / 2 (Serianni
    and Kalita 2023, who left out the matrices of first inputs; here all count)."""
    return _total((each.value * each.gradient).abs() for each in probe.squares)


def hidden_saliency(probe: Probe) -> float:
    """sum abs(h d sum(y) / dh) over the recurrent states h of all steps and layers (Serianni and Kalita 2023)."""
    return _total((each.value * each.gradient).abs() for each in probe.states())


def snip(probe: Probe) -> float:
    """sum abs(w dL/dw) (Lee et al. 2019, arXiv 1810.02340; as a score: Abdelfattah et al. 2021, arXiv 2101.08134)."""
    return _total((each.value * each.gradient).abs() for each in probe.loss_weights())


def plain(probe: Probe) -> float:
    """sum w dL/dw (Abdelfattah et al. 2021)."""
    return _total(each.value * each.gradient for each in probe.loss_weights())


def gradient_norm(probe: Probe) -> float:
    """Sum of the Euclidean norms of dL/dw of each matrix (Abdelfattah et al. 2021)."""
    return _total(each.gradient.norm() for each in probe.loss_weights())


def grasp(probe: Probe) -> float:
    """- sum w (H dL/dw), H the Hessian of L (Wang et al. 2020, arXiv 2002.07376; sign as Abdelfattah et al. 2021)."""
    return -_total(each.value * each.gradient for each in probe.curvature())


def fisher(probe: Probe) -> float:
    """sum over channels 1/2 mean over samples (sum over pixels or steps of a dL/da)^2, a the outputs of layers with
    weights, of recurrent networks those in cells (Turner et al. 2020, arXiv 1906.04113; Abdelfattah et al. 2021)."""
    return _total(_fisher(module, calls) for module, calls in probe.loss_layers())


def _fisher(layer: nn.Module, calls: list[Pulled]) -> Tensor:
    pulls = []
    for value, gradient in calls:
        product = value * gradient if isinstance(layer, nn.Linear) else (value * gradient).movedim(1, -1)
        pulls.append(product.flatten(1, -2).sum(1) if product.dim() > 2 else product)
    return 0.5 * torch.stack(pulls).sum(0).square().mean(0).sum()


def label_gradient_alignment(probe: Probe) -> float:
    """Correlation over all entries between J J', J the gradients of each sample's summed outputs by all parameters, and
    L, 1 for samples of one class and -1 for others; of sequences the last step counts. -1 to 1 (Mok et al. 2022, LGA,
    arXiv 2203.14577, who take it after some epochs of training)."""
    classes = probe.classes()
    if len(set(classes.tolist())) < 2:
        raise NotApplicableError("needs samples of two classes or more, and the batch has one")
    return alignment(probe.sample_kernel(), classes)


def recall(probe: Probe) -> float:
    """sum_{k=0..3} ln(max(R2_k, 0) + 0.01), R2_k the share of the variance of x k positions earlier that a ridge
    regression on y at a position, fitted to two thirds of the samples, explains in the others. A network that is to
    make something of a sequence must have the last inputs at hand, not the present one alone: the memory capacity of
    Jaeger 2001 (GMD Report 152), made a score here. y of an encoder is what its last layer gives. Padding counts as
    input."""
    entered, features = probe.sequence()
    if entered.shape[1] <= SKIPPED or len(entered) < 3:
        raise NotApplicableError(f"needs 3 sequences or more, of more than {SKIPPED} positions")
    return recall_score(entered, features)


def gradient_memory(probe: Probe) -> float:
    """- abs(g_5 - g_0), g_k the mean over samples of ln norm(d sum(y at the last position) / dx k positions before):
    how far from even the last five inputs weigh. -inf where the last output does not depend on the last input, so that
    the network answers late. The vanishing and exploding of Bengio, Simard and Frasconi 1994, made a score here."""
    if (found := probe.last_jacobian()).shape[1] <= FADING:
        raise NotApplicableError(f"needs sequences of more than {FADING} positions")
    return fading_score(found)


def head_importance(probe: Probe) -> float:
    """Sum over heads of the mean over samples of abs(A' dL/dA), A what a head gives (Michel et al. 2019, arXiv
    1905.10650)."""
    return _total((each.value * each.gradient).sum((-1, -2)).abs().mean(0) for each in probe.loss_heads())


def head_confidence(probe: Probe) -> float:
    """Sum over heads of the largest value over tokens of what a head gives, mean over samples and features
    (attention confidence, Serianni and Kalita 2023)."""
    return _total(trace.heads.amax(-2).mean((0, -1)) for trace in probe.traces())


def softmax_confidence(probe: Probe) -> float:
    """Sum over heads of the largest probability with which a token attends to another, mean over samples and tokens
    (Voita et al. 2019, arXiv 1905.09418; the maximum is over tokens, not heads as in the published figures)."""
    found = [trace.attention for trace in probe.traces()]
    if all(each is None for each in found):
        raise NotApplicableError("needs attention probabilities, and no layer attends")
    return _total(each.amax(-1).mean((0, -1)) for each in found if each is not None)


def synaptic_diversity(probe: Probe) -> float:
    """Sum over the matrices of the operation block of the nuclear norm of w times that of dL/dw (Zhou et al. 2022,
    DSS, arXiv 2203.12217)."""
    probe.traces()
    layers = probe.network.encoder_layers()  # type: ignore[operator]
    matrices = {id(linear.weight) for layer in layers for linear in layer.operation_linears()}
    pulled = [each for each in probe.loss_weights() if id(each.value) in matrices]
    if not all(each.gradient.isfinite().all() for each in pulled):
        return float("nan")
    return _total(_nuclear(each.value) * _nuclear(each.gradient) for each in pulled)


def _nuclear(matrix: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.matrix_norm(matrix.double(), "nuc")
    return norm


def _total(parts: Iterable[Tensor]) -> float:
    return sum(float(part.detach().sum(dtype=torch.float64)) for part in parts)


def _score(
    name: str, title: str, compute: Callable[[Probe], float], *needs: Need, networks: str = "any"
) -> tuple[str, Score]:
    return name, Score(name, title, compute, frozenset(needs), networks)


HIDDEN = "recurrent networks, and those that trace their layers"
SEQUENCES = "networks of sequences that show features at every position"
ATTENTION = "networks that trace their layers"
FORMULAS = (("", "covariance", covariance_score), ("_cosine", "cosine", cosine_score))
SCORES: Mapping[str, Score] = dict(
    (
        *(
            _score(
                f"hidden_covariance_{layer + 1 if layer >= 0 else 'last'}",
                f"Hidden covariance, {f'layer {layer + 1}' if layer >= 0 else 'last layer'}",
                partial(hidden_covariance, layer=layer),
                "hidden states",
                networks=HIDDEN,
            )
            for layer in (0, 1, 2, -1)
        ),
        _score("jacobian_covariance", "Jacobian covariance", jacobian_covariance, "input gradient"),
        _score("jacobian_cosine", "Jacobian cosine", jacobian_cosine, "input gradient"),
        _score("recall", "Recall of the last inputs", recall, "sequences", networks=SEQUENCES),
        _score(
            "gradient_memory", "Gradient memory", gradient_memory, "sequences", "input gradient", networks=SEQUENCES
        ),
        *(
            _score(
                f"{noise}_noise_jacobian{suffix}",
                f"{noise.capitalize()} noise Jacobian, {kind}",
                partial(noise_jacobian, formula=formula, amount=amount),
                "input gradient",
            )
            for noise, amount in (("small", 0.1), ("large", 10.0))
            for suffix, kind, formula in FORMULAS
        ),
        *(
            _score(
                f"more_noised_jacobian{suffix}",
                f"More noised Jacobian, {kind}",
                partial(more_noised_jacobian, formula=formula),
                "input gradient",
            )
            for suffix, kind, formula in FORMULAS
        ),
        _score("activation_distance", "Activation distance (NASWOT)", activation_distance, "activations"),
        _score("synflow", "SynFlow", synflow, "positive weights"),
        _score("synaptic_saliency", "Synaptic saliency", synaptic_saliency, "output gradient"),
        _score("hidden_saliency", "Hidden saliency", hidden_saliency, "state gradient", networks="recurrent networks"),
        _score("snip", "SNIP", snip, "loss gradient"),
        _score("grasp", "GraSP", grasp, "loss gradient", "second derivative"),
        _score("fisher", "Fisher", fisher, "loss gradient", "layer gradient"),
        _score("gradient_norm", "Gradient norm", gradient_norm, "loss gradient"),
        _score("plain", "Plain", plain, "loss gradient"),
        _score("lga", "Label-gradient alignment (LGA)", label_gradient_alignment, "sample gradients"),
        _score("head_importance", "Head importance", head_importance, "attention", "loss gradient", networks=ATTENTION),
        _score("head_confidence", "Head confidence", head_confidence, "attention", networks=ATTENTION),
        _score("softmax_confidence", "Softmax confidence", softmax_confidence, "attention", networks=ATTENTION),
        _score("synaptic_diversity", "Synaptic diversity", synaptic_diversity, "loss gradient", networks=ATTENTION),
        _score("parameters", "Parameters", sizes.parameters, "size"),
        _score("flops", "FLOPs", sizes.flops, "size"),
        _score("depth", "Depth", sizes.depth, "graph"),
        _score("width", "Width", sizes.width, "size"),
        _score("depth_x_width", "Depth x width", sizes.area, "graph"),
        _score("nodes", "Nodes", sizes.nodes, "size"),
    )
)
"""Name -> score."""
