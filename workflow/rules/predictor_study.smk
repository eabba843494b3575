from nas_lib.report.predictor_study import TABLES, figure_names

STUDY = CONFIGURATION
MEASUREMENTS = [FOLDER.measurements(title) for title in STUDY.titles]


wildcard_constraints:
    problem="|".join(map(re.escape, STUDY.titles)),


def before_jobs() -> None:
    """Read all tables before the first measurement, instead of failing at one of them hours later."""
    try:
        STUDY.checked_problems()
    except UserError as error:
        raise WorkflowError(f"Not everything can be measured:\n{error}") from None


# One job per problem. Its journal is no output, so a job that is killed or asked for more goes on where it was.
rule measure:
    input:
        lambda wildcards: STUDY.tables_of(wildcards.problem),
    output:
        FOLDER.measurements("{problem}"),
    log:
        LOGS / "{problem}/measure.log",
    benchmark:
        FOLDER.benchmarks / "{problem}/measure.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: STUDY.settings_of_measurements(wildcards.problem),
    shell:
        step("measure", "--problem {wildcards.problem:q}")


rule figures:
    input:
        MEASUREMENTS,
    output:
        [
            report(
                FOLDER.figures / name,
                caption=f"../report/predictors-{Path(name).stem.split('-')[0]}.rst",
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
    shell:
        step("figures")


rule report:
    input:
        MEASUREMENTS,
    output:
        report(FOLDER.report, caption="../report/predictors-page.rst", category="Report"),
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
