if EXPERIMENT.budget.inline:

    rule search_inline:
        input:
            ancient(rules.data.output),
        output:
            SEARCH.history,
            SEARCH.front,
        log:
            LOGS / "{strategy}/seed-{seed}/search.log",
        benchmark:
            FOLDER.benchmarks / "{strategy}/seed-{seed}/search.tsv"
        retries: ATTEMPTS
        conda:
            ENVIRONMENT
        threads: EXPERIMENT.resources.threads
        resources:
            attempt=lambda wildcards, attempt: attempt,
            gpu_slots=1,
        params:
            rounds=EXPERIMENT.budget.rounds,
        shell:
            step("inline", OF_SEARCH, OF_JOB)

else:

    rule propose:
        input:
            proposals_needed,
            ancient(data_needed),
        output:
            SEARCH.proposals("{round}"),
        log:
            LOGS / "{strategy}/seed-{seed}/round-{round}/propose.log",
        benchmark:
            FOLDER.benchmarks / "{strategy}/seed-{seed}/round-{round}/propose.tsv"
        priority: lambda wildcards: urgency(wildcards) + 0.5
        conda:
            ENVIRONMENT
        shell:
            step("propose", OF_SEARCH, "--round {wildcards.round}")

    rule evaluate:
        input:
            SEARCH.proposals("{round}"),
            ancient(rules.data.output),
        output:
            SEARCH.job("{round}", "{job}"),
        log:
            LOGS / "{strategy}/seed-{seed}/round-{round}/job-{job}.log",
        benchmark:
            FOLDER.benchmarks / "{strategy}/seed-{seed}/round-{round}/job-{job}.tsv"
        priority: urgency
        retries: ATTEMPTS * CANDIDATES_OF_A_JOB
        conda:
            ENVIRONMENT
        threads: EXPERIMENT.resources.threads
        resources:
            attempt=lambda wildcards, attempt: attempt,
            gpu_slots=1,
        shell:
            step(
                "evaluate",
                OF_SEARCH,
                "--round {wildcards.round}",
                "--job {wildcards.job}",
                OF_JOB,
            )

    rule collect:
        input:
            every_job,
        output:
            SEARCH.history,
            SEARCH.front,
        log:
            LOGS / "{strategy}/seed-{seed}/collect.log",
        benchmark:
            FOLDER.benchmarks / "{strategy}/seed-{seed}/collect.tsv"
        conda:
            ENVIRONMENT
        shell:
            step("collect", OF_SEARCH)
