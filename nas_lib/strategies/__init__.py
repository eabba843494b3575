"""Search strategies: how history becomes proposals.

A strategy is its settings plus one pure function, `propose`. It keeps no state: at every call it is
rebuilt from history, so resume and replay need no code of their own.
To add a strategy: one file, and one line in `StrategySettings`.
"""

import json
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import Field

from nas_lib.strategies import hyperband
from nas_lib.strategies.bayesian import BayesianOptimization, ParEGO
from nas_lib.strategies.coverage import Coverage
from nas_lib.strategies.evolution import AgeingEvolution, Evolution, LocalSearch
from nas_lib.strategies.hyperband import BOHB, Hyperband
from nas_lib.strategies.linas import LINAS
from nas_lib.strategies.nehvi import NEHVI
from nas_lib.strategies.neuroevolution import KnownNetworks, Neuroevolution
from nas_lib.strategies.novelty import MTFPDNS
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Plan, Strategy
from nas_lib.strategies.robot import RoBoT
from nas_lib.strategies.tpe import TPE

StrategySettings = Annotated[
    RandomSearch
    | BayesianOptimization
    | ParEGO
    | NEHVI
    | Hyperband
    | BOHB
    | Evolution
    | AgeingEvolution
    | LocalSearch
    | LINAS
    | Coverage
    | TPE
    | RoBoT
    | MTFPDNS
    | Neuroevolution
    | KnownNetworks,
    Field(discriminator="name"),
]


EXTRAS = {"age-moea": ("numba", "age-moea"), "tpe": ("optuna", "optuna")}
"""Strategy -> the package it needs that is not always there, and the extra of ours that brings it."""


ADDED = ("filter", "features", "prior")
"""Settings that strategies did not always have, and that do nothing by default."""


def asked_scores(strategy: Strategy) -> list[str]:
    """Names of the scores without training that a strategy's settings ask for."""
    rule, prior = strategy.filter, getattr(strategy, "prior", None)
    own = (*getattr(strategy, "scores", ()), *getattr(strategy, "features", ()))
    return [*own, *([prior] if prior else ()), *(rule.scores if rule else ())]


def content_of(strategy: StrategySettings) -> dict[str, Any]:
    """The settings of a strategy as plain data; what was added later only where it says something."""
    content: dict[str, Any] = json.loads(strategy.model_dump_json())
    content = {key: value for key, value in content.items() if value or key not in ADDED}
    return {"name": content.pop("name"), "label": content.pop("label"), **content}


def other_count(strategy: Strategy, objectives: int) -> str | None:
    """How many objectives a strategy can handle, in words; None where it can handle so many."""
    fewest, most = strategy.objectives
    if fewest <= objectives and (most is None or objectives <= most):
        return None
    return f"exactly {fewest}" if fewest == most else f"{fewest} or more"


def impossible(strategy: Strategy, plan: Plan) -> str | None:
    """Why a strategy cannot work here or within a plan, in one line; None where it can."""
    package, extra = EXTRAS.get(strategy.name, ("", ""))
    if package and find_spec(package) is None:
        return f"needs the package {package}, which is not there (pip install 'nas-lib[{extra}]')"
    return hyperband.impossible(strategy, plan) if isinstance(strategy, Hyperband | BOHB) else None
