"""The command ``nettrim``: supervised from before anything heavy is imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; every ending has its exit code (docs/usage.md)."""
    if hasattr(os, "fork"):
        import signal

        # What comes before somebody listens waits until then.
        signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
        )
    from nettrim_cli.process.supervisor import run_supervised

    os._exit(run_supervised(command))


def command() -> int:
    """The command line itself."""
    from nettrim_cli import cli

    return cli.command(sys.argv[1:])


if __name__ == "__main__":
    main()
