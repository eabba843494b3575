"""TPE by Optuna: the study is the history, and nothing of it is shown or kept."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import moocore
import numpy as np
import pytest

from nas_lib.configuration import ConfigurationError
from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget, parse
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell, Grid
from nas_lib.randomness import generator
from nas_lib.records import Cost, Evaluation, Proposal
from nas_lib.spaces import Space
from nas_lib.spaces.genes import Condition, Gene, GeneSpace
from nas_lib.strategies import tpe
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Plan, Request
from nas_lib.strategies.tpe import TPE

optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed")
BUDGET = LaboratoryBudget(evaluations=60, batch=10)


def depth_space() -> GeneSpace:
    """The second block has an effect with depth 2 alone."""
    deep = Condition(gene="depth", options=(2,))
    return GeneSpace(
        "chain",
        (
            Gene(name="depth", options=(1, 2)),
            Gene(name="first", options=("a", "b", "c")),
            Gene(name="second", options=("a", "b", "c"), active=deep),
        ),
    )


def request_of(space: GeneSpace, values: Callable[[int], dict[str, float] | None], count: int = 4) -> Request:
    """A request after eight evaluations; `values` gives the objectives of each, None where it failed."""
    history = []
    for slot, row in enumerate(space.listed[:8] if space.listed is not None else ()):
        objectives = values(slot)
        proposal = Proposal(
            round=0, slot=slot, genotype=space.genotype(row), hash=str(slot), epochs=1, origin="initial", full=True
        )
        facts: dict[str, Any] = {"status": "ok"} if objectives else {"status": "failed", "reason": "out of memory"}
        history.append(Evaluation(proposal=proposal, objectives=objectives or {}, cost=Cost(), **facts))
    names = list(next(filter(None, map(values, range(8)))))
    plan = Plan(rounds=4, proposals=count, lag=1, epochs=1)
    return Request(
        space=cast(Space, space),
        objectives=names,
        history=history,
        pending=(),
        round=1,
        count=count,
        plan=plan,
        rng=partial(generator, 1),
    )


def test_it_is_what_optuna_uses_when_no_sampler_is_named() -> None:
    default: Any = optuna.create_study(directions=["minimize", "minimize"]).sampler
    request = request_of(depth_space(), lambda slot: {"error": slot, "cost": -slot})
    ours: Any = tpe._study(request, [], TPE().multivariate, seed=1).sampler
    hidden = ("_rng", "_random_sampler", "_search_space", "_parzen_estimator_parameters")

    def settings(sampler: Any) -> dict[str, Any]:
        return {key: value for key, value in vars(sampler).items() if key not in hidden}

    assert type(ours) is type(default)
    assert settings(ours) == settings(default)
    assert ours._parzen_estimator_parameters == default._parzen_estimator_parameters


def test_genes_without_effect_are_no_parameters_of_a_trial() -> None:
    request = request_of(depth_space(), lambda slot: {"error": slot, "cost": -slot})
    trials = tpe._study(request, [], None, seed=1).get_trials()
    assert [set(trial.params) for trial in trials] == [{"depth", "first"}] * 3 + [{"depth", "first", "second"}] * 5
    assert isinstance(trials[0].distributions["depth"], optuna.distributions.IntDistribution)
    assert isinstance(trials[0].distributions["first"], optuna.distributions.CategoricalDistribution)


def test_failed_evaluations_are_failed_trials_and_are_not_proposed_again() -> None:
    space = depth_space()
    request = request_of(space, lambda slot: None if slot == 2 else {"error": slot, "cost": -slot})
    trials = tpe._study(request, [], None, seed=1).get_trials()
    assert [trial.number for trial in trials if trial.state == optuna.trial.TrialState.FAIL] == [2]
    proposed = TPE(initial=2).propose(request)
    known = space.keys(space.numbers([evaluation.proposal.genotype for evaluation in request.history]))
    assert len(proposed) == 4
    assert not set(known) & set(space.keys(space.numbers([suggestion.genotype for suggestion in proposed])))


def test_constraints_are_told() -> None:
    request = request_of(depth_space(), lambda slot: {"error": slot, "cost": -slot})
    exceeded = [evaluation.model_copy(update={"constraints": {"cost": 2.0}}) for evaluation in request.history]
    trials = tpe._study(replace(request, history=exceeded), [], None, seed=1).get_trials()
    assert [trial.constraints for trial in trials] == [{"cost": 2.0}] * 8


@pytest.mark.parametrize("multivariate", [None, True])
@pytest.mark.parametrize("objectives", [("error",), ("error", "cost")])
def test_one_and_several_objectives(objectives: tuple[str, ...], multivariate: bool | None) -> None:
    request = request_of(depth_space(), lambda slot: dict.fromkeys(objectives, float(slot)))
    assert len(TPE(initial=2, multivariate=multivariate).propose(request)) == 4


def test_a_search_spends_its_budget_on_different_architectures_and_can_be_repeated() -> None:
    cell = Cell(genes=6, options=3).problem()
    history, _ = search(cell, TPE(), 3, BUDGET)
    new = [evaluation for evaluation in history if evaluation.proposal.duplicate_of is None]
    keys = cell.space.keys(cell.space.numbers([evaluation.proposal.genotype for evaluation in new]))
    assert len(set(keys)) == len(keys) == BUDGET.evaluations
    assert {each.proposal.origin for each in history if each.proposal.duplicate_of is not None} <= {"initial"}
    again, _ = search(cell, TPE(), 3, BUDGET)
    assert [each.proposal for each in again] == [each.proposal for each in history]


def test_it_begins_with_the_sample_of_the_others_and_learns_from_it() -> None:
    problem = Grid(function="zdt1", genes=8, options=6).problem()

    def volume(problem: Problem, strategy: Any, seed: int) -> float:
        values = [list(each.objectives.values()) for each in search(problem, strategy, seed, BUDGET)[0]]
        return float(moocore.hypervolume(np.array(values), ref=problem.reference))

    first = [
        [each.proposal.genotype for each in search(problem, s, 1, BUDGET)[0][:10]] for s in (TPE(), RandomSearch())
    ]
    assert first[0] == first[1]
    seeds = (1, 2, 3)
    assert np.mean([volume(problem, TPE(), s) for s in seeds]) > np.mean(
        [volume(problem, RandomSearch(), s) for s in seeds]
    )


def test_repeats_happen_only_where_they_are_wanted() -> None:
    problem = Grid(function="zdt1", genes=3, options=4).problem()
    budget = LaboratoryBudget(evaluations=40, batch=10)
    asked_for = [
        [each.proposal for each in search(problem, TPE(repeats=wanted), 1, budget)[0] if each.proposal.origin == "tpe"]
        for wanted in (False, True)
    ]
    repeated = [sum(proposal.duplicate_of is not None for proposal in proposals) for proposals in asked_for]
    assert repeated[0] == 0 < repeated[1]


def test_nothing_is_shown_and_optuna_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TPE(initial=2).propose(request_of(depth_space(), lambda slot: {"error": slot, "cost": -slot}))
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


@pytest.mark.parametrize(
    ("strategy", "package", "extra"), [("tpe", "optuna", "optuna"), ("age-moea", "numba", "age-moea")]
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, strategy: str, package: str, extra: str
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr("nas_lib.strategies.find_spec", lambda name: None if name == package else there(name))
    content = {"laboratory": "x", "problems": ["cell"], "strategies": [strategy]}
    with pytest.raises(ConfigurationError) as caught:
        parse(content, "lab.yaml")
    assert str(caught.value) == (
        f"lab.yaml: strategies.0 ({strategy}): needs the package {package}, which is not there "
        f"(pip install 'nas-lib[{extra}]')"
    )
