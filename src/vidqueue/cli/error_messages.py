"""Error messages of the command line: rewrites errors of the parser and of the daemon in terms of flags and files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError
from cyclopts.exceptions import (
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from vidqueue.cli.exits import CommandError, Exit

# Request fields whose flag has another name.
_FLAGS = {
    "timeout_s": "timeout", "stall_timeout_s": "stall-timeout", "keep_s": "keep", "tags": "tag", "depends_on": "after",
    "for_s": "for", "delay_s": "delay", "labels": "label",
}  # fmt: skip
# Request fields without a flag; messages about them show the value instead.
_NO_FLAGS = frozenset({"open"})
# The author of a processor has written this one; patterns of our own requests say nothing to people.
_PATTERN = re.compile(r"^String should match pattern '(.*)'$")
# Messages of pydantic, and their wording for flags.
_PHRASES = (
    (re.compile(r"^Input should be a valid dictionary(?: or instance of \w+)?$"), "must be an object"),
    (re.compile(r"^(?:Input|Value) should be (?:a )?valid (.*)"), r"must be a valid \1"),
    (re.compile(r"^(?:Input|Value) should (.*)"), r"must \1"),
    (re.compile(r"^String should match pattern .*"), "is not valid"),
    (re.compile(r"^String should have at least 1 character$"), "must not be empty"),
    (re.compile(r"^(?:String|List|Tuple|Dictionary) should have (.*)"), r"must have \1"),
    (re.compile(r"^Field required$"), "is required"),
    (re.compile(r"^Extra inputs are not permitted"), "is not known"),
)


def from_parser_error(error: CycloptsError) -> CommandError:
    """Return the message for an error of the parser."""
    command = " ".join(("vidqueue", *(error.command_chain or ())))
    see = f"`{command} --help` lists the flags and arguments."
    match error:
        case UnknownCommandError(unused_tokens=[word, *_]):
            return _unknown_command(error, str(word), command)
        case UnknownOptionError(token=token, argument_collection=known):
            flag = (token.keyword or token.value).partition("=")[0]
            near = did_you_mean(flag, (name for argument in known if argument.show for name in argument.names))
            return CommandError(f"Unknown flag {flag}.", exit=Exit.USAGE, hint=near or see)
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            return CommandError(f"Unexpected argument {word!r}.", exit=Exit.USAGE, hint=see)
        case MissingArgumentError(argument=argument) if argument is not None:
            name = error.keyword or argument.name
            positional = error.keyword is None and argument.index is not None
            what = f"{name.lstrip('-')} is missing." if positional else f"{name} requires a value."
            return CommandError(what, exit=Exit.USAGE, hint=see)
        case ValidationError(exception_message=said) if said:
            return CommandError(said, exit=Exit.USAGE)
        case _:
            return CommandError(_NOT_A_NUMBER.sub(_takes_a_number, str(error)), exit=Exit.USAGE, hint=see)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question after the known name that a word is close to; empty where none is close."""
    close = difflib.get_close_matches(word, [*known], n=1, cutoff=0.7)
    return f'Did you mean "{close[0]}"?' if close else ""


def from_problem(status: int, problem: Mapping[str, Any], path: str) -> tuple[str, list[str], str]:
    """Return message, details and hint of a problem (RFC 9457) that the daemon answered to a request of `path`."""
    message = str(problem.get("detail") or problem.get("title") or f"The daemon answered {status}.")
    hint, code = str(problem.get("hint") or ""), problem.get("code")
    faults = [_fault(one) for one in problem.get("errors") or () if isinstance(one, Mapping)]
    if code == "not_found" and message.startswith("There is nothing at"):
        kind, _, name = path.removeprefix("/v1/").partition("/")
        hint = "`vidqueue list --all` shows all ids." if kind == "jobs" else "Check the id; it may have been deleted."
        return f"There is no {_KINDS.get(kind, kind)} {name.partition('/')[0]!r}.", [], hint
    if code == "invalid_request" and faults:
        return "The daemon does not accept these values.", faults, ""
    if faults:
        message = _FIRST_FAULT.sub("", message)
    # Details that the message contains already are left out.
    return message, [fault for fault in faults if not fault.endswith(message)], hint


