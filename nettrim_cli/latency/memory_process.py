"""The process that loads and runs one model, and tells its peak memory (see ``footprint``)."""

from __future__ import annotations

import os
import pickle
import sys

from nettrim_cli.data.deployed import NO_SIZE, NO_SIZE_FEEDS, DeployedModel
from nettrim_cli.process import memory
from nettrim_cli.process.supervisor import end_with

RUNS = 2


def main() -> None:
    """Read a task from stdin, and write a number of bytes to stdout."""
    end_with(int(sys.argv[1]))
    path, feeds, threads = pickle.load(sys.stdin.buffer)
    result = os.dup(1)
    os.dup2(2, 1)  # where native code may print
    fed = NO_SIZE_FEEDS if path is None else feeds
    session = DeployedModel(NO_SIZE if path is None else path, threads=threads)
    session.durations(fed, RUNS)
    os.write(result, str(memory.peak()).encode())


if __name__ == "__main__":
    main()
