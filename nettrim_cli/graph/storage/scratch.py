"""Large arrays on disk in place of memory, in files without a name that nothing leaves behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPILLED_BYTES = 1 << 20
"""Smaller arrays stay in memory."""


@dataclass(frozen=True)
class Scratch:
    """Where large arrays are put.

    Attributes
    ----------
    folder
        Of files on a disk; None for memory.
    """

    folder: Path | None = None

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array (D1, ..., DK), mapped from a file if it is large; do not change it.

        Where the disk does not take it, it stays in memory.
        """
        if self.folder is None or array.nbytes < SPILLED_BYTES or os.name != "posix":
            return array
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=self.folder) as file:
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            return np.memmap(file, array.dtype, mode="r", shape=array.shape)
        return array
