"""What the settings of all strategies have in common."""

from typing import Annotated

from pydantic import Field

from nas_lib.settings import Settings

FeatureNames = Annotated[
    tuple[str, ...],
    Field(
        description="Scores without training that predictors see beside genes, as ranks. Where scores have to be "
        "computed, only a few hundred architectures compete in each round: those that genes alone predict to be best."
    ),
]


class Filter(Settings):
    """A filter before training: of several times as many suggestions as are wanted the best ones by scores are kept."""

    scores: tuple[str, ...] = Field(min_length=1)
    """Scores without training, higher is better; of several the mean rank counts."""
    keep: float = Field(default=0.25, ge=0.01, le=0.5)
    """Share that is kept: the strategy is asked 1 / keep times (rounded), each time with other random numbers."""

    @property
    def askings(self) -> int:
        """Times the strategy is asked."""
        return round(1 / self.keep)


class StrategyBase(Settings):
    """The settings that every strategy has."""

    label: str = ""
    """Name of this search in folders, tables and plots; default: the strategy's name."""
    filter: Filter | None = None
    """Keep only some of its suggestions before training, by scores that need none. Default: all."""
