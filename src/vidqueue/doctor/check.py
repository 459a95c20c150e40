"""The result of one check of `vidqueue doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: what was examined, its level, what was found, and what to do if it is not ok."""

    name: str
    level: Level
    found: str
    advice: str = ""
