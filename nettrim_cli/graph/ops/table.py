"""The table of all ops, joined of one piece a family."""

from __future__ import annotations

from nettrim_cli.graph.ops.arithmetic import ARITHMETIC
from nettrim_cli.graph.ops.base import qualified
from nettrim_cli.graph.ops.convolutions import CONVOLUTIONS
from nettrim_cli.graph.ops.einsum import EINSUM
from nettrim_cli.graph.ops.elementwise import ELEMENTWISE
from nettrim_cli.graph.ops.integer import INTEGER
from nettrim_cli.graph.ops.layout import LAYOUT
from nettrim_cli.graph.ops.normalization import NORMALIZATION
from nettrim_cli.graph.ops.pooling import POOLING
from nettrim_cli.graph.ops.products import PRODUCTS
from nettrim_cli.graph.ops.quantization import QUANTIZATION
from nettrim_cli.graph.ops.recurrent import RECURRENT
from nettrim_cli.graph.ops.spec import UNKNOWN, OpSpec
from nettrim_cli.graph.ops.untreated import UNTREATED

FAMILIES = (
    *(ARITHMETIC, CONVOLUTIONS, EINSUM, ELEMENTWISE, INTEGER, LAYOUT, NORMALIZATION),
    *(POOLING, PRODUCTS, QUANTIZATION, RECURRENT, UNTREATED),
)
OPS: dict[str, OpSpec] = {op: spec for family in FAMILIES for op, spec in family.items()}
"""By name, which is that of the domain and a dot before the op's own for other domains."""


def spec_of(op: str, domain: str = "") -> OpSpec:
    """Entry of an op of a domain; that of nothing known for any other."""
    return OPS.get(qualified(op, domain), UNKNOWN)
