"""The bits of weights: those that may be asked for, and those that are chosen from."""

from __future__ import annotations

from nettrim_cli.errors import BadInput
from nettrim_cli.settings.targets import DEFAULT_TARGET

BITS = (16, 8, 6, 4, 3)
AUTO, CHOSEN_BITS, FIRST_BITS = "auto", (8, 6, 4, 3), 4
KERNEL_BITS = 7  # of --runtime-int8
CHOSEN_FOR = ("max_error", "max_drop", "max_bytes", DEFAULT_TARGET)  # targets


def parse_bits(text: str) -> int | str:
    """Read a number of bits, or that it is to be chosen.

    Raises
    ------
    ValueError
        It is none of ``BITS``.
    """
    if text == AUTO:
        return text
    if text not in map(str, BITS):
        raise ValueError(f"{text!r} is no number of bits; write 16, 8, 6, 4, 3 or auto")
    return int(text)


def check_bits(bits: int | str | None, target: str, *, runtime_int8: bool) -> None:
    """Check the bits of a run beside its target.

    Raises
    ------
    BadInput
        There are no such bits, or they contradict the other options.
    """
    if bits not in (None, AUTO, *BITS, KERNEL_BITS):
        raise BadInput(f"bits is {bits!r}; it must be 16, 8, 6, 4, 3 or auto.")
    if bits == AUTO and target not in CHOSEN_FOR:
        raise BadInput(
            "--bits auto weighs bits against zeros, which needs a target of the whole network: "
            "add --max-error, --max-drop or --max-bytes, or give a number of bits."
        )
    if runtime_int8 and bits in (16, 8, AUTO):
        raise BadInput(
            f"--runtime-int8 has weights of {KERNEL_BITS} bits: leave out --bits {bits}, or give "
            "6 or 4."
        )
