"""The memory that a process takes, and the memory that is available."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

SHARE = 0.8
"""Share of the free memory that a run may take where the user set no limit."""

SLACK_BYTES = 1 << 30


def used(process: int) -> int | None:
    """Bytes that only this process has in memory; None where the system does not tell.

    Pages of files that are mapped do not count: the system takes them back when it needs them.
    """
    try:
        with open(f"/proc/{process}/statm", "rb", buffering=0) as file:
            _, resident, shared = map(int, file.read(200).split()[:3])
    except (OSError, ValueError):
        return None
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int | None:
    """Bytes that this process has had in memory at most; None where the system does not tell.

    Not what ``getrusage`` tells, which a process inherits from the one that started it.
    """
    with suppress(OSError, ValueError, IndexError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def available() -> int | None:
    """Bytes that a new process can have without others being paged out; None if unknown."""
    limits = [limit for limit in (_of_the_machine(), _of_the_group()) if limit is not None]
    return min(limits, default=None)


def refuse_huge_allocations(limit: int) -> None:
    """Let one allocation that is far over the limit fail at once instead of being filled.

    The system counts what is reserved, which libraries do generously; hence the slack.
    """
    if sys.platform != "linux":
        return
    import resource

    new_limit = 2 * limit + SLACK_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        new_limit = min(new_limit, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (new_limit, hard))


def _of_the_machine() -> int | None:
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_the_group() -> int | None:
    """What a container's limit leaves (control groups, both versions)."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):
            maximum, in_use = (_number(f"/sys/fs/cgroup/{name}") for name in (limit, usage))
            stat = f"/sys/fs/cgroup/{os.path.dirname(limit)}/memory.stat"
            with open(stat, "rb") as file:
                facts = dict(line.split() for line in file)
            return max(0, maximum - in_use + int(facts.get(cache.encode(), 0)))
    return None


def _number(path: str) -> int:
    with open(path, "rb") as file:
        return int(file.read())
