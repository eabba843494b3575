"""One sub-command per step of the workflow. Rules call these; each can be run by hand with the same words."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nas_lib.configuration import ConfigurationError
from nas_lib.experiment import load, refuse_other_settings, schema
from nas_lib.settings import UserError

if TYPE_CHECKING:
    from nas_lib.laboratory.settings import Laboratory
    from nas_lib.mlflow_store import Synced
    from nas_lib.predictor_study.settings import PredictorStudy
    from nas_lib.score_study.settings import ScoreStudy
    from nas_lib.search import Search

app = typer.Typer(
    help="Neural architecture search, step by step. The workflow (snakemake) calls these in order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(help="The experiment: its YAML file, or the experiment.json of its results.")]
Strategy = Annotated[str, typer.Option(help="Name (label) of the search strategy.")]
Seed = Annotated[int, typer.Option(help="Seed of the search.")]
Round = Annotated[int, typer.Option(min=0, help="Round, from 0.")]
Job = Annotated[int, typer.Option(min=0, help="Job within the round, from 0.")]
Rank = Annotated[int, typer.Option(min=0, help="Which finalist, from 0.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: resources.threads.")]
Attempt = Annotated[int, typer.Option(min=1, help="How often the workflow has started this job.")]


def main() -> None:
    """Run a sub-command; a mistake of the user's is one clear line, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}".replace("\n", "\nerror: "))


def _search(file: Path, strategy: str, seed: int, threads: int | None = None) -> Search:
    from nas_lib.search import Search

    experiment = load(file)
    if strategy not in experiment.labels:
        raise ConfigurationError(f"--strategy: found {strategy!r}, allowed is one of {experiment.labels}")
    refuse_other_settings(experiment, str(file))
    if threads not in {None, experiment.resources.threads}:
        raise ConfigurationError(
            f"--threads: found {threads}, allowed is resources.threads, which is {experiment.resources.threads}: "
            "results depend on the number of threads (does snakemake have fewer --cores?)"
        )
    _limit_threads(experiment.resources.threads)
    return Search(experiment, strategy, seed)


def _limit_threads(count: int) -> None:
    """CPU threads of this process."""
    from threadpoolctl import threadpool_limits

    # Libraries read these when they are first imported; NumPy, which is there already, is told.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(count)
    threadpool_limits(limits=count)


@app.command()
def validate(file: File) -> None:
    """Check a configuration; all its mistakes at once."""
    experiment = load(file)
    budget = experiment.budget
    typer.echo(
        f"{file}: {len(experiment.labels)} strategies x {len(experiment.seeds)} seeds x {budget.evaluations} candidates"
    )


@app.command(name="schema")
def print_schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    typer.echo(json.dumps(schema(), indent=2))


@app.command()
def data(file: File, done: Annotated[Path, typer.Option(help="Written when the data is there.")]) -> None:
    """Fetch the data sets if need be, and check them."""
    from nas_lib.layout import write_json

    experiment = load(file)
    facts = experiment.task.facts()
    if experiment.transfer is not None:
        facts["transfer"] = experiment.transfer.task.facts()
    write_json(done, facts)


@app.command()
def propose(file: File, strategy: Strategy, seed: Seed, round: Round) -> None:
    """Write the proposals of a round."""
    from nas_lib.search import propose_round

    propose_round(_search(file, strategy, seed), round)


@app.command()
def evaluate(
    file: File, strategy: Strategy, seed: Seed, round: Round, job: Job, threads: Threads = None, attempt: Attempt = 1
) -> None:
    """Train and measure one job's share of a round."""
    from nas_lib.search import evaluate_job, lazy_bench

    search = _search(file, strategy, seed, threads)
    with lazy_bench(search.experiment) as bench:
        evaluate_job(search, round, job, bench, attempt)


@app.command()
def inline(file: File, strategy: Strategy, seed: Seed, threads: Threads = None, attempt: Attempt = 1) -> None:
    """Run all rounds of a search in this process."""
    from nas_lib.search import run_inline

    run_inline(_search(file, strategy, seed, threads), attempt)


@app.command()
def collect(file: File, strategy: Strategy, seed: Seed) -> None:
    """Write the history and the front of a search."""
    from nas_lib import search as searches

    searches.collect(_search(file, strategy, seed))


@app.command()
def select(file: File, strategy: Strategy, seed: Seed) -> None:
    """Choose the finalists of a search from its front."""
    from nas_lib.search import select_finalists

    select_finalists(_search(file, strategy, seed))


@app.command()
def retrain(
    file: File,
    strategy: Strategy,
    seed: Seed,
    rank: Rank,
    threads: Threads = None,
    attempt: Attempt = 1,
) -> None:
    """Retrain a finalist from scratch and test it."""
    from nas_lib.search import lazy_bench, retrain_finalist

    search = _search(file, strategy, seed, threads)
    with lazy_bench(search.experiment, finalists=True) as bench:
        retrain_finalist(search, rank, bench, attempt)


