"""The section `facefusion` of the configuration: the installation of FaceFusion."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from vidqueue.settings.entries import AbsolutePath, Section

PROGRAM = "facefusion.py"


class FacefusionSettings(Section):
    """The installation of FaceFusion."""

    home: AbsolutePath | None = Field(None, description="Folder of FaceFusion, the one with facefusion.py.")
    python: AbsolutePath | None = Field(
        None, description="Python interpreter with its packages; `.venv/bin/python` in `home` if not given."
    )

    @property
    def interpreter(self) -> Path:
        """The Python that runs it."""
        return self.python or (self.home or Path("/")) / ".venv/bin/python"

    def fault(self) -> str:
        """Return why it cannot be run, judged by its files; empty if it can."""
        if self.home is None:
            return "facefusion.home is not configured"
        if not (self.home / PROGRAM).is_file():
            return f"{self.home} has no {PROGRAM}"
        if not os.access(self.interpreter, os.X_OK):
            return f"{self.interpreter} is not a Python that can be executed; set facefusion.python"
        return ""
