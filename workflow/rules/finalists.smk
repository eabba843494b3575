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
    retries: ATTEMPTS * EXPERIMENT.finalists.repeats
    conda:
        ENVIRONMENT
    threads: EXPERIMENT.resources.threads
    resources:
        attempt=lambda wildcards, attempt: attempt,
        gpu_slots=1,
    params:
        repeats=EXPERIMENT.finalists.repeats,
        epochs=EXPERIMENT.finalists.epochs,
    shell:
        step("retrain", OF_SEARCH, "--rank {wildcards.rank}", OF_JOB)
