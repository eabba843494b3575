import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake_interface_logger_plugins.common import LogEvent

from nas_lib.experiment import (
    ATTEMPTS,
    ConfigurationError,
    Experiment,
    changed_since,
    load_merged,
)
from nas_lib.layout import write_json
from nas_lib.report.figures import figure_names

DEFAULT_CONFIGURATION = "config/digits.yaml"
ENVIRONMENT = "../../environment.yml"

# Rules call `python`: the one that runs this workflow, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))
EVERY_JOB = {
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.SHELLCMD,
    LogEvent.PROGRESS,
    LogEvent.RESOURCES_INFO,
}

# A chain of rounds is as deep as it is long, and Snakemake follows it by recursion.
sys.setrecursionlimit(100_000)


def read_experiment() -> Experiment:
    """The experiment of --configfile, or the default one; --config overrides single keys of either."""
    given = [Path(file) for file in workflow.overwrite_configfiles or [DEFAULT_CONFIGURATION]]
    files = [file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file for file in given]
    try:
        experiment = load_merged(files, workflow.config_settings.config)
        stored = experiment.folder.configuration
        if stored.exists() and (changed := changed_since(experiment, json.loads(stored.read_text()))):
            raise ConfigurationError(
                f"{', '.join(map(str, files))}: {experiment.folder.path} holds results made with another {', '.join(changed)}; "
                "give the experiment a new name (`experiment:`), or remove that folder"
            )
    except ConfigurationError as error:
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
RETRIES = (ATTEMPTS - 1) * -(-EXPERIMENT.budget.proposals // EXPERIMENT.budget.jobs)
OF_SEARCH = "--strategy {wildcards.strategy:q} --seed {wildcards.seed}"
OF_JOB = "--threads {threads} --attempt {resources.attempt}"


def step(name: str, *options: str) -> str:
    """The shell command of a step: the same words that start it by hand."""
    return " ".join(["python -m nas_lib", name, shlex.quote(str(FILE)), *options, "> {log:q} 2>&1"])


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


def caption_of(figure: str) -> str:
    """The caption of a figure in Snakemake's own report."""
    kind = "graph" if figure.startswith("graph-") else Path(figure).stem
    return f"../report/{kind}.rst"


def every_job(wildcards):
    """The evaluations of all rounds, in ascending order: an earlier round is then planned before a later one."""
    folder = FOLDER.search(wildcards.strategy, wildcards.seed)
    return [folder.job(round, job) for round in ROUNDS for job in JOBS]


def clear_stale_lock() -> None:
    """Remove the directory lock that a killed snakemake left behind.

    Every snakemake that executes here holds a shared lock, which the operating system frees when it dies. Whoever gets it
    exclusively is alone, so that Snakemake's own locks in this folder are nobody's.
    """
    global _alive
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    _alive = open(folder / "alive.lock", "w")
    try:
        fcntl.flock(_alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        for stale in (folder / "locks").glob("*.lock"):
            stale.unlink()
    fcntl.flock(_alive, fcntl.LOCK_SH)


def retry_tracking() -> None:
    """Try again to bring MLflow in line where its server was down at the end of an earlier run."""
    if FOLDER.tracking.exists() and "unavailable" in json.loads(FOLDER.tracking.read_text()):
        FOLDER.tracking.unlink()


if workflow.is_main_process and not workflow.dryrun:
    clear_stale_lock()
    retry_tracking()


def about_the_whole(record) -> bool:
    """Whether a message of Snakemake's is about more than a single job."""
    return getattr(record, "event", None) not in EVERY_JOB and not record.getMessage().startswith("Select jobs")


def begin() -> None:
    """Store the experiment for the commands of the rules, and show progress while they run.

    Progress takes the place of Snakemake's messages about every single job; they stay in its log file, and
    `--printshellcmds` brings them back.
    """
    if not workflow.output_settings.printshellcmds:
        for handler in workflow.logger_manager.logger.handlers:
            if handler.name == "DefaultStreamHandler":
                handler.addFilter(about_the_whole)
    content = json.loads(EXPERIMENT.model_dump_json())
    if not FILE.exists() or json.loads(FILE.read_text()) != content:
        write_json(FILE, content)
    subprocess.Popen(
        [
            sys.executable,
            "-m",
            "nas_lib",
            "watch",
            FILE,
            "--parent",
            str(os.getpid()),
            "--cores",
            str(workflow.cores),
        ]
    )


def farewell() -> str:
    """Where the results are."""
    if not FOLDER.tracking.exists() or not FOLDER.report.exists():
        return "\nDone."
    uri = EXPERIMENT.tracking_uri
    local = f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1"
    missing = json.loads(FOLDER.tracking.read_text()).get("unavailable")
    runs = f"not up to date: {missing}" if missing else uri if uri.startswith("http") else local
    return f"\nReport:  {FOLDER.report}\nMLflow:  {runs}\n"
