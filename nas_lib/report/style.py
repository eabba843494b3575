"""How quantities, strategies and stages look, in the page and in the files alike."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from nas_lib.evaluation.objectives import QUANTITIES

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of strategies, told apart with every kind of colour vision (Okabe and Ito 2008); its yellow and black are
left out, for they vanish on a white or a dark page."""
NEUTRAL = "#808080"
"""Colour of what no strategy made."""
MARKERS = (("circle", "o"), ("square", "s"), ("triangle-up", "^"), ("diamond", "D"), ("triangle-down", "v"))
"""Shapes of strategies, as plotly and as matplotlib name them."""
STAGES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00")
"""Colours of the stages of a network: those of Okabe and Ito on which black letters can be read."""

LINES = {"solid": "-", "dash": "--", "dot": ":"}
"""Kinds of lines: plotly's name -> matplotlib's."""

LARGE = 1e12
"""Numbers from which on powers of ten are read more easily."""
LOGARITHMIC = 30
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def colour(strategy: int) -> str:
    """Colour of a strategy, by its place in the list."""
    return OKABE_ITO[strategy % len(OKABE_ITO)]


def opacity(strategies: int) -> float:
    """Of the band of each of so many strategies: many are fainter, for they lie over each other.

    >>> opacity(2), opacity(12)
    (0.18, 0.06)
    """
    return round(min(0.18, 0.72 / strategies), 3)


def marker(strategy: int) -> tuple[str, str]:
    """Shape of a strategy, by its place in the list: plotly's and matplotlib's name."""
    return MARKERS[strategy % len(MARKERS)]


def dash(strategy: int) -> Literal["solid", "dash", "dot"]:
    """Kind of line of a strategy, by its place in the list, as plotly names it.

    Up to 18 strategies differ in colour or kind of line.
    """
    kinds: tuple[Literal["solid", "dash", "dot"], ...] = ("solid", "dash", "dot")
    return kinds[(strategy + strategy // len(OKABE_ITO)) % len(kinds)]


def stage_colour(stage: int) -> str:
    """Colour of a stage of a network."""
    return STAGES[stage % len(STAGES)]


def scaled(name: str, value: float) -> float:
    """The value of an objective as people read it: shares in per cent."""
    return 100 * value if QUANTITIES[name].unit == "share" else value


def axis(name: str) -> str:
    """Title of the axis of an objective, with its unit."""
    quantity = QUANTITIES[name]
    return f"{quantity.title} (%)" if quantity.unit == "share" else quantity.axis


def tested(words: str) -> str:
    """What is said of the validation split, said of the test split.

    >>> tested("Validation loss")
    'Test loss'
    """
    return words.replace("Validation", "Test").replace("validation", "test")


def axis_type(values: Sequence[float]) -> Literal["log", "linear"]:
    """Logarithmic where all values are positive and far apart."""
    return "log" if min(values) > 0 and max(values) > LOGARITHMIC * min(values) else "linear"


def limits(values: Sequence[float], end: float, kind: Literal["log", "linear"] = "linear") -> list[float]:
    """The ends of an axis from the least of the values, with a little room before it, to a given end.

    >>> limits([1, 5, 900], 11)
    [0.5, 11]
    """
    low = min(values)
    return [low * (low / end) ** 0.05 if kind == "log" else low - 0.05 * (end - low), end]


def number(name: str, value: float) -> str:
    """The value of an objective in few digits, in the unit that `axis` states.

    >>> number("perplexity", 108.524), number("loss", 0.012345)
    ('108.52', '0.0123')
    """
    if QUANTITIES[name].unit == "share":
        return f"{100 * value:.2f}"
    if not math.isfinite(value) or abs(value) >= LARGE:
        return f"{value:.3g}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if QUANTITIES[name].unit == "per token" else f"{value:.3g}"


def text(name: str, value: float) -> str:
    """The value of an objective with its unit, in few digits."""
    return number(name, value) + unit(name)


def unit(name: str) -> str:
    """The unit of an objective as it follows a number, with the space before it.

    >>> unit("error"), unit("parameters"), unit("perplexity")
    (' %', '', '')
    """
    of = QUANTITIES[name].unit
    return {"share": " %", "count": "", "mean": "", "per token": "", "score of a batch": ""}.get(of, f" {of}")


def difference(name: str, value: float) -> str:
    """A difference of an objective with its sign and unit.

    >>> difference("error", -0.0123), difference("perplexity", 1.5)
    ('−1.23 points', '+1.50')
    """
    if QUANTITIES[name].unit == "share":
        return f"{signed(100 * value, 2)} points"
    return ("−" if value < 0 else "+") + text(name, abs(value))


def interval(found: Mapping[str, float], number: Callable[[float], str]) -> str:
    """A mean with its confidence interval, as `comparison.paired` has them."""
    if found["count"] < 2:
        return f"{number(found['mean'])} (1 seed, no interval)"
    return f"{number(found['mean'])} ({number(found['low'])} to {number(found['high'])})"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, if it is not 0.

    >>> signed(0.25), signed(-0.25), signed(-0.0)
    ('+0.250', '−0.250', '0.000')
    """
    return f"{value:+.{digits}f}".replace("-", "−") if value else f"{0:.{digits}f}"


def energy(joules: float) -> str:
    """Joules, in kilojoules where there are many.

    >>> energy(12.34), energy(123456)
    ('12.3 J', '123.5 kJ')
    """
    return f"{joules:.1f} J" if joules < 10_000 else f"{joules / 1000:,.1f} kJ"


def memory(size: float) -> str:
    """Bytes in mebibytes.

    >>> memory(1.5 * 2**30)
    '1,536 MiB'
    """
    return f"{size / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds, and what they are in minutes or hours where that is easier to grasp.

    >>> duration(42.3), duration(600), duration(7260)
    ('42.3 s', '600 s (10.0 min)', '7,260 s (2.0 h)')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    longer = f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds:,.0f} s ({longer})"
