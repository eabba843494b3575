"""CPU time of every score on recipes of NAS-Bench-NLP, and of a whole table of them.

    OMP_NUM_THREADS=1 python benchmarks/scores.py --recipes 40

Recipes are random ones with the distribution of the benchmark. `fresh` is from the recipe to the value, with building
the network; `built` is the score alone, of a network that is there. CPU time of the process, so that a busy machine
counts less.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import typer
from common import median, show

from nas_lib.scores import Scored, score
from nas_lib.scores.batch import random_tokens
from nas_lib.scores.catalogue import SCORES
from nas_lib.spaces.recurrent.language_model import language_model
from nas_lib.spaces.recurrent.network import RecurrentNetwork
from nas_lib.spaces.recurrent.recipes import Recipe, from_recipe, random_recipe

TABLE = 3371
"""Recipes of the benchmark with a loss."""
HIDDEN = [f"hidden_covariance_{layer}" for layer in (1, 2, 3)]


def milliseconds(function: Callable[[], Any]) -> float:
    """CPU time of a call."""
    began = time.process_time()
    function()
    return 1e3 * (time.process_time() - began)


def main(
    recipes: Annotated[int, typer.Option(help="Random recipes.")] = 40,
    words: Annotated[int, typer.Option(help="Vocabulary.")] = 1000,
    embedding: Annotated[int, typer.Option(help="Size of the embedding and the last layer.")] = 64,
    hidden: Annotated[int, typer.Option(help="Size of the other two layers.")] = 96,
    size: Annotated[int, typer.Option(help="Sequences.")] = 25,
    steps: Annotated[int, typer.Option(help="Time steps.")] = 35,
) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    batch = random_tokens(words, size, steps, rng)
    drawn = [random_recipe(rng, 1 + place % 3) for place in range(recipes)]

    def build(recipe: Recipe) -> RecurrentNetwork:
        return language_model(from_recipe(recipe), words, embedding, hidden)

    def from_the_recipe(recipe: Recipe, names: Sequence[str]) -> Scored:
        return score(build(recipe), batch, names)

    def costs(names: Sequence[str]) -> list[str]:
        networks = [build(recipe) for recipe in drawn]
        score(networks[0], batch, names)
        built = [milliseconds(partial(score, network, batch, names)) for network in networks]
        fresh = [milliseconds(partial(from_the_recipe, recipe, names)) for recipe in drawn]
        return [median(fresh, "ms", 1), median(built, "ms", 1), f"{np.mean(fresh) * TABLE / 1e3:.0f} s"]

    probed = score(build(drawn[0]), batch, list(SCORES))
    names = [name for name in SCORES if name not in probed.inapplicable]
    rows = [[SCORES[name].title, *costs([name])] for name in names]
    rows.append(["hidden covariance of all layers together", *costs(HIDDEN)])
    fast = [name for name in names if name not in ("grasp", "lga")]
    rows.append(["all but GraSP and LGA together", *costs(fast)])
    rows.append(["all together", *costs(names)])
    how = (
        f"Vocabulary {words}, embedding {embedding}, hidden {hidden}, {size} sequences of {steps} steps, 3 layers; "
        f"medians and quartiles of {recipes} recipes; the table is {TABLE:,} recipes on one core, fresh, by the mean."
    )
    show("CPU time of scores", ["score", "fresh", "built", "whole table"], rows, how)


if __name__ == "__main__":
    typer.run(main)
