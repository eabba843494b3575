rule select:
    input:
        SEARCH.front,
    output:
        SEARCH.finalists,
    log:
        LOGS / "{strategy}/seed-{seed}/select.log",
    params:
        finalists=EXPERIMENT.finalists.count,
    shell:
        "{PYTHON:q} -m nas_lib select {FILE:q} " + COMMAND + " > {log:q} 2>&1"


rule retrain:
    input:
        SEARCH.finalists,
    output:
        SEARCH.finalist("{rank}"),
    log:
        LOGS / "{strategy}/seed-{seed}/finalist-{rank}.log",
    benchmark:
        FOLDER.path / "benchmarks/{strategy}/seed-{seed}/finalist-{rank}.tsv"
    threads: EXPERIMENT.resources.threads
    retries: RETRIES
    resources:
        attempt=lambda wildcards, attempt: attempt,
    params:
        repeats=EXPERIMENT.finalists.repeats,
        epochs=EXPERIMENT.finalists.epochs,
    shell:
        "{PYTHON:q} -m nas_lib retrain {FILE:q} " + COMMAND + " --rank {wildcards.rank}"
        " --threads {threads} --attempt {resources.attempt} > {log:q} 2>&1"
