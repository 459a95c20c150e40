"""Confining a process and then executing ffmpeg in it: resource limits, Landlock, seccomp.

Run as `python -I -S launcher.py SPEC -- ffmpeg ...` in a process of its own, because code between fork and exec is not
safe in a program with threads. Standard library only: nothing else is importable here, and starting must stay cheap.
"""

import ctypes
import marshal
import os
import resource
import struct
import sys

SIGKILL = 9  # importing signal, or json for the specification, takes longer than everything else here
OOM_SCORE = 800
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_VERSION_FLAG = 1
LANDLOCK_RULE_PATH_BENEATH = 1

# Landlock rights on files, from include/uapi/linux/landlock.h.
EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
IOCTL_DEV = 1 << 15
# How many of the file rights each ABI version knows: asking for an unknown one is an error.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
NEWEST_FILE_RIGHTS = 16
TCP_BIND_AND_CONNECT = 0b11
SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

# System calls that decoding and encoding never need, by machine: Landlock knows TCP but not UDP or Unix sockets,
# and the rest are the usual first steps out of a process that was taken over.
REFUSED_CALLS = {
    "x86_64": {
        "socket": 41, "socketpair": 53, "ptrace": 101, "mount": 165, "add_key": 248, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321,
        "userfaultfd": 323, "io_uring_setup": 425,
    },
    "aarch64": {
        "socket": 198, "socketpair": 199, "ptrace": 117, "mount": 40, "add_key": 217, "keyctl": 219, "unshare": 97,
        "perf_event_open": 241, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280,
        "userfaultfd": 282, "io_uring_setup": 425,
    },
}  # fmt: skip
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# One instruction of classic BPF is (code, jump if true, jump if false, operand).
BPF_LOAD_WORD = 0x20
BPF_JUMP_IF_EQUAL = 0x15
BPF_JUMP_IF_AT_LEAST = 0x35
BPF_RETURN = 0x06
SECCOMP_ALLOW = 0x7FFF0000
SECCOMP_FAIL_EPERM = 0x00050000 | 1
X32_CALLS = 0x40000000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """Version of Landlock that this kernel offers; 0 when it has none or refuses to tell."""
    found = int(_libc().syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION_FLAG))
    return max(found, 0)


def seccomp_offered() -> bool:
    """True if system calls can be filtered on this machine with the list here."""
    return os.uname().machine in REFUSED_CALLS and os.path.exists("/proc/sys/kernel/seccomp")  # noqa: PTH110 - pathlib is dear to import


def _die_with(parent: int) -> None:
    _libc().prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    # The parent may have died before the line above: then no signal will ever come.
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def _die_first_of_memory() -> None:
    """Let the kernel's out-of-memory killer choose this process before the daemon and PostgreSQL."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as score:  # noqa: PTH123 - pathlib is dear to import
            if int(score.read()) < OOM_SCORE:
                score.seek(0)
                score.write(str(OOM_SCORE))
    except OSError:
        return  # a container may forbid it; it is no protection against the file


def _bound(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, "RLIMIT_" + name)
        _, hard = resource.getrlimit(kind)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))


def _ruleset(abi: int) -> int:
    libc = _libc()
    handled = (1 << FILE_RIGHTS.get(abi, NEWEST_FILE_RIGHTS)) - 1
    tcp = TCP_BIND_AND_CONNECT if abi >= 4 else 0
    scopes = SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0
    attributes = struct.pack("QQQ", handled, tcp, scopes)
    # Older kernels refuse a longer structure unless the part they do not know is zero, which it is.
    return int(libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a folder that this system does not have
    if not os.path.isdir(path):  # noqa: PTH112 - pathlib is dear to import
        rights &= ~READ_DIR
    rule = struct.pack("=Qi", rights, place)
    _libc().syscall(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    os.close(place)


def _close_doors(readable: list[str], writable: list[str]) -> None:
    abi = landlock_abi()
    if not abi:
        return
    ruleset = _ruleset(abi)
    read = EXECUTE | READ_FILE | READ_DIR
    write = read | WRITE_FILE | (IOCTL_DEV if abi >= 5 else 0)
    for path in readable:
        _allow_beneath(ruleset, path, read)
    for path in writable:
        _allow_beneath(ruleset, path, write)
    if _libc().syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0):
        sys.exit("Landlock refused the rules: " + os.strerror(ctypes.get_errno()))
    os.close(ruleset)


def _filter_calls() -> None:
    machine = os.uname().machine
    refused = sorted(REFUSED_CALLS.get(machine, {}).values())
    if not refused:
        return
    last = len(refused) + 3
    program = [
        (BPF_LOAD_WORD, 0, 0, 4),
        (BPF_JUMP_IF_EQUAL, 0, last, AUDIT_ARCH[machine]),
        (BPF_LOAD_WORD, 0, 0, 0),
        # The x32 numbers would be a second name for every call.
        (BPF_JUMP_IF_AT_LEAST, last - 2, 0, X32_CALLS),
        *((BPF_JUMP_IF_EQUAL, last - 3 - place, 0, call) for place, call in enumerate(refused)),
        (BPF_RETURN, 0, 0, SECCOMP_ALLOW),
        (BPF_RETURN, 0, 0, SECCOMP_FAIL_EPERM),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    # A kernel without seccomp answers EINVAL; `vidqueue doctor` reports it, and the other protections work.
    _libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def main(arguments: list[str]) -> None:
    """Read the specification, confine this process, execute the command after `--`."""
    spec = marshal.loads(bytes.fromhex(arguments[0]))  # noqa: S302 - from `sandbox`, in the same version of Python
    command = arguments[2:]
    _die_with(spec["parent"])
    os.umask(0o077)
    _die_first_of_memory()
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _close_doors(spec["readable"], spec["writable"])
    if spec["filter_calls"]:
        _filter_calls()
    # Last, so that the bounds meant for ffmpeg do not meet this interpreter.
    _bound(spec["limits"])
    os.execve(command[0], command, {})  # noqa: S606 - becoming the command is the point


if __name__ == "__main__":
    main(sys.argv[1:])
