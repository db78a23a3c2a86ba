"""``python -m nettrim_cli`` is the command ``nettrim``."""

from nettrim_cli.cli import main

if __name__ == "__main__":
    main()
