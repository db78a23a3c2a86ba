"""What a run tells while it lasts: listeners that show it, or write it down."""

from nettrim_cli.report.progress.listener import KINDS, Listener, Silent

__all__ = ["KINDS", "Listener", "Silent"]
