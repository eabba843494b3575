import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from nas_lib.experiment import ATTEMPTS, Experiment, load_merged, refuse_other_settings
from nas_lib.report.figures import figure_names
from nas_lib.report.tables import table_names
from nas_lib.settings import UserError

DEFAULT_CONFIGURATION = "config/digits.yaml"
ENVIRONMENT = "../../environment.yml"

# Rules call `python`: the one that runs this workflow, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

# A chain of rounds is as deep as it is long, and Snakemake follows it by recursion.
sys.setrecursionlimit(100_000)


def read_experiment() -> Experiment:
    """The experiment of --configfile, or the default one; --config overrides single keys of either."""
    given = [Path(file) for file in workflow.overwrite_configfiles or [DEFAULT_CONFIGURATION]]
    files = [file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file for file in given]
    try:
        experiment = load_merged(files, workflow.config_settings.config)
        refuse_other_settings(experiment, " + ".join(map(str, files)))
    except UserError as error:
        raise WorkflowError(f"The configuration is wrong:\n{error}") from None
    return experiment


EXPERIMENT = read_experiment()
FOLDER = EXPERIMENT.folder
FILE = FOLDER.configuration
LOGS = FOLDER.path / "logs"
ROUNDS = range(EXPERIMENT.budget.rounds)
JOBS = range(EXPERIMENT.budget.jobs)
RANKS = range(EXPERIMENT.finalists.count)
SEARCH = FOLDER.search("{strategy}", "{seed}")
SEARCHES = [FOLDER.search(label, seed) for seed in EXPERIMENT.seeds for label in EXPERIMENT.labels]
MODELS = [search.export(rank) for search in SEARCHES for rank in RANKS]
TRANSFERS = [search.transfer(rank) for search in SEARCHES for rank in RANKS if EXPERIMENT.transfer]
CANDIDATES_OF_A_JOB = -(-EXPERIMENT.budget.proposals // EXPERIMENT.budget.jobs)
OF_SEARCH = "--strategy {wildcards.strategy:q} --seed {wildcards.seed}"
OF_JOB = "--threads {threads} --attempt {resources.attempt}"


GPU_SLOTS = EXPERIMENT.resources.gpu_slots_here

# More jobs than slots would only wait for a device. On a cluster the nodes have devices of their own.
if workflow.is_main_process and workflow.local_exec and GPU_SLOTS and "gpu_slots" not in workflow.global_resources:
    workflow.register_resource("gpu_slots", GPU_SLOTS)


def step(name: str, *options: str) -> str:
    """The shell command of a step: the same words that start it by hand."""
    return " ".join(["python -m nas_lib", name, shlex.quote(str(FILE)), *options, ">> {log:q} 2>&1"])


wildcard_constraints:
    strategy="|".join(map(re.escape, EXPERIMENT.labels)),
    seed=r"-?\d+",
    round=r"\d+",
    job=r"\d+",
    rank=r"\d+",


def proposals_needed(wildcards):
    """Files the proposals of a round are made from: evaluations up to round - lag, proposals since."""
    folder = FOLDER.search(wildcards.strategy, wildcards.seed)
    round = int(wildcards.round)
    known = round - EXPERIMENT.budget.lag
    return [folder.proposals(round - 1)] * (round > 0) + [folder.job(known, job) for job in JOBS if known >= 0]


def urgency(wildcards):
    """Priority of a round: the earlier ones first, for with a lag above 1 they are what later proposals wait for."""
    return len(ROUNDS) - int(wildcards.round)


def caption_of(figure: str) -> str:
    """The caption of a figure in Snakemake's own report."""
    kind = re.sub("^(graph|levels)-.*", r"\1", Path(figure).stem)
    return f"../report/{kind}.rst"


def every_job(wildcards):
    """The evaluations of all rounds, in ascending order: an earlier round is then planned before a later one."""
    folder = FOLDER.search(wildcards.strategy, wildcards.seed)
    return [folder.job(round, job) for round in ROUNDS for job in JOBS]
