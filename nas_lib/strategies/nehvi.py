"""Multi-objective Bayesian optimisation: the point of the largest expected gain in hypervolume comes next.

The acquisition function is BoTorch's qLogNoisyExpectedHypervolumeImprovement (Daulton, Balandat, Bakshy 2021, NeurIPS;
its logarithm Ament et al. 2023, NeurIPS). A batch is chosen point by point, with those chosen and those under way as
pending points.

- Each figure is a Gaussian process (`surrogate`) of its logarithm where that is less skewed, else of itself;
  hypervolume is that of the figures themselves, as the platform measures it.
- A constraint on a figure holds where its process is below the limit; a figure that is objective and limited has one
  process.
- Failed candidates tell the figures' processes nothing. Once there is one, a process of the failures (1 failed, -1 did
  not: least-squares classification, Rasmussen and Williams 2006, section 6.5) gives the probability of success, with
  which the expected gain is multiplied.
- While nothing is feasible the probability of feasibility alone decides (Gardner et al. 2014, ICML).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from nas_lib import pareto
from nas_lib.randomness import single_thread
from nas_lib.strategies.bayesian import (
    Array,
    Initial,
    among,
    around,
    best_points,
    canonical_points,
    initial_design,
    objective_values,
)
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import StrategyBase
from nas_lib.strategies.surrogate import LEAST_NOISE, Draws, Surrogate, by_point, learn

if TYPE_CHECKING:
    from botorch.acquisition.acquisition import AcquisitionFunction
    from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
    from botorch.models import SingleTaskGP
    from torch import Tensor

SAMPLES = 16
"""Quasi-Monte-Carlo samples of the acquisition function."""
PRUNING_SAMPLES = 64
"""Samples in one of which an evaluated point must be on the front to count for it."""
RANDOM, NEAR = 128, 128
"""Points the acquisition function is first computed at: anywhere, and around the front."""
ASCENTS, ITERATIONS = 4, 15
"""Points from which it is climbed, and steps of each climb."""
STEPS = (0.1, 0.03)
"""Standard deviations of the last search, around the tops, in units of the coordinates."""
NEIGHBOURS = 8
"""Points around each top at each of these steps."""
STEP_LENGTH = 0.5
"""Shortest length scale of the process of failures: the step at the edge of a region would pull it to 0, and a little
way from the failures nothing would be known of them."""
UNKNOWN = 1e6
"""Noise variance of a value that is not known: as good as left out."""


class NEHVI(StrategyBase):
    """Gaussian processes and noisy expected hypervolume improvement, for two or more objectives."""

    name: Literal["nehvi"] = "nehvi"
    initial: Initial = None

    needs: ClassVar[frozenset[str]] = frozenset({"sample", "encode"})
    objectives: ClassVar[tuple[int, int | None]] = (2, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial design, then for each slot the point of the largest expected hypervolume improvement."""
        suggestions = initial_design(request, self.initial)
        if len(suggestions) < request.count:
            with _one_thread(int(request.rng("torch", request.round).integers(2**31))):
                suggestions += _improvements(request, suggestions)
        return suggestions


@contextmanager
def _one_thread(seed: int) -> Iterator[None]:
    """One thread, and torch's random numbers from a seed; both as before afterwards. Warnings are not shown.

    More threads only burn CPU time on matrices this small, and sums split among them could differ in their last bits.
    """
    import torch
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing it warns of what it uses of PyTorch
        from botorch.acquisition.multi_objective import logei
    # BoTorch would compile an extension for this very processor, at first use and if it finds a compiler: a minute,
    # and other results than elsewhere.
    logei._load_attempted = True
    with single_thread(), torch.random.fork_rng(devices=[]), threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Scale:
    """How a figure is brought to mean 0 and variance 1."""

    logarithmic: bool
    mean: float
    deviation: float

    def standardised(self, values: Array) -> Array:
        """Figures as the processes see them."""
        values = np.log(np.maximum(values, np.finfo(float).tiny)) if self.logarithmic else values
        return np.asarray((values - self.mean) / self.deviation)

    def figures(self, samples: Tensor) -> Tensor:
        """Samples of a process as figures."""
        samples = samples * self.deviation + self.mean
        return samples.exp() if self.logarithmic else samples


def scale_of(values: Array) -> Scale:
    """The scale of finite values (n,): their logarithm if all are positive and it is less skewed than they are.

    So parameters over orders of magnitude are learnt as logarithms, and an objective that merely comes near 0 is not.
    """
    from scipy.stats import skew

    logarithmic = bool(0 < values.min() < values.max() and abs(skew(np.log(values))) < abs(skew(values)))
    values = np.log(values) if logarithmic else values
    return Scale(logarithmic, float(values.mean()), float(values.std()) or 1.0)


@dataclass(frozen=True)
class Limit:
    """What an output of the model has to stay below, as a standardised value."""

    column: int
    top: float