@app.command()
def transfer(
    file: File, strategy: Strategy, seed: Seed, rank: Rank, threads: Threads = None, attempt: Attempt = 1
) -> None:
    """Train a finalist from scratch on the second data set and test it."""
    from nas_lib.search import lazy_bench, transfer_finalist

    search = _search(file, strategy, seed, threads)
    with lazy_bench(search.experiment.carried, finalists=True) as bench:
        transfer_finalist(search, rank, bench, attempt)


@app.command()
def export(file: File, strategy: Strategy, seed: Seed, rank: Rank | None = None, threads: Threads = None) -> None:
    """Write the retrained finalists of a search, or one of them, as files for other programs, with a model card."""
    from nas_lib.export import export_finalists

    search = _search(file, strategy, seed, threads)
    export_finalists(search, range(search.experiment.finalists.count) if rank is None else [rank])


@app.command()
def compare(file: File) -> None:
    """Compare the searches of an experiment: hypervolume across seeds."""
    from nas_lib import comparison
    from nas_lib.layout import write_json

    experiment = load(file)
    write_json(experiment.folder.comparison, comparison.compare(experiment))


@contextmanager
def _needing_results(of: str) -> Iterator[None]:
    """A result that is not there yet is one clear line."""
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigurationError(f"{error.filename or error}: is missing; run {of} first") from None


@app.command()
def versus(
    files: Annotated[
        list[Path], typer.Argument(help="Finished experiments; the last search of the last is the baseline.")
    ],
    to: Annotated[Path, typer.Option(help="Folder for the page and its figures.")],
) -> None:
    """Hold several finished experiments against each other, for example two spaces."""
    from nas_lib.report.versus import write_versus

    with _needing_results("the experiment"):
        write_versus([load(file) for file in files], to)


@app.command()
def figures(file: File) -> None:
    """Draw the figures of an experiment as SVG and PDF."""
    from nas_lib.report.figures import write_figures

    write_figures(load(file))


@app.command()
def report(file: File) -> None:
    """Write the report of an experiment."""
    from nas_lib.report.page import write_report

    write_report(load(file))


def _refuse_others(*options: tuple[str, object, Collection[object]]) -> None:
    """Refuse values of options that are none of those allowed, one line each."""
    mistakes = [
        f"--{option}: found {found!r}, allowed is one of {[*allowed]}"
        for option, found, allowed in options
        if found not in allowed
    ]
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))


T = TypeVar("T")


def _unless_unavailable(track: Callable[[], T]) -> T | dict[str, str]:
    """What tracking gives; a server that is down is a warning, and what it said of itself."""
    from nas_lib.mlflow_store import TrackingUnavailable

    try:
        return track()
    except TrackingUnavailable as error:
        typer.echo(f"warning: {error}", err=True)
        return {"unavailable": str(error)}


def _track(sync: Callable[[], Synced], needed: str, done: Path | None) -> None:
    """Bring MLflow in line with a comparison; a file `done` is written with what became of it."""
    from nas_lib.layout import write_json

    with _needing_results(needed):
        became = _unless_unavailable(lambda: vars(sync()))
    if done is not None:
        write_json(done, became)


@app.command()
def tracking_store(file: File) -> None:
    """Prepare the MLflow store: migrate it and create the experiment."""
    from nas_lib import tracking

    _unless_unavailable(lambda: tracking.prepare(load(file)))


@app.command()
def track(
    file: File, done: Annotated[Path | None, typer.Option(help="Written with what became of it.")] = None
) -> None:
    """Bring MLflow in line with the results; a server that is down is a warning, not an error."""
    from nas_lib import tracking
    from nas_lib.layout import write_json

    experiment = load(file)

    def everything() -> dict[str, Any]:
        synced = vars(tracking.sync(experiment))
        tracking.log_report(experiment)
        return synced | {"model_versions": tracking.register(experiment)}

    became = _unless_unavailable(everything)
    if done is not None:
        write_json(done, became)


@app.command()
def watch(
    file: File,
    parent: Annotated[int, typer.Option(help="Process to live as long as.")],
    every: Annotated[float, typer.Option(help="Seconds between looks.")] = 2.0,
    cores: Annotated[int, typer.Option(min=1, help="Cores the workflow may use.")] = 1,
) -> None:
    """Show progress, and mirror finished candidates to MLflow, while another process runs the search."""
    from nas_lib import progress

    progress.watch(load(file), parent, every, cores=cores)


@app.command()
def progress(file: File) -> None:
    """Show how far an experiment is."""
    from nas_lib.progress import line, snapshot, total_line

    experiment = load(file)
    searches = snapshot(experiment)
    typer.echo("\n".join([*(line(search) for search in searches), total_line(experiment, searches)]))


