"""Checks whether this machine can run a daemon. Each check reports what it found and what to do.

The checks try things out instead of reading versions. torch and cv2 are tried in a child process, never loaded here.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vidqueue.db import migrate
from vidqueue.db.fitness import DatabaseUnfitError, require_fit
from vidqueue.db.pool import Database
from vidqueue.db.tables import files, invariants, lanes
from vidqueue.db.tables.invariants import Violation
from vidqueue.doctor.check import Check
from vidqueue.doctor.peers import check_peers, check_running
from vidqueue.doctor.roots import check_roots
from vidqueue.errors import VidqueueError
from vidqueue.formats import allowed
from vidqueue.media import encoders, ffmpeg
from vidqueue.media.encoder_proof import proof
from vidqueue.media.jail import sandbox
from vidqueue.media.jail.checkup import jail_status
from vidqueue.ops.data_folder import RunningDaemon, daemon_of
from vidqueue.processors import registry
from vidqueue.settings.schema import Settings
from vidqueue.worker import gpus

GIB = 1 << 30
LITTLE_DISK, TOO_LITTLE_DISK = 10 * GIB, 1 * GIB
IMPORT_PATIENCE_S = 120
# All jobs are for `--invariants`: that takes as long as the history is.
NEWEST_JOBS = 1000


def examine_machine(settings: Settings, *, secret_files: list[Path]) -> Iterator[Check]:
    """Check everything except the database."""
    gpu_names = [gpu.name for gpu in gpus.discover()]
    registry.configure(settings)
    examinations: list[tuple[str, Callable[[], Check]]] = [
        ("data folder", lambda: check_folder(settings.data_dir)),
        ("address", lambda: check_address(settings.api.host, settings.api.port, daemon_of(settings.data_dir))),
        ("secrets", lambda: check_secrets(secret_files)),
        ("disk", lambda: check_disk(settings.data_dir)),
        ("inputs", lambda: check_roots(settings.inputs.roots)),
        ("gpu", lambda: check_gpu(gpu_names, wanted=settings.lanes.gpu == "auto")),
        ("torch", lambda: check_torch(cuda_wanted=bool(gpu_names) and settings.lanes.gpu == "auto")),
        ("opencv", check_opencv),
        ("processors", check_processors),
        ("peers", lambda: check_peers(registry.catalogue().values())),
        ("ffmpeg", check_ffmpeg),
        ("formats", lambda: check_formats(settings.media.policy)),
        ("encoders", lambda: check_encoders(gpu=bool(gpu_names))),
        ("jail", check_jail),
    ]
    for name, examination in examinations:
        try:
            yield examination()
        except (OSError, RuntimeError, VidqueueError, subprocess.SubprocessError) as error:
            yield Check(name, "error", f"the check failed: {error}", "Solve this first, then run the check again.")


def check_folder(folder: Path) -> Check:
    """Check that the data folder is writable, and closed to other users."""
    name = "data folder"
    if not folder.exists():
        parent = next(one for one in folder.parents if one.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Check(name, "ok", f"{folder} will be created at the first start")
        return Check(name, "error", f"{folder} cannot be created", f"Create it, or let this user write to {parent}.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "error", f"{folder} cannot be written to", "Give it to the user that runs the daemon.")
    facts = folder.stat()
    if facts.st_mode & (stat.S_IRWXG | stat.S_IROTH | stat.S_IWOTH):
        mode = f"{stat.S_IMODE(facts.st_mode):o}"
        return Check(name, "warning", f"{folder} is open to others (mode {mode})", f"chmod 700 {folder}")
    return Check(name, "ok", str(folder))


def check_address(host: str, port: int, daemon: RunningDaemon | None) -> Check:
    """Check that the daemon can listen, or that it is the one that listens."""
    name, place = "address", f"{host}:{port}"
    if daemon is not None and daemon.url is not None:
        return Check(name, "ok", f"the daemon (process {daemon.pid}) listens at {daemon.url}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            # As the daemon does: connections of an earlier one that wait for their end are not in the way.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        advice = "Stop the program that listens there (`ss -tlnp`), or set api.host and api.port to a free address."
        return Check(name, "error", f"{place} cannot be listened on: {error.strerror}", advice)
    return Check(name, "ok", f"{place} is free")


def check_secrets(secret_files: list[Path]) -> Check:
    """Check that only the user of the daemon can read files with secrets."""
    opened = [path for path in secret_files if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]
    if opened:
        names = " ".join(map(str, opened))
        return Check("secrets", "warning", f"readable by other users: {names}", f"chmod 600 {names}")
    return Check("secrets", "ok", "no file with secrets is readable by other users")


def check_disk(folder: Path) -> Check:
    """Check the free disk space."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free at {place}"
    if free < TOO_LITTLE_DISK:
        return Check("disk", "error", found, "Free some space, or choose another data_dir.")
    if free < LITTLE_DISK:
        return Check("disk", "warning", found, "Videos are large; free some space, or choose another data_dir.")
    return Check("disk", "ok", found)


