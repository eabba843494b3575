"""The answer in a few plain sentences, each computed from the results."""

import itertools
from collections.abc import Iterator, Mapping

from nas_lib.evaluation.objectives import QUANTITIES
from nas_lib.report import style
from nas_lib.report.results import Results, Retrained, best_finalist, figure_of, mean_and_sd

FEW_SEEDS = 5
"""Below this many seeds an interval that contains 0 says more about their number than about the strategies."""

SIGNIFICANT = 0.05
"""Level of significance of tests."""


def summary(results: Results) -> list[str]:
    """The sentences at the top of the page."""
    return [_searched(results), *_best(results), *_tested(results), *_better_than_chance(results), *_setbacks(results)]


def counted(count: int, noun: str, plural: str = "") -> str:
    """For example `1 seed`, `2 seeds`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(words: list[str]) -> str:
    """For example `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _searched(results: Results) -> str:
    experiment = results.experiment
    total = sum(1 for _ in results.evaluations())
    objectives = listed([measure_title(name) for name in results.objectives])
    return (
        f"{counted(len(experiment.labels), 'strategy', 'strategies')} "
        f"({listed(experiment.labels)}) searched the space {experiment.space.name} on {experiment.task.name}, "
        f"with {counted(len(experiment.seeds), 'seed')}{' each' if len(experiment.labels) > 1 else ''}: "
        f"{counted(total, 'candidate')} in all, "
        f"minimising {objectives}."
    )


def _best(results: Results) -> Iterator[str]:
    successful = [(label, seed, found) for label, seed, found in results.evaluations() if found.ok]
    if not successful:
        yield "No candidate succeeded, so there is no front and nothing to test. The reasons are listed under Failures."
        return
    measure = results.measure
    title = measure_title(measure)
    values = [
        (value, place)
        for place, (*_, found) in enumerate(successful)
        if found.counts and (value := figure_of(found, measure)) is not None
    ]
    if not any(found.counts for *_, found in successful):
        yield "No candidate was fully trained and kept every limit, so there is no front and nothing to test."
    if values:
        value, place = min(values)
        label, seed, _ = successful[place]
        yield (
            f"The best {title} is {style.text(measure, value)} ({label}, seed {seed}). It is the lowest of "
            f"{counted(len(values), 'candidate')} and therefore optimistic; the {style.tested(title)} is the figure "
            "to quote."
        )


def _tested(results: Results) -> Iterator[str]:
    best, title = best_finalist(results.finalists), measure_title(results.measure)
    if best is not None:
        others = "" if len(results.finalists) == 1 else f", which has the lowest {title} of all finalists,"
        yield f"The best finalist ({best.name}){others} has a {style.tested(title)} of {test_value(best)}."
    elif results.finalists:
        yield f"No training of a finalist succeeded, so there is no {style.tested(title)}."
    elif results.experiment.finalists.count == 0:
        yield "No finalists were asked for, so the test split was not read."


def measure_title(name: str) -> str:
    """A measure within a sentence.

    >>> measure_title("loss")
    'validation loss'
    """
    return QUANTITIES[name].title.lower().replace("flops", "FLOPs")


def test_value(finalist: Retrained) -> str:
    """Mean and standard deviation on the test split, with the number of networks, or of trainings of the only one."""
    mean, sd = mean_and_sd(finalist.test_values)
    noun = "training" if finalist.networks == 1 else "network"
    sample, name = counted(len(finalist.test_values), noun), finalist.measure
    if sd is None:
        return f"{style.text(name, mean)} ({sample}, so no standard deviation)"
    return (
        _unbroken(f"{style.number(name, mean)} ± {style.text(name, sd)}")
        + f" (mean ± standard deviation, {_unbroken('n = ' + sample)})"
    )


def _unbroken(words: str) -> str:
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _better_than_chance(results: Results) -> Iterator[str]:
    comparison = results.comparison
    if comparison["reference"] is None:
        return
    baseline = comparison["baseline"]
    if not comparison["differences"]:
        yield (
            f"Only {baseline} was run, so nothing says whether it is better than chance: "
            "add the strategy random as the last one to compare with."
        )
        return
    for label, difference in comparison["differences"].items():
        yield compared(label, baseline, difference)
    if results.experiment.strategy(baseline).name != "random":
        yield f"The baseline {baseline} is not random search, so this compares with {baseline}, not with chance."


def compared(label: str, baseline: str, difference: Mapping[str, float]) -> str:
    """What the difference in final hypervolume of a strategy to the baseline does and does not say."""
    mean, low, high, count = difference["mean"], difference["low"], difference["high"], int(difference["count"])
    side = "the same" if mean == 0 else f"{abs(mean):.3f} {'higher' if mean > 0 else 'lower'}"
    fact = f"Against {baseline}, {label} ended with a hypervolume that is {side}"
    if count == 1:
        return f"{fact}, with the only seed: one seed cannot tell a difference from chance."
    interval = _unbroken(f"{style.signed(low)} to {style.signed(high)}")
    fact += f" (95 % confidence interval of the difference {interval}, {_unbroken(f'n = {count} seeds')}, paired)"
    if low > 0:
        return f"{fact}: better than {baseline}."
    if high < 0:
        return f"{fact}: worse than {baseline}."
    if count < FEW_SEEDS:
        return f"{fact}. The interval contains 0: {count} seeds are too few to tell a difference from chance."
    return f"{fact}. The interval contains 0: no difference can be told from chance."


def untestable(seeds: int, comparisons: int) -> str:
    """What is to be said of signed-rank tests where this many seeds cannot make one significant; else nothing.

    >>> untestable(7, 2), untestable(6, 2)[-20:]
    ('', 'take 7 seeds or more')
    """
    smallest = min(1.0, comparisons * 2.0 ** (1 - seeds))
    if smallest <= SIGNIFICANT:
        return ""
    enough = next(more for more in itertools.count(seeds) if comparisons * 2.0 ** (1 - more) <= SIGNIFICANT)
    return (
        f"; with {counted(seeds, 'seed')} p cannot be smaller than {smallest:.3g}, so no difference can be "
        f"significant: take {enough} seeds or more"
    )


def _setbacks(results: Results) -> Iterator[str]:
    searches = results.comparison["searches"]
    failed, infeasible, duplicates = (
        sum(search[key] for search in searches) for key in ("failed", "infeasible", "duplicates")
    )
    parts = []
    if failed:
        parts.append(f"{counted(failed, 'candidate')} failed")
    if infeasible:
        parts.append(f"{counted(infeasible, 'trained candidate')} exceeded a limit and count for no front")
    if duplicates:
        parts.append(f"{counted(duplicates, 'candidate')} had been evaluated before and cost nothing")
    if parts:
        yield f"{listed(parts)[0].upper()}{listed(parts)[1:]}."
