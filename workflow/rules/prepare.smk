rule data:
    output:
        FOLDER.data,
    log:
        LOGS / "data.log",
    benchmark:
        FOLDER.benchmarks / "data.tsv"
    priority: len(ROUNDS) + 1
    conda:
        ENVIRONMENT
    params:
        transfer=EXPERIMENT.transfer and EXPERIMENT.transfer.task.source,
    shell:
        step("data", "--done {output:q}")


rule tracking_store:
    output:
        touch(FOLDER.path / "tracking-store.done"),
    log:
        LOGS / "tracking-store.log",
    # After the first proposals, before the first evaluations.
    priority: len(ROUNDS) + 0.25
    conda:
        ENVIRONMENT
    shell:
        step("tracking-store")
