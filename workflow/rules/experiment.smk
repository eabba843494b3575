import json
import subprocess

from nas_lib.experiment import ATTEMPTS
from nas_lib.report.figures import figure_names
from nas_lib.report.tables import table_names
from nas_lib.strategies import asked_scores

EXPERIMENT = CONFIGURATION
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


def data_needed(wildcards):
    """The data check, before proposals that are chosen by scores of networks on data."""
    return [FOLDER.data] if asked_scores(EXPERIMENT.strategy(wildcards.strategy)) else []


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


def clear_away() -> None:
    """Evaluations of a round whose proposals are gone are made anew."""
    for search in SEARCHES:
        for round in ROUNDS:
            if not search.proposals(round).exists():
                for job in search.round(round).glob("job-*.jsonl"):
                    job.unlink()


def before_jobs() -> None:
    """Show progress, and mirror finished candidates, in a process beside this one."""
    watch = [sys.executable, "-m", "nas_lib", "watch", FILE, "--parent", str(os.getpid())]
    subprocess.Popen([*watch, "--cores", str(workflow.cores)])


if will_run():
    clear_away()


include: "prepare.smk"
include: "search.smk"
include: "finalists.smk"
include: "report.smk"
