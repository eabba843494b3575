"""Neural architecture search: from a data set to a Pareto front of networks, retrained, tested and explained.

Without --configfile the experiment of config/digits.yaml runs.
"""


include: "workflow/rules/common.smk"
include: "workflow/rules/session.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/finalists.smk"
include: "workflow/rules/report.smk"


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
