import fcntl
import json
import logging

from snakemake_interface_logger_plugins.common import LogEvent

from nas_lib.layout import write_json

ONLY_LOOKING = {
    "--dry-run",
    "--dryrun",
    "--lint",
    "--report",
    "--summary",
    "--detailed-summary",
    "--unlock",
    "--list-rules",
}
ONLY_LOOKING |= {
    "--list",
    "--dag",
    "--rulegraph",
    "--filegraph",
    "--d3dag",
    "--help",
    "--touch",
    "--archive",
    "--version",
}
EVERY_JOB = {
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.SHELLCMD,
    LogEvent.PROGRESS,
    LogEvent.RESOURCES_INFO,
}
if KIND != "experiment":
    # How many steps are done says enough of searches that take seconds, and is all that there is of measurements.
    EVERY_JOB.remove(LogEvent.PROGRESS)


def will_run() -> bool:
    """Whether this call of snakemake executes rules. Snakemake itself does not know it yet when it reads this file."""
    options = [argument.split("=")[0] for argument in sys.argv[1:]]
    looking = any(option in ONLY_LOOKING or re.fullmatch("-[a-z]*[nlhv][a-z]*", option) for option in options)
    return workflow.is_main_process and not looking


def take_over() -> None:
    """Make this process the only one that works on these results, and free what a killed one left behind.

    The operating system frees the lock of a process that dies, so whoever has it knows that Snakemake's own locks on files
    of these results are nobody's.
    """
    global _alive
    try:
        FOLDER.path.mkdir(parents=True, exist_ok=True)
        _alive = open(FOLDER.path / ".running.lock", "a+")
    except OSError as error:
        raise WorkflowError(f"results: {FOLDER.path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(_alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _alive.seek(0)
        owner = _alive.read().strip()
        raise WorkflowError(f"The {KIND} {FOLDER.path.name!r} is running here already ({owner}).") from None
    _alive.truncate(0)
    _alive.write(f"process {os.getpid()} on {os.uname().nodename}")
    _alive.flush()
    for lock in Path(".snakemake/locks").glob("*.lock"):
        if any(line.startswith(f"{FOLDER.path}/") for line in lock.read_text().splitlines()):
            lock.unlink()
    if FOLDER.tracking.exists() and tracking_is_behind():
        FOLDER.tracking.unlink()


def tracking_is_behind() -> bool:
    """Whether the MLflow server was down at the end of an earlier run, or its database has been removed since."""
    database = CONFIGURATION.tracking_uri.removeprefix("sqlite:///")
    removed = database != CONFIGURATION.tracking_uri and not Path(database).exists()
    return removed or "unavailable" in json.loads(FOLDER.tracking.read_text())


if will_run():
    take_over()


def about_the_whole(record: logging.LogRecord) -> bool:
    """Whether a message of Snakemake's is about more than a single job."""
    return getattr(record, "event", None) not in EVERY_JOB and not record.getMessage().startswith("Select jobs")


def begin() -> None:
    """Store the configuration for the commands of the rules, show progress, and do what this kind does before jobs.

    Progress takes the place of Snakemake's messages about every single job; they stay in its log file, and
    `--printshellcmds` brings them back.
    """
    if not workflow.output_settings.printshellcmds:
        for handler in workflow.logger_manager.logger.handlers:
            if handler.name == "DefaultStreamHandler":
                handler.addFilter(about_the_whole)
    content = json.loads(CONFIGURATION.model_dump_json())
    if not FILE.exists() or json.loads(FILE.read_text()) != content:
        write_json(FILE, content)
    before_jobs()


def farewell() -> str:
    """Where the results are."""
    if not FOLDER.tracking.exists() or not FOLDER.report.exists():
        return "\nDone."
    uri = CONFIGURATION.tracking_uri
    local = f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1"
    missing = json.loads(FOLDER.tracking.read_text()).get("unavailable")
    runs = f"not up to date: {missing}" if missing else uri if uri.startswith("http") else local
    return f"\nReport:  {FOLDER.report}\nMLflow:  {runs}\n"
