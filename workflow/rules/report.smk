rule compare:
    input:
        [search.history for search in SEARCHES],
    output:
        FOLDER.comparison,
    log:
        LOGS / "compare.log",
    benchmark:
        FOLDER.benchmarks / "compare.tsv"
    conda:
        ENVIRONMENT
    params:
        references=[objective.reference for objective in EXPERIMENT.objectives],
        order=EXPERIMENT.labels,
    shell:
        step("compare")


rule figures:
    input:
        FOLDER.comparison,
        [search.finalist(rank) for search in SEARCHES for rank in RANKS],
    output:
        [
            report(
                FOLDER.figures / name,
                caption=caption_of(name),
                category="Figures",
                labels={"figure": Path(name).stem},
            )
            for name in figure_names(EXPERIMENT)
            if name.endswith(".svg")
        ],
        [FOLDER.figures / name for name in figure_names(EXPERIMENT) if not name.endswith(".svg")],
        [FOLDER.tables / name for name in table_names()],
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
        [search.finalist(rank) for search in SEARCHES for rank in RANKS],
        MODELS,
        TRANSFERS,
        rules.data.output,
    output:
        report(FOLDER.report, caption="../report/page.rst", category="Report"),
    log:
        LOGS / "report.log",
    conda:
        ENVIRONMENT
    params:
        experiment=EXPERIMENT.model_dump_json(),
    shell:
        step("report")


rule track:
    input:
        FOLDER.report,
        rules.figures.output,
        ancient(rules.tracking_store.output),
    output:
        FOLDER.tracking,
    log:
        LOGS / "track.log",
    conda:
        ENVIRONMENT
    params:
        uri=EXPERIMENT.tracking_uri,
    shell:
        step("track", "--done {output:q}")
