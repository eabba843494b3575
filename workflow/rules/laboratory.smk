from nas_lib.report.laboratory import figure_names, table_names

LABORATORY = CONFIGURATION
SEARCH = FOLDER.search("{problem}", "{strategy}", "{seed}")
SEARCHES = [
    FOLDER.search(title, label, seed)
    for seed in LABORATORY.seeds
    for title in LABORATORY.titles
    for label in LABORATORY.labels
]


wildcard_constraints:
    problem="|".join(map(re.escape, LABORATORY.titles)),
    strategy="|".join(map(re.escape, LABORATORY.labels)),
    seed=r"-?\d+",


def before_jobs() -> None:
    """Read all tables before the first search, instead of failing at one of them hours later."""
    try:
        LABORATORY.checked_problems()
    except UserError as error:
        raise WorkflowError(f"Not all problems can be searched:\n{error}") from None


rule search:
    input:
        lambda wildcards: LABORATORY.tables_of(wildcards.problem),
    output:
        SEARCH.history,
        SEARCH.rounds,
    log:
        LOGS / "{problem}/{strategy}/seed-{seed}.log",
    benchmark:
        FOLDER.benchmarks / "{problem}/{strategy}/seed-{seed}.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: LABORATORY.settings_of_search(wildcards.problem, wildcards.strategy),
    shell:
        step(
            "search",
            "--problem {wildcards.problem:q}",
            "--strategy {wildcards.strategy:q}",
            "--seed {wildcards.seed}",
        )


rule compare:
    input:
        [search.history for search in SEARCHES],
        [search.rounds for search in SEARCHES],
    output:
        FOLDER.comparison,
    log:
        LOGS / "compare.log",
    benchmark:
        FOLDER.benchmarks / "compare.tsv"
    conda:
        ENVIRONMENT
    params:
        order=[LABORATORY.titles, LABORATORY.labels, LABORATORY.seeds],
        target=LABORATORY.target.model_dump_json() if LABORATORY.target else None,
    shell:
        step("compare")


rule figures:
    input:
        FOLDER.comparison,
    output:
        [
            report(
                FOLDER.figures / name,
                caption=f"../report/laboratory-{Path(name).stem.split('-')[0]}.rst",
                category="Figures",
                labels={"figure": Path(name).stem},
            )
            for name in figure_names(LABORATORY)
            if name.endswith(".svg")
        ],
        [FOLDER.figures / name for name in figure_names(LABORATORY) if not name.endswith(".svg")],
        [FOLDER.tables / name for name in table_names(LABORATORY)],
    log:
        LOGS / "figures.log",
    benchmark:
        FOLDER.benchmarks / "figures.tsv"
    conda:
        ENVIRONMENT
    shell:
        step("figures")


rule report:
    input:
        FOLDER.comparison,
    output:
        report(FOLDER.report, caption="../report/laboratory-page.rst", category="Report"),
    log:
        LOGS / "report.log",
    conda:
        ENVIRONMENT
    params:
        laboratory=LABORATORY.model_dump_json(),
    shell:
        step("report")


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
        uri=LABORATORY.tracking_uri,
    shell:
        step("track", "--done {output:q}")
