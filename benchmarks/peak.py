"""The command `nettrim`, with its peak memory written to a file: `peak.py FILE prune ...`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def main() -> None:
    """Run it."""
    from nettrim_cli.cli import run

    code = run(sys.argv[2:])
    Path(sys.argv[1]).write_text(str(peak_bytes()))
    sys.exit(code)


def peak_bytes() -> int:
    """Largest resident set of this process.

    Linux counts what the parent held before `exec` in `getrusage`, and does not in its own file.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(each for each in status.read_text().splitlines() if "VmHWM" in each)
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
