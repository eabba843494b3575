"""Neural architecture search: from a data set to a Pareto front of networks, retrained, tested and explained.

A configuration with the key `experiment` is that; one with the key `laboratory` compares strategies on tables,
one with the key `predictor_study` compares predictors, one with the key `score_study` scores without training.
Without --configfile the experiment of config/digits.yaml runs.
"""


include: "workflow/rules/common.smk"
include: "workflow/rules/session.smk"
include: f"workflow/rules/{KIND}.smk"


rule all:
    default_target: True
    input:
        FOLDER.report,
        FOLDER.tracking,
    localrule: True


onstart:
    begin()


onsuccess:
    print(farewell())


onerror:
    print(f"Not everything is done, and nothing is lost: the same command continues. Logs: {LOGS}")
