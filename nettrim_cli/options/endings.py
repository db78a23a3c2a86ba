"""How a command ends: an exit code, and at most one line on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from nettrim_cli.errors import DiskFailed, NettrimError, OutOfMemory
from nettrim_cli.process import supervisor
from nettrim_cli.process.ledger import NOTHING_WRITTEN, written_alone

if TYPE_CHECKING:
    from nettrim_cli.report.plain import Facts

INTERRUPTED = 130


@contextmanager
def printing(outcome: NettrimError | None = None) -> Iterator[None]:
    """Print in the with-block, then raise an outcome, even if printing fails.

    A reader that leaves changes nothing.

    Raises
    ------
    NettrimError
        The outcome.
    OSError
        Printing fails, and there is no outcome.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        leave_quietly()
    except OSError:
        if outcome is None:
            raise
        leave_quietly()
    if outcome is not None:
        raise outcome


def print_result(
    result: Facts,
    show: Callable[..., None],
    *,
    as_json: bool,
    outcome: NettrimError | None = None,
) -> None:
    """Print what a command found, as JSON or as people read it, then raise an outcome.

    Parameters
    ----------
    result, show
        What was found, and what prints it on a console.
    as_json
        Whether JSON is printed.
    outcome
        As of ``printing``, also for the errors raised.
    """
    from nettrim_cli.report.plain import json_text
    from nettrim_cli.report.terminal import console_for_stdout

    with printing(outcome):
        if as_json:
            click.echo(json_text(result), nl=False)
        else:
            show(result, console_for_stdout())


def exit_code(command: Callable[[], object]) -> int:
    """Run a command and turn whatever happens into an exit code and one sentence."""
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk under it is an error
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        return complain(f"interrupted; {file_note(error) or NOTHING_WRITTEN}", INTERRUPTED)
    except NettrimError as error:
        return complain("; ".join(filter(None, (str(error), file_note(error)))), error.exit_code)
    except MemoryError as error:
        advice = "out of memory: use fewer --samples, or leave the largest layers out (--exclude)"
        text = "; ".join(filter(None, (advice, file_note(error))))
        return complain(text, OutOfMemory.exit_code)
    except (BrokenPipeError, SystemExit):  # click turns a closed pipe into an exit
        return leave_quietly()
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return complain(f"{name}{error.strerror or error}", DiskFailed.exit_code)
    except Exception:
        return confess()


def file_note(error: BaseException) -> str:
    """Say that the output was written before the run ended; empty where it was not."""
    from nettrim_cli.files.atomic import WRITTEN

    path = getattr(error, WRITTEN, None) or getattr(error.__cause__, WRITTEN, None)
    return written_alone(path) if path else ""


def leave_quietly() -> int:
    """Discard what stdout still holds, so that the interpreter ends without an error."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
    return 0


def complain(text: str, code: int) -> int:
    """Print one line on stderr with control characters spelled out, and give the exit code."""
    supervisor.complain(text)
    return code


def confess() -> int:
    """Report a defect of nettrim in one line, with the traceback in a file."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="nettrim-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(traceback.format_exc())
    kind = sys.exc_info()[0]
    name = kind.__name__ if kind else "error"
    return complain(
        f"internal error ({name}); please report it with the traceback in {file.name}",
        NettrimError.exit_code,
    )
