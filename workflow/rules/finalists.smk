rule select:
    input:
        SEARCH.front,
    output:
        SEARCH.finalists,
    log:
        LOGS / "{strategy}/seed-{seed}/select.log",
    conda:
        ENVIRONMENT
    params:
        finalists=EXPERIMENT.finalists.count,
    shell:
        step("select", OF_SEARCH)


rule retrain:
    input:
        SEARCH.finalists,
    output:
        SEARCH.finalist("{rank}"),
    log:
        LOGS / "{strategy}/seed-{seed}/finalist-{rank}.log",
    benchmark:
        FOLDER.benchmarks / "{strategy}/seed-{seed}/finalist-{rank}.tsv"
    retries: ATTEMPTS * EXPERIMENT.finalists.trainings
    conda:
        ENVIRONMENT
    threads: EXPERIMENT.resources.threads
    resources:
        attempt=lambda wildcards, attempt: attempt,
        gpu_slots=1,
    params:
        draws=EXPERIMENT.finalists.draws,
        repeats=EXPERIMENT.finalists.repeats,
        epochs=EXPERIMENT.finalists.epochs,
    shell:
        step("retrain", OF_SEARCH, "--rank {wildcards.rank}", OF_JOB)


if EXPERIMENT.finalists.count:

    rule export:
        input:
            [SEARCH.finalist(rank) for rank in RANKS],
            ancient(rules.data.output),
        output:
            [SEARCH.export(rank) for rank in RANKS],
        log:
            LOGS / "{strategy}/seed-{seed}/export.log",
        benchmark:
            FOLDER.benchmarks / "{strategy}/seed-{seed}/export.tsv"
        conda:
            ENVIRONMENT
        threads: EXPERIMENT.resources.threads
        shell:
            step("export", OF_SEARCH, "--threads {threads}")


if EXPERIMENT.transfer:

    rule transfer:
        input:
            SEARCH.finalists,
            ancient(rules.data.output),
        output:
            SEARCH.transfer("{rank}"),
        log:
            LOGS / "{strategy}/seed-{seed}/transfer-{rank}.log",
        benchmark:
            FOLDER.benchmarks / "{strategy}/seed-{seed}/transfer-{rank}.tsv"
        retries: ATTEMPTS * EXPERIMENT.transfer.repeats
        conda:
            ENVIRONMENT
        threads: EXPERIMENT.resources.threads
        resources:
            attempt=lambda wildcards, attempt: attempt,
            gpu_slots=1,
        params:
            transfer=json.loads(EXPERIMENT.transfer.model_dump_json()),
        shell:
            step("transfer", OF_SEARCH, "--rank {wildcards.rank}", OF_JOB)
