"""``nettrim curve``: how much a model can be pruned."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from nettrim_cli.errors import BadInput
from nettrim_cli.files.formats import READABLE
from nettrim_cli.options.endings import printing
from nettrim_cli.options.flags import (
    PATH,
    limit_options,
    listed,
    options_of,
    reporting,
    reports_option,
)
from nettrim_cli.options.recipe import ConfiguredCommand, config_options
from nettrim_cli.report.curve.files import CURVE_FORMATS, render_curve
from nettrim_cli.settings import Settings
from nettrim_cli.settings.curve import RUN_OPTIONS, CurveSettings
