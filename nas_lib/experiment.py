"""The configuration of an experiment: one YAML file, validated as a whole before anything runs."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from pydantic import Field, StrictInt, field_validator, model_validator

from nas_lib.configuration import (
    ConfigurationError,
    Name,
    ResultsFolder,
    checked,
    folder_mistake,
    named,
    nearest,
    read,
    refuse_other_kind,
    valid_sections,
)
from nas_lib.evaluation.objectives import MEASURES, Constraint, Objective, scores_among
from nas_lib.evaluation.settings import Latency, Resources, Scoring, Training
from nas_lib.layout import ExperimentFolder
from nas_lib.scores.names import NAMES
from nas_lib.settings import Settings
from nas_lib.spaces import Space, SpaceSettings
from nas_lib.strategies import StrategySettings, asked_scores, content_of, impossible, other_count
from nas_lib.strategies.request import Plan
from nas_lib.tasks import TaskSettings, training_defaults
from nas_lib.tasks.sequences import SequenceTask

ATTEMPTS = 4
"""Times a candidate whose process dies without finishing an epoch is tried before it is recorded as failed."""

LATER = frozenset({"steps", "optimizer", "schedule", "plateau_factor", "keep_best", "early_stop"})
"""Settings of a training that searches begun before there were any do not name."""


class Budget(Settings):
    """How much one search may spend."""

    rounds: StrictInt = Field(default=5, ge=1)
    """Rounds of propose and evaluate."""
    proposals: StrictInt = Field(default=4, ge=1)
    """Candidates per round."""
    draws: StrictInt = Field(default=1, ge=1)
    """Candidates drawn from each generator that a strategy proposes, which is then asked for proposals / draws
    generators a round. Shows how much the networks of one generator differ."""
    jobs: StrictInt = Field(default=2, ge=1)
    """Jobs that share the candidates of a round: as many as there are workers."""
    lag: StrictInt = Field(default=1, ge=1)
    """The proposals of round r are made from the rounds up to r - lag. 2 keeps workers busy while the slowest
    candidate of the round before still trains. 1, or less than `rounds`."""
    epochs: StrictInt = Field(default=5, ge=1)
    """Epochs a candidate is trained for."""
    total_epochs: StrictInt | None = Field(default=None, ge=1)
    """Epochs after which a search proposes nothing more, those of all candidates together: for comparisons at equal
    cost of strategies that train for different numbers of epochs. Default: no limit but rounds x proposals."""
    time_limit: float | None = Field(default=None, gt=0)
    """Seconds after which a training is stopped and recorded as failed. Default: no limit."""
    inline: bool = False
    """Run each search in one process instead of one job per worker and round: for candidates that cost less
    than starting a process. The history is the same."""

    @model_validator(mode="after")
    def _jobs_within_proposals(self) -> Self:
        if self.jobs > self.proposals:
            raise ValueError(f"jobs is {self.jobs}, allowed is at most proposals, which is {self.proposals}")
        return self

    @model_validator(mode="after")
    def _whole_generators(self) -> Self:
        if self.proposals % self.draws:
            raise ValueError(f"proposals is {self.proposals}, allowed is a multiple of draws, which is {self.draws}")
        return self

    @model_validator(mode="after")
    def _lag_within_rounds(self) -> Self:
        most = max(1, self.rounds - 1)
        if self.lag > most:
            why = f", one less than rounds, which is {self.rounds}" if self.rounds > 1 else ""
            raise ValueError(f"lag is {self.lag}, allowed is at most {most}{why}")
        return self

    @property
    def evaluations(self) -> int:
        """Candidates of one search."""
        return self.rounds * self.proposals

    @property
    def plan(self) -> Plan:
        """What strategies know of it."""
        return Plan(self.rounds, proposals=self.proposals // self.draws, lag=self.lag, epochs=self.epochs)


class Finalists(Settings):
    """Members of each search's front that are retrained from scratch and tested."""

    count: StrictInt = Field(default=3, ge=0)
    """How many per search; fewer when the front is smaller. 0: none."""
    draws: StrictInt = Field(default=1, ge=1)
    """Networks of each finalist: the one that the search chose, and fresh draws of the same generator."""
    repeats: StrictInt = Field(default=2, ge=1)
    """Trainings of each network, with different seeds."""
    epochs: StrictInt = Field(default=20, ge=1)
    """Epochs of each training: of images on the training and validation images together, of sequences on the training
    split."""
    training: Training | None = None
    """How finalists are trained, a whole section of its own: keys that are not given have their usual defaults.
    Default: as the candidates."""

    @property
    def trainings(self) -> int:
        """Trainings of each finalist."""
        return self.draws * self.repeats