# --- the laboratory --------------------------------------------------------------------------------

laboratory_app = typer.Typer(
    help="The search laboratory: strategies on problems whose every architecture is known.", no_args_is_help=True
)
app.add_typer(laboratory_app, name="laboratory")

LaboratoryFile = Annotated[
    Path, typer.Argument(help="The laboratory: its YAML file, or the laboratory.json of its results.")
]


def _laboratory(file: Path) -> Laboratory:
    from nas_lib.laboratory.settings import load

    return load(file)


@laboratory_app.command("validate")
def validate_laboratory(file: LaboratoryFile) -> None:
    """Check a configuration and read its tables; all mistakes at once."""
    laboratory = _laboratory(file)
    problems = laboratory.checked_problems()
    typer.echo(
        f"{file}: {len(problems)} problems x {len(laboratory.labels)} strategies x {len(laboratory.seeds)} seeds x "
        f"{laboratory.budget.evaluations} evaluations"
    )
    for label in laboratory.draws_alone:
        typer.echo(f"{label}: random draws alone, for its initial sample takes the whole budget")
    for title, problem in problems.items():
        members = f"{len(problem.front)} of them on the front" if problem.front is not None else "front unknown"
        size = f"{problem.space.size:,}" if problem.space.size < 10**9 else f"{problem.space.size:.1e}"
        typer.echo(
            f"{title}: {len(problem.space.genes)} genes, {size} architectures, {members}; "
            f"minimised: {', '.join(problem.objectives)}"
        )


@laboratory_app.command("schema")
def print_laboratory_schema() -> None:
    """Print the JSON schema of a laboratory's configuration, for editors."""
    from nas_lib.laboratory.settings import schema

    typer.echo(json.dumps(schema(), indent=2))


@laboratory_app.command("search")
def search_laboratory(
    file: LaboratoryFile,
    problem: Annotated[str, typer.Option(help="Name (title) of the problem.")],
    strategy: Strategy,
    seed: Seed,
) -> None:
    """Run one search."""
    laboratory = _laboratory(file)
    _refuse_others(
        ("problem", problem, laboratory.titles),
        ("strategy", strategy, laboratory.labels),
        ("seed", seed, laboratory.seeds),
    )
    _limit_threads(1)
    from nas_lib.laboratory.search import run_search

    run_search(laboratory, problem, strategy, seed)


@laboratory_app.command("compare")
def compare_laboratory(file: LaboratoryFile) -> None:
    """Compare the searches of a laboratory."""
    from nas_lib.laboratory.comparison import write_comparison

    with _needing_results("the searches"):
        write_comparison(_laboratory(file))


@laboratory_app.command("figures")
def draw_laboratory(file: LaboratoryFile) -> None:
    """Draw the figures of a laboratory as SVG and PDF, and write its tables."""
    from nas_lib.report.laboratory import write_figures

    with _needing_results("the searches"):
        write_figures(_laboratory(file))


@laboratory_app.command("report")
def report_laboratory(file: LaboratoryFile) -> None:
    """Write the report of a laboratory."""
    from nas_lib.report.laboratory import write_report

    with _needing_results("the searches"):
        write_report(_laboratory(file))


@laboratory_app.command("track")
def track_laboratory(
    file: LaboratoryFile, done: Annotated[Path | None, typer.Option(help="Written with what became of it.")] = None
) -> None:
    """Bring MLflow in line with the results; a server that is down is a warning, not an error."""
    from nas_lib.laboratory.tracking import sync

    laboratory = _laboratory(file)
    _track(lambda: sync(laboratory), "the searches", done)


# --- the study of predictors -----------------------------------------------------------------------

predictors_app = typer.Typer(
    help="The predictor study: how well predictors rank architectures they have not seen.", no_args_is_help=True
)
app.add_typer(predictors_app, name="predictors")

StudyFile = Annotated[
    Path, typer.Argument(help="The study: its YAML file, or the predictor_study.json of its results.")
]


def _study(file: Path) -> PredictorStudy:
    from nas_lib.predictor_study.settings import load

    return load(file)


@predictors_app.command("validate")
def validate_study(file: StudyFile) -> None:
    """Check a configuration and read its tables; all mistakes at once."""
    study = _study(file)
    problems = study.checked_problems()
    typer.echo(
        f"{file}: {len(problems)} problems x {len(study.predictors)} predictors x {len(study.sizes)} sizes x "
        f"{len(study.seeds)} seeds"
    )
    for title, problem in problems.items():
        typer.echo(f"{title}: {', '.join(study.objectives_of(problem))}")


@predictors_app.command("schema")
def print_study_schema() -> None:
    """Print the JSON schema of a study's configuration, for editors."""
    from nas_lib.predictor_study.settings import schema

    typer.echo(json.dumps(schema(), indent=2))


