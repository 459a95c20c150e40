"""Free space on the volume of a folder, against the low-water mark of the configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

MEBIBYTE = 1 << 20
# Free space that must exist above the mark before work begins again, so that lanes do not flutter around it.
MARGIN = 1.1


def is_short_of_space(folder: Path, low_water_mib: int, *, was_short: bool = False) -> bool:
    """True if the folder's volume has less free space than the mark (MiB); one that `was_short` needs a tenth more."""
    return shutil.disk_usage(folder).free < low_water_mib * MEBIBYTE * (MARGIN if was_short else 1)