def check_gpu(names: list[str], *, wanted: bool) -> Check:
    """Check which GPUs the driver reports."""
    if names:
        return Check("gpu", "ok", ", ".join(names) if wanted else f"{', '.join(names)}; not used, lanes.gpu is off")
    if not wanted:
        return Check("gpu", "ok", "none used: lanes.gpu is off")
    advice = 'Install the NVIDIA driver, or set lanes.gpu = "off" if this machine has no GPU.'
    return Check("gpu", "warning", "NVML finds none; GPU work runs on CPU lanes, slowly", advice)


def check_torch(*, cuda_wanted: bool) -> Check:
    """Check that torch can be imported, and finds the GPU if there is one."""
    ended = _python("import torch; print(torch.__version__, torch.cuda.is_available())")
    if ended.returncode != 0:
        return Check("torch", "error", _last_line(ended.stderr), "Reinstall vidqueue; `enhance` needs torch.")
    version, cuda = ended.stdout.split()
    if cuda_wanted and cuda != "True":
        advice = "Install the torch build that fits your driver: https://pytorch.org/get-started/locally/"
        return Check("torch", "warning", f"{version} does not find the GPU", advice)
    return Check("torch", "ok", f"{version}, {'CUDA' if cuda == 'True' else 'CPU only'}")


def check_opencv() -> Check:
    """Check that cv2 can be imported. It needs system libraries that servers often lack."""
    ended = _python("import cv2; print(cv2.__version__)")
    if ended.returncode != 0:
        advice = "Debian and Ubuntu: apt install libgl1 libglib2.0-0. Processors that need it do not work until then."
        return Check("opencv", "warning", _last_line(ended.stderr), advice)
    return Check("opencv", "ok", ended.stdout.strip())


def check_processors() -> Check:
    """Check that every installed processor can be loaded."""
    found, broken = registry.catalogue(), registry.unloaded()
    if broken:
        said = "; ".join(f"{one.name} of {one.package}: {one.error}" for one in broken)
        advice = f"Mend or uninstall the package; `vidqueue try {broken[0].name}` shows the traceback."
        return Check("processors", "error", f"{len(broken)} cannot be loaded: {said}", advice)
    loaded = f"{len(found)} can be loaded"
    idle = {name: why for name, one in found.items() if not one.is_configured and (why := one.unavailable())}
    faults = {name: why for name, one in found.items() if one.is_configured and (why := one.unavailable())}
    if faults:
        said = "; ".join(f"{name}: {why}" for name, why in faults.items())
        return Check(
            "processors", "warning", f"{loaded}; {said}", "Their jobs are refused or wait until that is mended."
        )
    return Check("processors", "ok", f"{loaded}; not set up: {', '.join(idle)}" if idle else loaded)


def check_ffmpeg() -> Check:
    """Check that ffmpeg starts, and report its version and path."""
    return Check("ffmpeg", "ok", f"{ffmpeg.ffmpeg_version()} at {sandbox.ffmpeg_path()}")


def check_formats(policy: tuple[str, ...]) -> Check:
    """Report which formats and how many codecs are accepted (`media.formats`)."""
    accepted = allowed(policy)
    codecs = f"{len(accepted.video)} video and {len(accepted.audio)} audio codecs"
    found = f"{', '.join(policy)}: {', '.join(sorted(accepted.formats)) or 'none'}; {codecs}"
    if not (accepted.formats and accepted.video):
        return Check("formats", "warning", found, "Set media.formats to safe, wide, or a list with formats and codecs.")
    return Check("formats", "ok", found)