@predictors_app.command("measure")
def measure_predictors(
    file: StudyFile, problem: Annotated[str, typer.Option(help="Name (title) of the problem.")]
) -> None:
    """Measure all predictors on one problem; what is measured already is kept."""
    study = _study(file)
    _refuse_others(("problem", problem, study.titles))
    _limit_threads(1)
    from nas_lib.predictor_study.measure import run

    run(study, problem)


@predictors_app.command("figures")
def draw_study(file: StudyFile) -> None:
    """Draw the figures of a study as SVG and PDF, and write its tables."""
    from nas_lib.report.predictor_study import write_figures

    with _needing_results("the measurements"):
        write_figures(_study(file))


@predictors_app.command("page")
def report_study(file: StudyFile) -> None:
    """Write the report of a study."""
    from nas_lib.report.predictor_study import write_report

    with _needing_results("the measurements"):
        write_report(_study(file))


@predictors_app.command("track")
def track_study(
    file: StudyFile, done: Annotated[Path | None, typer.Option(help="Written with what became of it.")] = None
) -> None:
    """Bring MLflow in line with the results; a server that is down is a warning, not an error."""
    from nas_lib.predictor_study.tracking import sync

    study = _study(file)
    _track(lambda: sync(study), "the measurements", done)


# --- the study of scores ---------------------------------------------------------------------------

scores_app = typer.Typer(
    help="The score study: how well scores without training rank networks whose results are known.",
    no_args_is_help=True,
)
app.add_typer(scores_app, name="scores")

ScoresFile = Annotated[Path, typer.Argument(help="The study: its YAML file, or the score_study.json of its results.")]
BenchmarkTitle = Annotated[str, typer.Option("--benchmark", help="Name (title) of the benchmark.")]


def _scores(file: Path) -> ScoreStudy:
    from nas_lib.score_study.settings import load

    return load(file)


@scores_app.command("validate")
def validate_scores(file: ScoresFile) -> None:
    """Check a configuration and read its tables; all mistakes at once."""
    study = _scores(file)
    benchmarks = study.checked_benchmarks()
    typer.echo(f"{file}: {len(benchmarks)} benchmarks x {len(study.names)} scores x {len(study.seeds)} seeds")
    for title, benchmark in benchmarks.items():
        typer.echo(f"{title}: {len(benchmark.networks):,} networks, {benchmark.quantity}, {benchmark.better} is better")


@scores_app.command("schema")
def print_scores_schema() -> None:
    """Print the JSON schema of a study's configuration, for editors."""
    from nas_lib.score_study.settings import schema

    typer.echo(json.dumps(schema(), indent=2))


@scores_app.command("measure")
def measure_scores(
    file: ScoresFile, benchmark: BenchmarkTitle, job: Annotated[int, typer.Option(help="Job, from 0.")]
) -> None:
    """Score one job's share of the networks of a benchmark; what is scored already is kept."""
    study = _scores(file)
    _refuse_others(("benchmark", benchmark, study.titles), ("job", job, range(study.jobs)))
    _limit_threads(1)
    from nas_lib.score_study.measure import run

    run(study, benchmark, job)


@scores_app.command("costs")
def measure_costs(file: ScoresFile, benchmark: BenchmarkTitle) -> None:
    """Measure what each score costs alone."""
    study = _scores(file)
    _refuse_others(("benchmark", benchmark, study.titles))
    _limit_threads(1)
    from nas_lib.score_study.measure import time_alone

    time_alone(study, benchmark)


@scores_app.command("analyse")
def analyse_scores(file: ScoresFile, benchmark: BenchmarkTitle) -> None:
    """Join what the jobs of a benchmark scored, and correlate it with what was measured."""
    study = _scores(file)
    _refuse_others(("benchmark", benchmark, study.titles))
    _limit_threads(1)
    from nas_lib.score_study.analysis import write_analysis

    with _needing_results("the measurements"):
        write_analysis(study, benchmark)


@scores_app.command("figures")
def draw_scores(file: ScoresFile) -> None:
    """Draw the figures of a study as SVG and PDF, and write its tables."""
    from nas_lib.report.score_study import write_figures

    with _needing_results("the measurements"):
        write_figures(_scores(file))


@scores_app.command("page")
def report_scores(file: ScoresFile) -> None:
    """Write the report of a study."""
    from nas_lib.report.score_study import write_report

    with _needing_results("the measurements"):
        write_report(_scores(file))


@scores_app.command("track")
def track_scores(
    file: ScoresFile, done: Annotated[Path | None, typer.Option(help="Written with what became of it.")] = None
) -> None:
    """Bring MLflow in line with the results; a server that is down is a warning, not an error."""
    from nas_lib.score_study.tracking import sync

    study = _scores(file)
    _track(lambda: sync(study), "the measurements", done)
