import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from nas_lib import experiment
from nas_lib.configuration import KINDS, read_merged
from nas_lib.experiment import Experiment
from nas_lib.laboratory import settings as laboratory
from nas_lib.laboratory.settings import Laboratory
from nas_lib.predictor_study import settings as predictor_study
from nas_lib.predictor_study.settings import PredictorStudy
from nas_lib.score_study import settings as score_study
from nas_lib.score_study.settings import ScoreStudy
from nas_lib.settings import UserError

DEFAULT_CONFIGURATION = "config/digits.yaml"
ENVIRONMENT = "../../environment.yml"
COMPARISONS = {"laboratory": laboratory, "predictor_study": predictor_study, "score_study": score_study}

# Rules call `python`: the one that runs this workflow, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

# A chain of rounds is as deep as it is long, and Snakemake follows it by recursion.
sys.setrecursionlimit(100_000)


def read_configuration() -> Experiment | Laboratory | PredictorStudy | ScoreStudy:
    """What --configfile describes, or the default experiment; --config overrides single keys of it."""
    given = [Path(file) for file in workflow.overwrite_configfiles or [DEFAULT_CONFIGURATION]]
    files = [file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file for file in given]
    try:
        content, source = read_merged(files, workflow.config_settings.config)
        for kind, its in COMPARISONS.items():
            if isinstance(content, dict) and kind in content:
                found = its.parse(content, source)
                found.refuse_missing_tables()
                return found
        found = experiment.parse(content, source)
        experiment.refuse_other_settings(found, source)
    except UserError as error:
        raise WorkflowError(f"The configuration is wrong:\n{error}") from None
    return found


CONFIGURATION = read_configuration()
KIND = CONFIGURATION.kind
FOLDER = CONFIGURATION.folder
FILE = FOLDER.configuration
LOGS = FOLDER.path / "logs"

for other in KINDS.keys() - {KIND}:
    if FILE.with_name(f"{other}.json").exists():
        raise WorkflowError(f"{FOLDER.path} holds the results of one {other}; give this {KIND} another name")


def step(name: str, *options: str) -> str:
    """The shell command of a step: the same words that start it by hand."""
    return " ".join([KINDS[KIND], name, shlex.quote(str(FILE)), *options, ">> {log:q} 2>&1"])
