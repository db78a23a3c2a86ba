"""``nettrim completion``: what completes words of the command line in a shell."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from nettrim_cli.options.endings import printing
from nettrim_cli.options.help import flag
from nettrim_cli.options.usage import Command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_NETTRIM_COMPLETE"  # by which the script asks for words
EXAMPLES = (
    ("for new shells, once and for all", "nettrim completion bash --install"),
    ("the script itself, for a set-up of your own", "nettrim completion zsh"),
)
BEGUN_ANEW = "new shells complete words of nettrim"
ZSH_SETUP = "put 'fpath+=(~/.zfunc); autoload -Uz compinit; compinit' into ~/.zshrc, once"


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("shell", type=click.Choice(SHELLS))
@flag("--install", is_flag=True, group="Output", help="Write it to where the shell looks for it.")
def completion(shell: str, install: bool) -> None:
    """Print the script by which SHELL completes commands, options, choices and files of nettrim.

    With --install it is written for your user, where bash (with bash-completion) and fish find it
    by themselves.
    """
    group = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(group, {}, "nettrim", VARIABLE).source()
    with printing():
        if not install:
            click.echo(script, nl=False)
            return
        path = place(shell)
        write(path, script)
        click.echo(f"written to {path}; {ZSH_SETUP if shell == 'zsh' else BEGUN_ANEW}")


def place(shell: str) -> Path:
    """The file in which a shell looks for completions of the user."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        "bash": data / "bash-completion" / "completions" / "nettrim",
        "zsh": home / ".zfunc" / "_nettrim",
        "fish": config / "fish" / "completions" / "nettrim.fish",
    }[shell]


def write(path: Path, script: str) -> None:
    """Write the script; one that is there is an older one.

    Raises
    ------
    CannotWrite
        The folder cannot be made.
    """
    from nettrim_cli.errors import CannotWrite
    from nettrim_cli.files.atomic import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"{path.parent}: {error.strerror}; print the script with 'nettrim completion' and put "
            "it where your shell finds it."
        ) from error
    write_atomically(path, script.encode("utf-8"))
