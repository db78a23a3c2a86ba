"""The suite under each BLAS kernel that this processor can run, and with 1, 2 and 4 threads.

    make test-kernels                       all of it
    make test-kernels ARGS="tests/solve"    what is behind ARGS goes to pytest

NumPy and SciPy bring an OpenBLAS each, which takes its kernels from OPENBLAS_CORETYPE when it is
loaded.  Threads are a matter of ``conftest.py`` (``--threads``).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
THREADS = (1, 2, 4)
PARALLEL = ("--numprocesses", "auto", "--maxprocesses", "8", "--dist", "worksteal")
WIDE = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
KERNELS = {  # what the processor needs for each
    "Prescott": {"pni"},
    "Nehalem": {"sse4_2"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx2", "fma"} | WIDE,
}
ALIASES = {"Katmai": "Prescott"}  # OpenBLAS names the kernels that both share by the older one
PROBE = """
import numpy, scipy.linalg, threadpoolctl
print(*{each["architecture"] for each in threadpoolctl.threadpool_info()})
"""


def processor_flags() -> set[str]:
    """What the processor can do, as Linux spells it; nothing where that cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(line[1].split()) if line else set()


def environment(kernel: str) -> dict[str, str]:
    """Variables under which OpenBLAS takes a kernel; its own choice for an empty name."""
    rest = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    return {**rest, "OPENBLAS_CORETYPE": kernel} if kernel else rest


def kernel_taken(kernel: str) -> str:
    """The kernel that both libraries report under the name of another or of this one."""
    said = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment(kernel), capture_output=True, text=True
    )
    name = said.stdout.strip() or f"none: {said.stderr.strip()[-200:]}"
    return ALIASES.get(name, name)


def run_suite(kernel: str, threads: int, arguments: list[str]) -> bool:
    """Run the suite once and print its line; whether it passed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--threads={threads}"]
    command += ["--tb=short", "--ignore=tests/test_quality.py", *PARALLEL, *arguments]
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment(kernel), capture_output=True, text=True
    )
    said = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["nothing said"]
    took = time.monotonic() - begun
    verdict = "passed" if done.returncode == 0 else "FAILED"
    print(f"{kernel or 'default':9} {threads} threads  {verdict}  {took:4.0f} s  {said[-1]}")
    if done.returncode:
        print("\n".join(said[-100:]))
    sys.stdout.flush()
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Run every combination; the number of those that failed is what counts."""
    flags, taken, failed = processor_flags(), {}, 0
    for kernel, needed in KERNELS.items():
        if needed - flags:
            lacking = ", ".join(sorted(needed - flags))
            print(f"{kernel:9} skipped: this processor has no {lacking}")
            continue
        name = kernel_taken(kernel)
        if name in taken.values():
            print(f"{kernel:9} skipped: the libraries have {name}'s kernels for it")
        elif name != kernel:
            print(f"{kernel:9} FAILED: the libraries took {name}")
            failed += 1
        else:
            taken[kernel] = name
    for kernel in taken or [""]:
        failed += sum(not run_suite(kernel, threads, arguments) for threads in THREADS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
