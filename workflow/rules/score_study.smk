from nas_lib.report.score_study import TABLES, figure_names

STUDY = CONFIGURATION
ANALYSES = [FOLDER.analysis(title) for title in STUDY.titles]
COSTS = [FOLDER.costs(title) for title in STUDY.titles]


wildcard_constraints:
    benchmark="|".join(map(re.escape, STUDY.titles)),
    job=r"\d+",


def before_jobs() -> None:
    """Read all tables before the first measurement, instead of failing at one of them hours later."""
    try:
        STUDY.checked_benchmarks()
    except UserError as error:
        raise WorkflowError(f"Not everything can be scored:\n{error}") from None


# The networks of a benchmark are shared out among jobs. Their journals are no outputs, so a job that is killed or asked
# for more goes on where it was.
rule measure:
    input:
        lambda wildcards: STUDY.tables_of(wildcards.benchmark),
    output:
        FOLDER.share("{benchmark}", "{job}"),
    log:
        LOGS / "{benchmark}/job-{job}.log",
    benchmark:
        FOLDER.benchmarks / "{benchmark}/job-{job}.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: STUDY.settings_of_measurements(wildcards.benchmark),
    shell:
        step("measure", "--benchmark {wildcards.benchmark:q}", "--job {wildcards.job}")


rule costs:
    input:
        lambda wildcards: STUDY.tables_of(wildcards.benchmark),
    output:
        FOLDER.costs("{benchmark}"),
    log:
        LOGS / "{benchmark}/costs.log",
    benchmark:
        FOLDER.benchmarks / "{benchmark}/costs.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: STUDY.settings_of_measurements(wildcards.benchmark),
    shell:
        step("costs", "--benchmark {wildcards.benchmark:q}")


rule analyse:
    input:
        lambda wildcards: [FOLDER.share(wildcards.benchmark, job) for job in range(STUDY.jobs)],
    output:
        FOLDER.scores("{benchmark}"),
        FOLDER.analysis("{benchmark}"),
    log:
        LOGS / "{benchmark}/analyse.log",
    benchmark:
        FOLDER.benchmarks / "{benchmark}/analyse.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: STUDY.settings_of_analysis(wildcards.benchmark),
    shell:
        step("analyse", "--benchmark {wildcards.benchmark:q}")


rule figures:
    input:
        ANALYSES,
        COSTS,
    output:
        [
            report(
                FOLDER.figures / name,
                caption=f"../report/scores-{Path(name).stem.split('-')[0]}.rst",
                category="Figures",
                labels={"figure": Path(name).stem},
            )
            for name in figure_names(STUDY)
            if name.endswith(".svg")
        ],
        [FOLDER.figures / name for name in figure_names(STUDY) if not name.endswith(".svg")],
        [FOLDER.tables / name for name in TABLES],
    log:
        LOGS / "figures.log",
    benchmark:
        FOLDER.benchmarks / "figures.tsv"
    conda:
        ENVIRONMENT
    params:
        order=STUDY.titles,
        combinations=STUDY.combinations,
    shell:
        step("figures")


rule report:
    input:
        ANALYSES,
        COSTS,
    output:
        report(FOLDER.report, caption="../report/scores-page.rst", category="Report"),
    log:
        LOGS / "report.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY.model_dump_json(),
    shell:
        step("page")


rule track:
    input:
        FOLDER.report,
        rules.figures.output,
    output:
        FOLDER.tracking,
    log:
        LOGS / "track.log",
    conda:
        ENVIRONMENT
    params:
        uri=STUDY.tracking_uri,
    shell:
        step("track", "--done {output:q}")