# Problems of a request name the first fault by its pointer, after a sentence of their own.
_FIRST_FAULT = re.compile(r" /(?:input|jobs/\d+)\b.*", re.DOTALL)


def describe_fault(pointer: str, detail: str) -> str:
    """Return the message for one invalid value: the flag or parameter that the pointer names, and the error."""
    name = _name(pointer)
    if (found := _PATTERN.search(detail)) and pointer.startswith("/input"):
        return f"{name} must match {found[1]}"
    for pattern, words in _PHRASES:
        if pattern.search(detail):
            return f"{name or 'a value'} {pattern.sub(words, detail)}"
    return f"{name}: {detail}" if name else detail


_NOT_A_NUMBER = re.compile(r'^Invalid value for (\S+): unable to convert (".*") into (int|float)\.$')


def _takes_a_number(found: re.Match[str]) -> str:
    return f"{found[1]} takes a {'whole ' * (found[3] == 'int')}number, not {found[2]}."


_KINDS = {
    "jobs": "job",
    "batches": "batch",
    "files": "file",
    "keys": "key",
    "webhooks": "receiver",
    "schedules": "schedule",
    "lanes": "lane",
    "processors": "processor",
    "deliveries": "delivery",
    "bulk-actions": "bulk action",
    "watch-folders": "watch folder",
}


def _fault(fault: Mapping[str, Any]) -> str:
    return describe_fault(str(fault.get("pointer") or ""), str(fault.get("detail") or ""))


def _name(pointer: str) -> str:
    """The flag of a field of a request, or the parameter of the processor; with the number of the job in a batch."""
    words = [word for word in re.split(r"[/?]", pointer) if word]
    where = ""
    if words[:1] == ["jobs"] and len(words) > 1:
        where, words = f"job {words[1]}, ", words[2:]
    if words[:1] == ["input"]:
        return where + ".".join(words[1:])
    if not words or words[0] in _NO_FLAGS:
        return where.rstrip(", ")
    name = _FLAGS.get(words[0], words[0]).replace("_", "-")
    return where + (name if where else f"--{name}")


# What other programs call their help and their version.
_MEANT = dict.fromkeys(("help", "usage", "-?"), 'Did you mean "--help"?') | dict.fromkeys(
    ("version", "-v", "-V"), 'Did you mean "--version"?'
)


def _unknown_command(error: UnknownCommandError, word: str, command: str) -> CommandError:
    known = _names(error)
    if command == "vidqueue submit" and (advice := _of_ones_own(word)):
        return CommandError(f"There is no processor {word!r}.", exit=Exit.USAGE, hint=advice)
    if (
        command == "vidqueue submit"
        and did_you_mean(word, known) == ""
        and ("." in word or "/" in word or Path(word).exists())
    ):
        hint = f"Name a processor before the file or folder, for example: vidqueue submit transcode {word}"
        return CommandError(f"There is no processor {word!r}.", exit=Exit.USAGE, hint=hint)
    if command == "vidqueue" and word.startswith("-"):
        hint = "Flags come after the command, for example: vidqueue list --url http://127.0.0.1:8765"
        return CommandError(f"There is no command {word!r}.", exit=Exit.USAGE, hint=_MEANT.get(word, hint))
    what = "processor" if command in ("vidqueue submit", "vidqueue try") else "command"
    hint = (
        did_you_mean(word, known)
        or (command == "vidqueue" and _MEANT.get(word))
        or (f"Known: {', '.join(known)}." if len(known) < 20 else f"`{command} --help` lists them.")
    )
    return CommandError(f"There is no {what} {word!r}.", exit=Exit.USAGE, hint=hint)


def _of_ones_own(word: str) -> str:
    """What to do about a processor that its author has written here; empty where there is none of this name."""
    from vidqueue.processors import registry

    if any(word in (one.name, one.package) for one in registry.unloaded()):
        return f"Its package cannot be imported: `vidqueue try {word}` shows why."
    if Path(word, "pyproject.toml").is_file():
        return f"Install it where the daemon runs (pip install -e {word}), and run `vidqueue reload`."
    return ""


def _names(error: CycloptsError) -> Sequence[str]:
    if error.app is None:
        return ()
    return [name for name in error.app if not name.startswith("-") and error.app[name].show]