@dataclass(frozen=True)
class Problem:
    """What is known and sought, as BoTorch wants it: everything is maximised, and a constraint holds below 0."""

    model: SingleTaskGP
    """One output per figure, and one for failures if there are any."""
    objective: GenericMCMultiOutputObjective
    reference: Tensor
    """Of the objectives in units of the box, shape (m,)."""
    limits: list[Limit]
    """Of the figures."""
    success: list[Limit]
    """Of the process of the failures, if there is one."""
    succeeded: Array
    """Distinct points (n, d) at which an evaluation succeeded."""
    any_feasible: bool

    @property
    def constraints(self) -> list[Callable[[Tensor], Tensor]] | None:
        """The limits as BoTorch wants them."""
        return [partial(_excess, limit=limit) for limit in self.limits] or None

    def log_probability(self, points: Tensor, limits: Sequence[Limit]) -> Tensor:
        """The logarithm of the probability (b,) that limits hold at points (b, 1, d)."""
        import torch

        posterior = self.model.posterior(points)
        chosen = [limit.column for limit in limits]
        tops = torch.tensor([limit.top for limit in limits]).double()
        below = (tops - posterior.mean[:, 0, chosen]) / posterior.variance[:, 0, chosen].sqrt()
        result: Tensor = torch.special.log_ndtr(below).sum(dim=-1)
        return result


def _improvements(request: Request, started: Sequence[Suggestion]) -> list[Suggestion]:
    """Suggestions for the slots that the initial design left."""
    observed = canonical_points(request, [evaluation.proposal.genotype for evaluation in request.history])
    under_way = canonical_points(
        request,
        [*(proposal.genotype for proposal in request.pending), *(suggestion.genotype for suggestion in started)],
    )
    problem = _problem(request, observed)
    baseline = _baseline(problem)
    suggestions = []
    for slot in range(len(started), request.count):
        rng = request.rng("acquisition", request.round, slot)
        point = _most_promising(problem, baseline, observed, under_way, request.space.canonical, rng)
        genotype = request.space.decode(point, request.rng("draw", request.round, slot))
        suggestions.append(Suggestion(genotype, origin="hypervolume improvement"))
        under_way = np.vstack([under_way, canonical_points(request, [genotype])])
    return suggestions


def _problem(request: Request, observed: Array) -> Problem:
    """The processes of all figures, and what is sought, from the points (n, d) of the history."""
    import torch
    from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective

    figures = _figures(request)
    ok = np.asarray(np.isfinite(np.column_stack(list(figures.values()))).all(axis=1))
    scales = {name: scale_of(values[ok]) for name, values in figures.items()}
    surrogates = [learn(observed[ok], scales[name].standardised(values[ok])) for name, values in figures.items()]
    limits = [
        Limit(list(figures).index(name), float(scales[name].standardised(np.array(limit))))
        for name, limit in request.limits.items()
    ]
    outcomes = np.where(ok, -1.0, 1.0)
    success = []
    if not ok.all():
        scale = Scale(logarithmic=False, mean=float(outcomes.mean()), deviation=float(outcomes.std()))
        surrogates.append(learn(observed, scale.standardised(outcomes), heteroscedastic=False, shortest=STEP_LENGTH))
        success = [Limit(len(surrogates) - 1, float(scale.standardised(np.zeros(()))))]
    box = _box(request, ok)
    extent = np.where(box.reference > box.ideal, box.reference - box.ideal, 1.0)

    def objective(samples: Tensor, X: Tensor | None = None) -> Tensor:  # noqa: N803 - BoTorch passes it by this name
        columns = [scales[name].figures(samples[..., column]) for column, name in enumerate(request.objectives)]
        return (torch.from_numpy(box.ideal) - torch.stack(columns, dim=-1)) / torch.from_numpy(extent)

    return Problem(
        model=_model(by_point(observed, outcomes), surrogates),
        objective=GenericMCMultiOutputObjective(objective),
        reference=torch.from_numpy((box.ideal - box.reference) / extent),
        limits=limits,
        success=success,
        succeeded=surrogates[0].process.points,
        any_feasible=any(one.feasible and finite for one, finite in zip(request.history, ok, strict=True)),
    )


def _figures(request: Request) -> dict[str, Array]:
    """The values (n,) of the objectives and of what is limited beside them; NaN where an evaluation failed."""
    figures = dict(zip(request.objectives, objective_values(request.history, request.objectives).T, strict=True))
    for name, limit in request.limits.items():
        excesses = [evaluation.constraints[name] if evaluation.ok else np.nan for evaluation in request.history]
        figures.setdefault(name, np.array(excesses) + limit)
    return figures


def _box(request: Request, ok: NDArray[np.bool_]) -> pareto.Scale:
    """The box in which hypervolume is sought. At least one evaluation must be ok.

    A reference that is not configured lies a tenth of the range beyond the worst value on the front, not beyond the
    worst of all (as where searches are compared): every bad point that was tried would move it, until the ends of the
    front are all that counts. Beyond the worst of all where the front has no extent yet, so that what is as good counts
    too. While nothing is feasible the box is that of the infeasible candidates.
    """
    history = [evaluation for evaluation, finite in zip(request.history, ok, strict=True) if finite]
    names, references = request.objectives, request.references or [None] * len(request.objectives)
    members = pareto.front(history, names)
    if len(members) > 1 and (np.ptp(pareto.objective_matrix(members, names), axis=0) > 0).all():
        history = members
    elif not members:
        history = [evaluation.model_copy(update={"constraints": {}}) for evaluation in history]
    box = pareto.scale_of([history], names, references)
    if box is None:
        raise ValueError("nothing succeeded")
    return box


