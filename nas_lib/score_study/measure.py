"""The measurements of a study: the scores of every network of a benchmark, and what each score costs.

A network's scores are written at once into a journal of its job, so a study that was killed goes on where it was, and
one with more scores, seeds or networks keeps what it has.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from nas_lib import journals
from nas_lib.layout import write_frame
from nas_lib.randomness import generator, single_thread
from nas_lib.score_study.benchmarks import Benchmark, Network
from nas_lib.score_study.settings import TO_BUILD, ScoreStudy
from nas_lib.scores.names import REVISION
from nas_lib.scores.outcome import Outcome, outcome, same_weights, scores_of

if TYPE_CHECKING:
    import pandas as pd

    from nas_lib.scores.batch import Batch

log = logging.getLogger(__name__)

TIMED = 20
"""Networks on which the cost of each score is measured."""


class Scoring(Outcome):
    """What scores say of one network with the weights and the batch of one seed."""

    network: str
    seed: int


def run(study: ScoreStudy, title: str, job: int) -> None:
    """Score the networks of one job that are not scored yet, then write all of the job as a table.

    Raises:
        UserError: the table or the data of the benchmark cannot be used.
    """
    whole, names, journal = study.benchmark(title), study.names, study.folder.journal(title, job)
    benchmark = whole.only(study.settings_of_benchmark(title).networks)
    # What scores depend on beside network, seed and name: if it changes, they are worthless.
    head = {"revision": REVISION, "benchmark": study.benchmark_content(title), "networks": whole.digest}
    found: dict[tuple[str, int], Scoring] = {}
    for one in journals.begin(journal, head, Scoring):
        found[one.network, one.seed] = one.after(found.get((one.network, one.seed)))
    networks = benchmark.networks[job :: study.jobs]
    cases = [(network, seed) for network in networks for seed in study.seeds]
    missing = {
        (network.name, seed): [
            name for name in names if (network.name, seed) not in found or name not in found[network.name, seed]
        ]
        for network, seed in cases
    }
    left = sum(map(bool, missing.values()))
    log.info("%s, job %d: %d networks and seeds, %d of them scored before", title, job, len(cases), len(cases) - left)
    batch_of = lru_cache(maxsize=None)(lambda seed: benchmark.batch(generator(seed, "score study", "batch")))
    with journal.open("a") as file, single_thread():
        for network, seed in cases:
            if wanted := missing[network.name, seed]:
                made = outcome(partial(benchmark.build, network), batch_of(seed), wanted, seed)
                one = Scoring(network=network.name, seed=seed, **dict(made))
                found[network.name, seed] = one.after(found.get((network.name, seed)))
                journals.add(file, one)
    write_frame(
        study.folder.share(title, job), table(networks, [found[each.name, seed] for each, seed in cases], names)
    )


def table(networks: Sequence[Network], scorings: Sequence[Scoring], names: Sequence[str]) -> pd.DataFrame:
    """One row per network, seed and score: network, measured, seed, score, value, reason, failure, seconds.

    `reason` says why a score does not apply, `failure` what went wrong; `value` is missing then. `seconds` are those of
    all scores of the network together.
    """
    import pandas as pd

    measured = {network.name: network.measured for network in networks}
    columns = ["network", "measured", "seed", "score", "value", "reason", "failure", "seconds"]
    rows = [
        {
            "network": one.network,
            "measured": measured[one.network],
            "seed": one.seed,
            "score": name,
            "value": one.values.get(name, math.nan),
            "reason": one.inapplicable.get(name),
            "failure": one.failed.get(name),
            "seconds": one.seconds,
        }
        for one in scorings
        for name in names
    ]
    return pd.DataFrame(rows, columns=columns)


def collect(study: ScoreStudy, title: str, networks: Sequence[Network]) -> pd.DataFrame:
    """Write the tables of all jobs of a benchmark as one, its networks in their order.

    Raises:
        FileNotFoundError: a job is not done yet.
    """
    import pandas as pd

    shares = [pd.read_parquet(study.folder.share(title, job)) for job in range(study.jobs)]
    order = {network.name: place for place, network in enumerate(networks)}
    whole = pd.concat([share for share in shares if len(share)], ignore_index=True)
    whole = whole.sort_values("network", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    write_frame(study.folder.scores(title), whole)
    return whole


def time_alone(study: ScoreStudy, title: str) -> None:
    """Measure the CPU seconds of each score alone, one thread, on the first networks, and write them as a table.

    Columns: network, score (or `build`, what building it costs), seconds. Scores that do not apply have none.
    """
    import pandas as pd

    benchmark, seed = study.chosen(title), study.seeds[0]
    batch = benchmark.batch(generator(seed, "score study", "batch"))
    networks = benchmark.networks[:TIMED]
    with single_thread():
        _seconds(benchmark, networks[0], batch, study.names, seed)  # what a first use imports is no cost of a score
        rows = [
            {"network": network.name, "score": name, "seconds": seconds}
            for network in networks
            for name, seconds in _seconds(benchmark, network, batch, study.names, seed).items()
        ]
    write_frame(study.folder.costs(title), pd.DataFrame(rows, columns=["network", "score", "seconds"]))


def costs(study: ScoreStudy, title: str) -> pd.DataFrame:
    """The table of `time_alone`, with the sums of the scores of each combination: passes they share count twice.

    Raises:
        FileNotFoundError: nothing was timed yet.
    """
    import pandas as pd

    alone = pd.read_parquet(study.folder.costs(title))
    seconds = alone.pivot(index="network", columns="score", values="seconds")
    sums = [
        seconds[list(its)].sum(axis=1, skipna=False).dropna().rename("seconds").reset_index().assign(score=name)
        for name, its in study.combinations.items()
        if set(its) <= set(seconds.columns)
    ]
    return pd.concat([alone, *sums], ignore_index=True)[[*alone.columns]]


def _seconds(
    benchmark: Benchmark, network: Network, batch: Batch, names: Sequence[str], seed: int
) -> Mapping[str, float]:
    """CPU seconds of building a network and of each score that applies to it; none of one that cannot be built."""
    found = {}
    with same_weights(seed):
        began = time.process_time()
        try:
            built = benchmark.build(network)
        except Exception:
            return {}
        found[TO_BUILD] = time.process_time() - began
    for name in names:
        began = time.process_time()
        values, _, _ = scores_of(built, batch, [name], seed)
        if values:
            found[name] = time.process_time() - began
    return found
