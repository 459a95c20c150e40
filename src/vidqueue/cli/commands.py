"""The list of commands with their help. The module of a command is imported when it is called."""

from __future__ import annotations

from cyclopts import App, Group, Parameter

from vidqueue import __version__

DAEMON = Group("Daemon", sort_key=1)
JOBS = Group("Jobs", sort_key=2)
MACHINE = Group("Machine", sort_key=3)
DEVELOPER = Group("Processors of your own", sort_key=4)

app = App(
    name="vidqueue",
    help="A durable queue for video work. Commands of the groups Jobs and Machine talk to a running daemon over HTTP.",
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative_iterable=()),
)

# command: (where it lives, its group, its help)
COMMANDS: dict[str, tuple[str, Group, str]] = {
    "serve": ("serve:serve", DAEMON, "Run the daemon until Ctrl-C or SIGTERM."),
    "demo": ("demo:demo", DAEMON, "Start a temporary daemon, run six jobs, show the results, stop."),
    "doctor": ("checkup:doctor", DAEMON, "Check whether this machine meets the requirements of a daemon."),
    "config": ("configuration:app", DAEMON, "Check or show the daemon's configuration."),
    "db": ("database:app", DAEMON, "Address, migrations, backup, restore and psql of the database."),
    "keys": ("keys:app", DAEMON, "Create, list and revoke API keys: who may ask this daemon for what."),
    "limits": ("limits:app", DAEMON, "Show or set how many jobs and bytes each owner may have."),
    "submit": ("submit:app", JOBS, "Submit a job. Each processor has its own flags."),
    "batch": ("batch:app", JOBS, "Submit many jobs at once; show, cancel or retry a batch."),
    "status": ("jobs:status", JOBS, "Show one job."),
    "list": ("jobs:list_jobs", JOBS, "List jobs, newest first."),
    "watch": ("watch:watch", JOBS, "Watch jobs until they end."),
    "logs": ("logs:logs", JOBS, "Show the log of a job's attempt."),
    "preview": ("preview:preview", JOBS, "Download the newest picture that a running job shows."),
    "result": ("result:result", JOBS, "Download an output of a job."),
    "cancel": ("jobs:cancel", JOBS, "Cancel waiting or running jobs."),
    "suspend": ("jobs:suspend", JOBS, "Suspend running jobs: stop their processes; they keep their lanes."),
    "retry": ("jobs:retry", JOBS, "Queue failed or canceled jobs again."),
    "priority": ("jobs:priority", JOBS, "Change the priority of a job."),
    "delete": ("jobs:delete", JOBS, "Delete finished jobs with their logs and files."),
    "bulk": ("bulk:app", JOBS, "Change all matching jobs in the background; undo a bulk action."),
    "files": ("files:app", JOBS, "List, show and delete uploads; show storage usage."),
    "webhooks": ("webhooks:app", JOBS, "Manage webhooks for all jobs; show and resend deliveries."),
    "watch-folders": ("watch_folders:watch_folders", JOBS, "Show watch folders and the jobs of their files."),
    "schedules": ("schedules:app", JOBS, "Submit jobs at the times of a cron expression."),
    "pause": ("pauses:pause", MACHINE, "Start no more jobs: at all, of one processor, or on one lane."),
    "resume": ("pauses:resume", MACHINE, "End a pause, or resume suspended jobs."),
    "drain": ("pauses:drain", MACHINE, "Pause lanes, and free their memory once the running jobs have ended."),
    "reload": ("reloading:reload", DEVELOPER, "Load new and changed processors into a running daemon."),
    "try": ("trial:app", DEVELOPER, "Run a processor in this terminal, without a daemon."),
    "processors": ("system:processors_app", MACHINE, "List processors, show the parameters of one, or create one."),
    "report": ("report:report", MACHINE, "Report usage, cost, waits and failures as table, CSV or JSON."),
    "completion": ("completion:completion", MACHINE, "Print a script that completes commands, flags and ids."),
    "lanes": ("lanes:app", MACHINE, "Show lanes and their jobs; free their memory; set their time windows."),
}

for _name, (_place, _group, _help) in COMMANDS.items():
    app.command(f"vidqueue.cli.{_place}", name=_name, group=_group, help=_help)
