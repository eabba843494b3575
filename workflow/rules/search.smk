if EXPERIMENT.budget.inline:

    rule search_inline:
        input:
            ancient(rules.data.output),
            ancient(rules.tracking_store.output),
        output:
            SEARCH.history,
            SEARCH.front,
        log:
            LOGS / "{strategy}/seed-{seed}/search.log",
        benchmark:
            FOLDER.path / "benchmarks/{strategy}/seed-{seed}/search.tsv"
        threads: EXPERIMENT.resources.threads
        params:
            rounds=EXPERIMENT.budget.rounds,
        shell:
            "{PYTHON:q} -m nas_lib inline {FILE:q} " + COMMAND + " --threads {threads} > {log:q} 2>&1"

else:

    rule propose:
        input:
            proposals_needed,
        output:
            SEARCH.proposals("{round}"),
        log:
            LOGS / "{strategy}/seed-{seed}/round-{round}/propose.log",
        priority: 1
        shell:
            "{PYTHON:q} -m nas_lib propose {FILE:q} " + COMMAND + " --round {wildcards.round} > {log:q} 2>&1"

    rule evaluate:
        input:
            SEARCH.proposals("{round}"),
            ancient(rules.data.output),
            ancient(rules.tracking_store.output),
        output:
            SEARCH.job("{round}", "{job}"),
        log:
            LOGS / "{strategy}/seed-{seed}/round-{round}/job-{job}.log",
        benchmark:
            FOLDER.path / "benchmarks/{strategy}/seed-{seed}/round-{round}/job-{job}.tsv"
        threads: EXPERIMENT.resources.threads
        retries: RETRIES
        resources:
            attempt=lambda wildcards, attempt: attempt,
        shell:
            "{PYTHON:q} -m nas_lib evaluate {FILE:q} " + COMMAND + " --round {wildcards.round} --job {wildcards.job}"
            " --threads {threads} --attempt {resources.attempt} > {log:q} 2>&1"

    rule collect:
        input:
            every_job,
        output:
            SEARCH.history,
            SEARCH.front,
        log:
            LOGS / "{strategy}/seed-{seed}/collect.log",
        shell:
            "{PYTHON:q} -m nas_lib collect {FILE:q} " + COMMAND + " > {log:q} 2>&1"
