"""The command line: the group of all commands, and how a run of one ends.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress

import click

from nettrim_cli import __version__
from nettrim_cli.options.endings import exit_code, leave_quietly
from nettrim_cli.options.help import flag
from nettrim_cli.options.usage import Group

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
COMMANDS = {
    "prune": "Write a sparse model that answers like the dense one.",
    "curve": "Tell how much a model can be pruned.",
    "inspect": "List the layers: what can be pruned, why not, and what samples look like.",
    "data": "Make samples of images, arrays, text, sound, or look at them.",
    "compare": "Compare two models on the same samples; a gate for CI.",
    "verify": "Check that a pruned model is the one of a report.",
    "bench": "Time models side by side; a gate for CI.",
    "pack": "Store a sparse model compactly, where that is smaller.",
    "unpack": "Store all weights of a packed model plainly again.",
    "completion": "Complete words of the command line in bash, zsh or fish.",
}
MODULES = {name: f"nettrim_cli.commands.{name.removeprefix('un')}" for name in COMMANDS}


EXAMPLES = (
    (
        "samples of a folder of photographs",
        "nettrim data photographs --model model.onnx --preset imagenet -o calib.h5",
    ),
    ("how much can be pruned", "nettrim curve model.onnx --data calib.h5"),
    ("a sparse model and a report", "nettrim prune model.onnx --data calib.h5"),
    (
        "what it costs on other samples",
        "nettrim compare model.onnx model.pruned.onnx --data test.h5",
    ),
)


def show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the versions that a report of a fault needs, if they are asked for, and exit."""
    if not asked or context.resilient_parsing:
        return
    import platform
    from importlib.metadata import PackageNotFoundError, version

    parts = [f"Python {platform.python_version()}"]
    for library in ("onnx", "onnxruntime"):
        with suppress(PackageNotFoundError):
            parts.append(f"{library} {version(library)}")
    click.echo(f"nettrim {__version__} ({', '.join(parts)})")
    context.exit()


@click.group(
    cls=Group,
    context_settings=CONTEXT,
    modules=MODULES,
    short_helps=COMMANDS,
    examples=EXAMPLES,
)
@flag(
    *("-V", "--version"),
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    group="Run",
    help="Show the versions of nettrim, onnx, onnxruntime and Python.",
)
def nettrim() -> None:
    """Prune trained ONNX networks: the same answers from a fraction of the weights."""


def main() -> None:
    """The command ``nettrim``, as ``nettrim_cli.__main__`` starts it."""
    from nettrim_cli.__main__ import main as supervised

    supervised()


def command(arguments: list[str]) -> int:
    """Run a command in a process that does nothing else, and give its exit code."""
    if not sys.warnoptions:  # Python's own warnings are for developers: python -W shows them
        warnings.simplefilter("ignore")
    code = run(arguments)
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):  # closed early, or never open
        leave_quietly()
    return code


def run(arguments: list[str]) -> int:
    """Run a command and turn whatever happens into an exit code and one sentence."""
    return exit_code(lambda: nettrim.main(arguments, prog_name="nettrim", standalone_mode=False))
