"""Search strategies: how history becomes proposals.

A strategy is its settings plus one pure function, `propose`. It keeps no state: at every call it is
rebuilt from history, so resume and replay need no code of their own.
To add a strategy: one file, and one line in `StrategySettings`.
"""

from typing import Annotated

from pydantic import Field

from nas_lib.strategies import hyperband
from nas_lib.strategies.bayesian import BayesianOptimization, ParEGO
from nas_lib.strategies.coverage import Coverage
from nas_lib.strategies.evolution import AgeingEvolution, Evolution, LocalSearch
from nas_lib.strategies.hyperband import BOHB, Hyperband
from nas_lib.strategies.linas import LINAS
from nas_lib.strategies.nehvi import NEHVI
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Plan, Strategy

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
    | Coverage,
    Field(discriminator="name"),
]


def impossible(strategy: Strategy, plan: Plan) -> str | None:
    """Why a strategy cannot work within a plan, in one line; None where it can."""
    return hyperband.impossible(strategy, plan) if isinstance(strategy, Hyperband | BOHB) else None
