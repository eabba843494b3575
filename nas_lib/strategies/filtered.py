"""The suggestions of a strategy, or of many more the best ones by scores without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from nas_lib.records import Proposal
from nas_lib.scores import ranks
from nas_lib.strategies.request import Request, Strategy, Suggestion
from nas_lib.strategies.scored import scores_of

Group = tuple[str, int, int | None]
Key = tuple[str, int]


def proposed(strategy: Strategy, request: Request) -> list[Suggestion]:
    """What a strategy suggests, at most `request.count`; of all its askings the best where it has a `filter`.

    The first asking is the plain one; in the others every draw has a generator of its own. Of suggestions alike in
    origin, epochs and bracket as many are kept as the first asking has, in its places: those new to the search, and of
    these those of the highest mean rank. What every asking suggests for a place, and what continues a training, has no
    alternative and stays.

    Raises:
        UserError: nothing can be scored here.
    """
    first = strategy.propose(request)[: request.count]
    rule = strategy.filter
    if rule is None or not first:
        return first
    others = [
        strategy.propose(replace(request, rng=partial(_alternative, request.rng, number)))[: request.count]
        for number in range(1, rule.askings)
    ]
    open_places = [
        place
        for place, suggestion in enumerate(first)
        if not _continues(request, suggestion)
        and any(len(other) <= place or other[place] != suggestion for other in others)
    ]
    seen = {(proposal.hash, proposal.epochs) for proposal in _proposals(request)}
    seen |= {_key_of(request, suggestion) for place, suggestion in enumerate(first) if place not in open_places}
    kept = list(first)
    for group, places in _groups(request, first, open_places).items():
        pool = [first[place] for place in places]
        pool += [each for other in others for each in other if _group(request, each) == group]
        chosen = _best(request, pool, len(places), rule.scores, seen)
        seen |= {_key_of(request, suggestion) for suggestion in chosen}
        for place, suggestion in zip(places, chosen, strict=True):
            kept[place] = suggestion
    return kept


def _best(
    request: Request, pool: Sequence[Suggestion], count: int, names: Sequence[str], seen: set[Key]
) -> list[Suggestion]:
    """`count` suggestions of a pool: the best of those that are new and different, then the others in their order."""
    new: dict[Key, Suggestion] = {}
    for suggestion in pool:
        key = _key_of(request, suggestion)
        if key not in seen:
            new.setdefault(key, suggestion)
    different = list(new.values())
    values = scores_of(request, [suggestion.genotype for suggestion in different], names)
    worth = np.mean([ranks(column) for column in values.T], axis=0)
    chosen = [
        replace(different[row], scores=_finite(names, values[row]))
        for row in np.argsort(-worth, kind="stable")[:count].tolist()
    ]
    rest = [suggestion for suggestion in pool if not any(suggestion is other for other in different)]
    return [*chosen, *rest[: count - len(chosen)]]


def _finite(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: value for name, value in zip(names, values.tolist(), strict=True) if np.isfinite(value)}


def _alternative(
    rng: Callable[..., np.random.Generator], number: int, purpose: str, *where: str | int
) -> np.random.Generator:
    """The generator of a place in a further asking."""
    return rng("asking", number, purpose, *where)


def _groups(request: Request, suggestions: Sequence[Suggestion], places: Sequence[int]) -> dict[Group, list[int]]:
    """Group -> its places, of some places."""
    found: dict[Group, list[int]] = {}
    for place in places:
        found.setdefault(_group(request, suggestions[place]), []).append(place)
    return found


def _group(request: Request, suggestion: Suggestion) -> Group:
    return suggestion.origin, suggestion.epochs or request.plan.epochs, suggestion.bracket


def _key_of(request: Request, suggestion: Suggestion) -> Key:
    """What is not evaluated twice: an architecture at a fidelity."""
    return request.space.hash(suggestion.genotype), suggestion.epochs or request.plan.epochs


def _continues(request: Request, suggestion: Suggestion) -> bool:
    """Whether it goes on with a training of the same architecture."""
    if suggestion.warm_start is None:
        return False
    hashes = {proposal.candidate: proposal.hash for proposal in _proposals(request)}
    return hashes.get(suggestion.warm_start) == request.space.hash(suggestion.genotype)


def _proposals(request: Request) -> list[Proposal]:
    return [*(evaluation.proposal for evaluation in request.history), *request.pending]