def _excess(samples: Tensor, limit: Limit) -> Tensor:
    return samples[..., limit.column] - limit.top


def _model(outcomes: Draws, surrogates: Sequence[Surrogate]) -> SingleTaskGP:
    """The surrogates as one model, on the distinct points of all evaluations.

    Where a surrogate has no value, as that of a figure at a point where every draw failed, it gets one with so much
    noise that it says nothing. `outcomes` is 1 at those points.
    """
    import torch
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import RBFKernel
    from gpytorch.means import ConstantMean

    shape = (len(outcomes.points), len(surrogates))
    values, noise = np.zeros(shape), np.full(shape, UNKNOWN)
    for column, surrogate in enumerate(surrogates):
        process = surrogate.process
        known = outcomes.means < 1 if len(process.points) < shape[0] else np.ones(shape[0], dtype=bool)
        values[known, column] = process.values
        noise[known, column] = np.maximum(process.noise, LEAST_NOISE)
    kernel = RBFKernel(ard_num_dims=outcomes.points.shape[1], batch_shape=torch.Size([len(surrogates)])).double()
    mean = ConstantMean(batch_shape=torch.Size([len(surrogates)])).double()
    mean.constant = torch.tensor([surrogate.process.mean for surrogate in surrogates]).double()
    kernel.lengthscale = torch.from_numpy(np.stack([surrogate.process.lengths for surrogate in surrogates])[:, None])
    points, targets, variances = (torch.from_numpy(array) for array in (outcomes.points, values, noise))
    model = SingleTaskGP(points, targets, variances, covar_module=kernel, mean_module=mean, outcome_transform=None)
    model.eval()
    return model


def _baseline(problem: Problem) -> Array:
    """The evaluated points (n, d) that may be on the front; the likeliest to be feasible where none may."""
    import torch
    from botorch.acquisition.multi_objective.utils import prune_inferior_points_multi_objective

    points = torch.from_numpy(problem.succeeded)
    with torch.no_grad():
        pruned = prune_inferior_points_multi_objective(
            problem.model,
            points,
            problem.reference,
            objective=problem.objective,
            constraints=problem.constraints,
            num_samples=PRUNING_SAMPLES,
        )
        if not len(pruned):
            probability = problem.log_probability(points[:, None], [*problem.limits, *problem.success])
            pruned = points[probability.argmax()][None]
    return np.asarray(pruned.numpy())


def _most_promising(
    problem: Problem,
    baseline: Array,
    observed: Array,
    under_way: Array,
    canonical: Callable[[Array], Array],
    rng: np.random.Generator,
) -> Array:
    """The canonical point (d,) of the largest expected gain in hypervolume.

    Random points and neighbours of the front, then a climb along the gradient from the best of them as if all
    coordinates were continuous, then neighbours of the tops; all are compared as the canonical points they snap to.
    """
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.generation.gen import gen_candidates_scipy
    from botorch.sampling.normal import SobolQMCNormalSampler

    pending = np.unique(under_way, axis=0)
    pending = pending[~among(pending, baseline)]
    improvement = qLogNoisyExpectedHypervolumeImprovement(
        problem.model,
        problem.reference,
        torch.from_numpy(baseline),
        sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=int(rng.integers(2**31))),
        objective=problem.objective,
        constraints=problem.constraints,
        X_pending=torch.from_numpy(pending) if len(pending) else None,
    )

    def acquisition(points: Tensor) -> Tensor:
        if not problem.any_feasible:
            return problem.log_probability(points, [*problem.limits, *problem.success])
        value: Tensor = improvement(points)
        return value + problem.log_probability(points, problem.success) if problem.success else value

    def gain(points: Array) -> Array:
        with torch.no_grad():
            return np.asarray(acquisition(torch.from_numpy(points)[:, None]).numpy())

    def best_of(*candidates: Array) -> Array:
        return best_points(np.vstack(candidates), gain, canonical, observed, under_way, ASCENTS)

    centres = baseline[rng.integers(len(baseline), size=NEAR)]
    best = best_of(rng.random((RANDOM, observed.shape[1])), around(centres, 1, STEPS[0], rng))
    tops, _ = gen_candidates_scipy(
        torch.from_numpy(best)[:, None],
        cast("AcquisitionFunction", acquisition),
        0.0,
        1.0,
        options={"maxiter": ITERATIONS},
    )
    best = best_of(best, tops[:, 0].detach().numpy())
    for step in STEPS:
        best = best_of(best, around(best, NEIGHBOURS, step, rng))
    return np.asarray(best[0])
