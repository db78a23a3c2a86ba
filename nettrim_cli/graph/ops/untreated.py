"""Ops that are left alone: those with weights, each with the reason, and random ones."""

from __future__ import annotations

from nettrim_cli.graph.layer import Geometry
from nettrim_cli.graph.ops.base import Op, Shape, Unsupported, WeightNode
from nettrim_cli.graph.ops.spec import OpSpec


class UnsupportedOp(Op):
    """An op whose weights, at these slots, are all refused for one reason."""

    def __init__(self, reason: str, *slots: int) -> None:
        self.reason = reason
        self.weights = slots

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """Refused.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        raise Unsupported(f"{node.op.rpartition('.')[2]} {self.reason}")


PACKED = "holds weights packed in few bits, which are left as they are"
ROUTED = "sends each sample to experts that it chooses itself, which is not treated"
INSIDE = "makes the inputs of its weights itself and does not give them out"
LAST = "has its channels last, which is not treated"
NO_ENGINE = "does not run on a processor, so that nothing can be recorded"

UNTREATED: dict[str, OpSpec] = {
    **dict.fromkeys(
        (
            *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
            *("Bernoulli", "Multinomial"),
        ),
        OpSpec(random=True),
    ),
    "DeformConv": OpSpec(
        weight=UnsupportedOp("reads its input at places that another tensor tells", 1)
    ),
    **{
        f"com.microsoft.{name}": OpSpec(weight=UnsupportedOp(reason, *slots))
        for name, reason, slots in (
            ("AttnLSTM", INSIDE, (1, 2)),
            ("CausalConvWithState", "is a depthwise convolution with a state, not treated", (1,)),
            ("ConvTransposeWithDynamicPads", "has pads that another tensor tells", (1,)),
            ("DecoderAttention", INSIDE, (2, 3)),
            ("DecoderMaskedSelfAttention", NO_ENGINE, (1,)),
            ("FusedMatMulActivation", NO_ENGINE, (0, 1)),
            ("GemmFastGelu", NO_ENGINE, (1,)),
            ("GemmFloat8", NO_ENGINE, (0, 1)),
            ("LongformerAttention", NO_ENGINE, (1, 4)),
            ("MatMulBlockQuantizedFp4Weight", PACKED, (1,)),
            ("MatMulBlockQuantizedFp8Weight", PACKED, (1,)),
            ("MatMulBnb4", PACKED, (1,)),
            ("MatMulFpQ4", PACKED, (1,)),
            ("MatMulNBits", PACKED, (1,)),
            ("MatMulNBitsMlp", PACKED, (3, 6)),
            ("MatMulNBitsQkv", PACKED, (3, 6, 9)),
            ("MatMulPacked", PACKED, (1,)),
            ("MoE", ROUTED, (2, 4, 6)),
            ("MoEPacked", ROUTED, (2, 3, 4)),
            ("NhwcConv", LAST, (1,)),
            ("NhwcFusedConv", LAST, (1,)),
            ("PackedAttention", NO_ENGINE, (1,)),
            ("QMoE", ROUTED, (2, 5, 8)),
            ("QOrderedAttention", NO_ENGINE, (5, 6, 7)),
            ("QOrderedLongformerAttention", NO_ENGINE, (2, 8)),
            ("QOrderedMatMul", NO_ENGINE, (2,)),
            ("SparseToDenseMatMul", "has a sparse operand, which is not treated", (0, 1)),
            ("WordConvEmbedding", INSIDE, (1, 2)),
        )
    },
}
