"""`vidqueue completion`: scripts that complete commands, flags, ids and processors in bash, zsh and fish.

A script runs `vidqueue __complete` at each press of the tab key (cyclopts' protocol), so flags of processors, ids
and names are those that the daemon has at this moment.
"""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import PurePath
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.terminal import writing_stdout

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Annotated[Shell | None, Parameter(name="SHELL")] = None) -> int:
    """Print a script that completes this program's commands, flags, ids and processors.

    For bash: `eval "$(vidqueue completion bash)"` in ~/.bashrc. For zsh the same with zsh in ~/.zshrc, after compinit.
    For fish: `vidqueue completion fish | source` in ~/.config/fish/config.fish.

    Args:
        shell: bash, zsh or fish. The default is the shell of $SHELL.
    """
    name = shell or PurePath(os.environ.get("SHELL", "")).name
    if name not in get_args(Shell):
        raise CommandError(
            f"There is no completion for {name or 'a shell without a name'}.",
            exit=Exit.USAGE,
            hint=f"Name one: {', '.join(get_args(Shell))}.",
        )
    script = files("vidqueue.cli").joinpath("completion_scripts", f"{name}.txt").read_text(encoding="utf-8")
    with writing_stdout():
        sys.stdout.write(script)
    return Exit.OK
