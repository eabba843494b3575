rule compare:
    input:
        [search.history for search in SEARCHES],
    output:
        FOLDER.comparison,
    log:
        LOGS / "compare.log",
    params:
        references=[objective.reference for objective in EXPERIMENT.objectives],
        order=EXPERIMENT.labels,
    shell:
        "{PYTHON:q} -m nas_lib compare {FILE:q} > {log:q} 2>&1"


rule figures:
    input:
        FOLDER.comparison,
        [search.finalist(rank) for search in SEARCHES for rank in RANKS],
    output:
        [
            report(FOLDER.figures / name, category="Figures", labels={"figure": Path(name).stem})
            for name in figure_names(EXPERIMENT)
            if name.endswith(".svg")
        ],
        [FOLDER.figures / name for name in figure_names(EXPERIMENT) if not name.endswith(".svg")],
    log:
        LOGS / "figures.log",
    shell:
        "{PYTHON:q} -m nas_lib figures {FILE:q} > {log:q} 2>&1"


rule report:
    input:
        FOLDER.comparison,
        [search.finalist(rank) for search in SEARCHES for rank in RANKS],
        rules.data.output,
    output:
        report(FOLDER.report, category="Report"),
    log:
        LOGS / "report.log",
    params:
        experiment=EXPERIMENT.model_dump_json(),
    shell:
        "{PYTHON:q} -m nas_lib report {FILE:q} > {log:q} 2>&1"


rule track:
    input:
        FOLDER.report,
        rules.figures.output,
    output:
        FOLDER.tracking,
    log:
        LOGS / "track.log",
    params:
        uri=EXPERIMENT.tracking.uri,
    shell:
        "{PYTHON:q} -m nas_lib track {FILE:q} --done {output:q} > {log:q} 2>&1"