def check_encoders(*, gpu: bool) -> Check:
    """Check which encoders can encode a picture on this machine."""
    working = encoders.working_encoders()
    missing = [name for name, one in encoders.ENCODERS.items() if name not in working and (gpu or not one.gpu)]
    found = ", ".join(working) or "none"
    if "libx264" not in working:
        return Check("encoders", "error", found, "Unset IMAGEIO_FFMPEG_EXE, or point it at an ffmpeg with libx264.")
    found += "".join(map(_proven, filter(None, map(encoders.on_gpu, encoders.ON_GPU)))) if gpu else ""
    if not missing:
        return Check("encoders", "ok", found)
    by_reason: dict[str, list[str]] = {}
    for name in missing:
        by_reason.setdefault(encoders.fault_of(name).rstrip("."), []).append(name)
    faults = "; ".join(f"not {', '.join(names)}: {reason}" for reason, names in by_reason.items())
    hint = "Jobs that ask for these will fail; `auto` takes another. IMAGEIO_FFMPEG_EXE may name another ffmpeg."
    return Check("encoders", "warning", f"{found}; {faults}", hint)


def _proven(gpu: encoders.Encoder) -> str:
    """Whether `encoder: auto` uses the encoder of a GPU, and why; empty if the encoder does not work at all."""
    cpu = encoders.encoder_named("software", gpu.codec)
    if cpu is None or not (encoders.works(gpu.name) and encoders.works(cpu.name)):
        return ""
    found = proof(gpu, cpu, "medium", "medium")
    return f"; auto {'takes' if found.holds else 'does not take'} {gpu.name} ({found.words})"


def check_jail() -> Check:
    """Check that ffmpeg can be confined for untrusted media."""
    status = jail_status()
    if not status.starts:
        return Check("jail", "error", " ".join(status.warnings), "See whether seccomp or a container forbids it.")
    if status.warnings:
        advice = "Use a kernel of 5.13 or newer with Landlock on, or run the daemon in a container of its own."
        return Check("jail", "warning", " ".join(status.warnings), advice)
    return Check("jail", "ok", f"ffmpeg has no access to files and network (Landlock {status.landlock_abi})")


async def examine_database(url: str, *, kind: str) -> list[Check]:
    """Check the server, its schema, and the invariants of the queue."""
    try:
        version = await require_fit(url)
    except DatabaseUnfitError as error:
        return [Check("database", "error", error.found, error.advice or "Repair the server, or correct database.url.")]
    server = Check("database", "ok", f"PostgreSQL {version}, {kind}; LISTEN works")
    try:
        missing = await migrate.pending(url)
    except migrate.MigrationError as error:
        return [server, Check("migrations", "error", str(error), "Run the vidqueue that this database belongs to.")]
    if len(missing) == len(migrate.known()):
        return [server, Check("migrations", "ok", "the database is empty; the first start creates the schema")]
    if missing:
        found = f"{len(missing)} to apply: {', '.join(missing)}"
        return [server, Check("migrations", "warning", found, "`vidqueue db migrate`, or simply start the daemon.")]
    return [server, Check("migrations", "ok", "up to date"), *await _examine_rows(url)]


async def _examine_rows(url: str) -> list[Check]:
    async with Database(url) as opened, opened.transaction() as connection:
        broken = await invariants.of_newest_jobs(connection, NEWEST_JOBS)
        lost = await files.lost(connection)
        shared = await lanes.shared_host_names(connection)
        running = await lanes.page(connection)
    return [_check_host_names(shared), *check_running(running), _check_invariants(broken), _check_files(lost)]


def _check_host_names(shared: list[str]) -> Check:
    """Two machines of one name cannot be told apart in reports."""
    if shared:
        advice = "Set host_name to another value on each machine."
        return Check("host names", "warning", f"used by more than one machine: {', '.join(shared)}", advice)
    return Check("host names", "ok", "each machine has its own")


def _check_files(lost: int) -> Check:
    if lost:
        advice = "Put them back from a backup and restart the daemon; or delete the files and their jobs."
        return Check("files", "warning", f"{lost} have lost their bytes (vidqueue.files.missing_at)", advice)
    return Check("files", "ok", "none has lost its bytes")


def _check_invariants(broken: list[Violation]) -> Check:
    if broken:
        first = f"{broken[0].invariant} (job {broken[0].job_id}: {broken[0].detail})"
        advice = "This is a fault in vidqueue: please report it with vidqueue_report.invariant_violations."
        return Check("invariants", "error", f"{sum(one.broken for one in broken)} broken; first: {first}", advice)
    return Check("invariants", "ok", f"hold for the newest {NEWEST_JOBS} jobs; --invariants looks at all")


def _python(code: str) -> subprocess.CompletedProcess[str]:
    # As executors are started: nothing is imported from the working folder.
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=IMPORT_PATIENCE_S, cwd="/")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
