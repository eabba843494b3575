rule data:
    output:
        FOLDER.path / "data.json",
    log:
        LOGS / "data.log",
    shell:
        "{PYTHON:q} -m nas_lib data {FILE:q} --done {output:q} > {log:q} 2>&1"


rule tracking_store:
    output:
        touch(FOLDER.path / "tracking-store.done"),
    log:
        LOGS / "tracking-store.log",
    shell:
        "{PYTHON:q} -m nas_lib tracking-store {FILE:q} > {log:q} 2>&1"
