"""Random search: the baseline every other strategy has to beat."""

from typing import ClassVar, Literal

from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import StrategyBase


class RandomSearch(StrategyBase):
    """Independent random genotypes."""

    name: Literal["random"] = "random"

    needs: ClassVar[frozenset[str]] = frozenset({"sample"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """Fresh draws, equal to the initial design that the other strategies of the same seed begin with."""
        return [
            Suggestion(request.space.sample(request.rng("initial", request.round, slot)), origin="random")
            for slot in range(request.count)
        ]