class Transfer(Settings):
    """A second data set, on which the finalists of every search are trained from scratch and tested once."""

    task: TaskSettings
    """The second data set; not that of the search."""
    repeats: StrictInt = Field(default=2, ge=1)
    """Trainings of each finalist, with different seeds."""
    epochs: StrictInt = Field(default=20, ge=1)
    """Epochs of each training: of images on the training and validation images together, of sequences on the training
    split."""
    training: Training | None = None
    """How they are trained. Default: as on the first data set."""


class Tracking(Settings):
    """Where runs appear in MLflow."""

    uri: str | None = None
    """Any MLflow tracking URI: a SQLite file, or the address of a server. Default: `mlflow.db` in `results`."""

    def uri_for(self, results: str) -> str:
        """Where MLflow keeps the runs of what lies in the folder `results`."""
        return self.uri or f"sqlite:///{results}/mlflow.db"


class Experiment(Settings):
    """Everything about one experiment."""

    kind: ClassVar[str] = "experiment"

    experiment: Name
    """Name of the experiment: its folder under `results` and its name in MLflow."""
    description: str = ""
    """A sentence for the report."""
    results: ResultsFolder = "results"
    """Folder of all results."""
    task: TaskSettings
    """The data set."""
    space: SpaceSettings
    """What architectures exist."""
    strategies: tuple[StrategySettings, ...] = Field(min_length=1)
    """Search strategies, compared on equal terms; the last ones may be baselines such as `random`."""
    objectives: tuple[Objective, ...] = Field(min_length=1)
    """What is minimised, `error` first by custom."""
    constraints: tuple[Constraint, ...] = ()
    """Limits that candidates have to keep, for example `{name: parameters, at_most: 50000}`. A trained candidate that
    breaks one is infeasible: strategies learn from it, but it is on no front. Default: none."""
    budget: Budget = Budget()
    """How much each search may spend."""
    training: Training = Training()
    """How candidates are trained, and finalists unless they have a section of their own. Tasks of sequences have
    defaults of their own."""
    latency: Latency = Latency()
    """How latency is measured."""
    scoring: Scoring = Scoring()
    """On what networks are scored without training."""
    seeds: tuple[StrictInt, ...] = Field(default=(1,), min_length=1)
    """One search per strategy and seed."""
    finalists: Finalists = Finalists()
    """What happens to the fronts."""
    transfer: Transfer | None = None
    """A second data set the finalists are carried to. Default: none."""
    resources: Resources = Resources()
    """What one job may use: CPU threads and devices."""
    tracking: Tracking = Tracking()
    """The MLflow store that shows every run."""

    @field_validator("space", mode="before")
    @classmethod
    def _a_space_without_name_is_one_of_generators(cls, value: object) -> object:
        return {"name": "generator", **value} if isinstance(value, dict) else value

    @field_validator("strategies", "objectives", mode="before")
    @classmethod
    def _names_are_enough(cls, value: object) -> object:
        return named(value)

    @field_validator("strategies")
    @classmethod
    def _labels_differ(cls, strategies: tuple[StrategySettings, ...]) -> tuple[StrategySettings, ...]:
        labels = [label_of(strategy) for strategy in strategies]
        for label in labels:
            if mistake := folder_mistake(label):
                raise ValueError(f"label {mistake}")
        if len(set(labels)) < len(labels):
            raise ValueError(f"{labels} repeats a name: give each entry its own `label`")
        return strategies

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[StrictInt, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)} repeats a seed, allowed are different ones")
        return seeds

    @field_validator("objectives")
    @classmethod
    def _objectives_differ(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = [objective.name for objective in objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"{names} repeats an objective, allowed are different ones")
        return objectives

    @field_validator("constraints")
    @classmethod
    def _constraints_differ(cls, constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        names = [constraint.name for constraint in constraints]
        if len(set(names)) < len(names):
            raise ValueError(f"{names} limits a figure twice, allowed are different ones")
        return constraints

    @property
    def folder(self) -> ExperimentFolder:
        """Where its files lie."""
        return ExperimentFolder(Path(self.results) / self.experiment)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps the runs."""
        return self.tracking.uri_for(self.results)

    @property
    def labels(self) -> list[str]:
        """Names of the searches, one per strategy."""
        return [label_of(strategy) for strategy in self.strategies]

    @property
    def objective_names(self) -> list[str]:
        """What is minimised, in order."""
        return [objective.name for objective in self.objectives]

    @property
    def measure(self) -> str:
        """What tells how good a network is: the first objective that the task measures on a split; else `error`."""
        return next(
            (name for name in self.objective_names if name in MEASURES.intersection(self.task.measures)), "error"
        )

    @property
    def limits(self) -> dict[str, float]:
        """Constrained figure -> its largest allowed value."""
        return {constraint.name: constraint.at_most for constraint in self.constraints}

    @property
    def finalist_training(self) -> Training:
        """How finalists are trained: by a section of their own, or as the candidates."""
        return self.finalists.training or self.training

    @property
    def carried(self) -> Self:
        """This experiment with the second data set in place of the first: what `transfer` trains finalists for.

        Raises:
            ConfigurationError: there is no `transfer`.
        """
        if self.transfer is None:
            raise ConfigurationError("transfer: missing; name a second data set to carry finalists to")
        settings = {"draws": 1, "repeats": self.transfer.repeats, "epochs": self.transfer.epochs, "training": None}
        return self.model_copy(
            update={
                "task": self.transfer.task,
                "training": self.transfer.training or self.finalist_training,
                "finalists": self.finalists.model_copy(update=settings),
            }
        )

    @property
    def architectures(self) -> Space:
        """The space, by what it offers."""
        return cast(Space, self.space)

    def strategy(self, label: str) -> StrategySettings:
        """The strategy of a name in `labels`."""
        return self.strategies[self.labels.index(label)]


def label_of(strategy: StrategySettings) -> str:
    """The name a strategy's search has in folders, tables and plots."""
    return strategy.label or strategy.name


def load(path: Path) -> Experiment:
    """The experiment a YAML or JSON file describes.

    Raises:
        ConfigurationError: all mistakes of the file, one line each.
    """
    return parse(read(path), str(path))


def parse(content: object, source: str) -> Experiment:
    """The experiment that plain data describes; `source` names where the data comes from.

    Raises:
        ConfigurationError: all mistakes, one line each: source, path of the key, what was found, what is allowed.
    """
    refuse_other_kind(content, "experiment", source)
    content = _with_defaults_of_tasks(content)
    experiment, mistakes = checked(Experiment, content, source)
    sections = valid_sections(Experiment, cast(Mapping[str, Any], content))
    mistakes += [*_impossible_combinations(sections), *_unknown_scores(sections)]
    if "task" in sections:
        mistakes += [*_other_modality(sections), *_impossible_trainings(sections)]
    if mistakes or experiment is None:
        raise ConfigurationError("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return experiment


def _with_defaults_of_tasks(content: object) -> object:
    """Every section of training with the defaults of its task in place of what it does not say."""
    if not isinstance(content, Mapping):
        return content

    def filled(training: object, task: object) -> object:
        defaults = training_defaults(task.get("name")) if isinstance(task, Mapping) else {}
        return {**defaults, **training} if isinstance(training, Mapping) else training

    task = content.get("task")
    found = dict(content) | {"training": filled(content.get("training", {}), task)}
    for section in ("finalists", "transfer"):
        inside = found.get(section)
        if isinstance(inside, Mapping) and "training" in inside:
            its = inside.get("task") if section == "transfer" else task
            found[section] = {**inside, "training": filled(inside["training"], its)}
    return found


def _impossible_combinations(sections: Mapping[str, Any]) -> Iterable[str]:
    def known(*keys: str) -> bool:
        return all(key in sections for key in keys)

    if known("budget", "finalists") and sections["finalists"].count > sections["budget"].evaluations:
        evaluations = sections["budget"].evaluations
        yield (
            f"finalists.count: found {sections['finalists'].count}, allowed is at most the {evaluations} candidates "
            "of the budget (rounds x proposals)"
        )
    transfer = sections.get("transfer")
    if transfer and known("task") and transfer.task.source == sections["task"].source:
        yield f"transfer.task: found {transfer.task.source!r}, the data of the search; allowed is other data"
    if transfer and known("finalists") and not sections["finalists"].count:
        yield "transfer: finalists.count is 0, so there is nothing to carry; allowed is 1 or more"
    for section in ("budget", "finalists"):
        if known("space", section) and sections[section].draws > 1 and "redraw" not in sections["space"].operators():
            yield (
                f"{section}.draws: found {sections[section].draws}, allowed is 1 for the space "
                f"{sections['space'].name!r}, which does not offer the operator redraw"
            )
    for index, strategy in enumerate(sections.get("strategies", ())):
        where = f"strategies.{index} ({strategy.name})"
        if known("budget") and sections["budget"].draws > 1 and strategy.keeps_weights:
            yield (
                f"budget.draws: found {sections['budget'].draws}, allowed is 1 with {where}, "
                "which continues the trainings of single networks"
            )
        if known("space"):
            space = sections["space"]
            missing = sorted(strategy.needs - space.operators())
            if missing:
                yield (
                    f"{where}: needs the operator {', '.join(missing)}, which the space {space.name!r} does not offer "
                    f"with these settings; it offers {', '.join(sorted(space.operators()))}"
                )
        if known("budget") and (reason := impossible(strategy, sections["budget"].plan)):
            yield f"{where}: {reason}"
        if known("objectives"):
            count = len(sections["objectives"])
            if allowed := other_count(strategy, count):
                yield f"{where}: the number of objectives is {count}, allowed is {allowed}"


def _unknown_scores(sections: Mapping[str, Any]) -> Iterable[str]:
    for index, strategy in enumerate(sections.get("strategies", ())):
        for name in asked_scores(strategy):
            if name not in NAMES:
                found = f"found the score {name!r}{nearest(name, NAMES)}"
                yield f"strategies.{index} ({strategy.name}): {found}, allowed are {', '.join(NAMES)}"


def misfit(space: SpaceSettings, task: TaskSettings) -> str | None:
    """Why networks of a space cannot be used for a task, None where they can."""
    if space.modality != task.modality:
        return f"{space.name!r} makes networks for {space.modality}, the task {task.name!r} has {task.modality}"
    if isinstance(task, SequenceTask) and task.stepwise and "whole" in space.operators():
        return (
            f"{task.name!r} asks for an answer at every step, but networks of the space {space.name!r} read a sequence "
            "as a whole; allowed is a task with one answer for each, such as labelled-text"
        )
    return None


def _other_modality(sections: Mapping[str, Any]) -> Iterable[str]:
    """What does not go with the kind of data of the task: images or sequences."""
    task, space, transfer = sections["task"], sections.get("space"), sections.get("transfer")
    if space and space.modality != task.modality:
        yield f"space: {misfit(space, task)}"
    for where, its in (("task", task), ("transfer.task", transfer and transfer.task)):
        if space and its and its.modality == space.modality and (mistake := misfit(space, its)):
            yield f"{where}: {mistake}"
    if transfer and transfer.task.modality != task.modality:
        yield (
            f"transfer.task: found {transfer.task.name!r} with {transfer.task.modality}, allowed is a task with "
            f"{task.modality}, as the search has"
        )
    for section in ("objectives", "constraints"):
        for index, entry in enumerate(sections.get(section, ())):
            if entry.name in MEASURES - {*task.measures}:
                yield (
                    f"{section}.{index}.name: the task {task.name!r} has no {entry.name}, allowed is "
                    f"{', '.join(task.measures)} or a cost"
                )
            if entry.name == "blocks" and space and "size" not in space.operators():
                yield f"{section}.{index}.name: found 'blocks', which the space {space.name!r} does not count"


def _impossible_trainings(sections: Mapping[str, Any]) -> Iterable[str]:
    """Settings of training that the data have no use for, or that need what is not there."""
    task, transfer, budget = sections["task"], sections.get("transfer"), sections.get("budget")
    space = sections.get("space")
    finalists = sections.get("finalists")
    trainings = [("training", sections.get("training"), task)]
    trainings += [("finalists.training", finalists and finalists.training, task)]
    trainings += [("transfer.training", transfer and transfer.training, transfer and transfer.task)]
    for where, training, its in trainings:
        if training is None:
            continue
        for key in ("crop_padding", "horizontal_flip", "cutout"):
            if its.modality != "images" and getattr(training, key):
                yield f"{where}.{key}: found {getattr(training, key)}, allowed with {its.modality} is none"
        if "perplexity" not in its.measures and training.steps != type(training).model_fields["steps"].default:
            yield f"{where}.steps: found {training.steps}, which is of running text only; the task is {its.name!r}"
        rule = training.early_stop
        if rule and where != "training":
            yield f"{where}.early_stop: nothing inherits weights here, allowed is none"
        elif rule and space and "inherit" not in space.operators():
            without = " with `inheritance: none`" if "inheritance" in type(space).model_fields else ""
            yield f"{where}.early_stop: the space {space.name!r}{without} lets nothing inherit weights, allowed is none"
        if rule and rule.figure not in its.measures:
            allowed = ", ".join(its.measures)
            yield f"{where}.early_stop.figure: the task {its.name!r} has no {rule.figure}, allowed is {allowed}"
        if rule and budget and rule.short_epochs > budget.epochs:
            found = f"{where}.early_stop.short_epochs: found {rule.short_epochs}"
            yield f"{found}, allowed is at most budget.epochs, which is {budget.epochs}"
    if not finalists or not finalists.count or task.finalists_validate:
        return
    where, training, _ = trainings[1] if finalists.training else trainings[0]
    needing = {"schedule": "plateau", "keep_best": True}
    for key in [key for key, value in needing.items() if training and getattr(training, key) == value]:
        yield (
            f"{where}.{key}: found {getattr(training, key)!r}, which needs validation data; finalists of {task.name!r} "
            "are trained on these too, so give them a `training` of their own"
        )


def schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    return Experiment.model_json_schema()


def settings_of(experiment: Experiment, label: str) -> dict[str, object]:
    """What decides which candidates a search tries and what comes of them; stored with the search.

    Rounds, jobs, seeds, other strategies, finalists and where things lie may change: results are then continued.
    """
    content = json.loads(experiment.model_dump_json())
    names = [objective["name"] for objective in content["objectives"]]
    settings: dict[str, object] = {
        "task": {key: value for key, value in content["task"].items() if key not in {"folder", "path"}},
        "space": content["space"],
        f"strategies ({label})": content_of(experiment.strategy(label)),
        "objectives": names,
        "constraints": experiment.limits,
        "training": _deciding(content["training"]),
        "finalists.training": _deciding(content["finalists"]["training"] or {}),
        "resources.threads": content["resources"]["threads"],
    }
    decisive = ("proposals", "draws", "lag", "epochs", "total_epochs", "time_limit")
    settings |= {f"budget.{key}": content["budget"][key] for key in decisive}
    if "latency" in {*names, *experiment.limits}:
        settings["latency"] = content["latency"]
    if asked_scores(experiment.strategy(label)) or scores_among(names):
        settings["scoring"] = content["scoring"]
    return settings


def _deciding(training: Mapping[str, object]) -> dict[str, object]:
    """The settings of a training that decide its result; later keys only where they say something."""
    return {
        key: value
        for key, value in training.items()
        if key != "checkpoint_seconds" and not (key in LATER and value == Training.model_fields[key].default)
    }


def refuse_other_settings(experiment: Experiment, source: str) -> None:
    """Refuse to continue searches that were begun with settings which make their candidates incomparable.

    Raises:
        ConfigurationError: one line per search with the keys that differ.
    """
    mistakes = []
    for label in experiment.labels:
        for seed in experiment.seeds:
            stored = experiment.folder.search(label, seed).settings
            if not stored.exists():
                continue
            before, now = json.loads(stored.read_text()), settings_of(experiment, label)
            changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            if changed:
                mistakes.append(
                    f"{source}: {stored.parent} holds results made with another {', '.join(changed)}; "
                    "give the experiment a new name (`experiment:`), or remove that folder"
                )
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
