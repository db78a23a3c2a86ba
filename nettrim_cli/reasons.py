"""Why a layer, or a part of it, is not pruned as asked: sentences with stable codes.

A new reason is one line in ``CODES`` and one in docs/usage.md; its text is written where the fact
is known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why something is left as it is; the empty reason, which is false, where nothing is.

    Attributes
    ----------
    code
        One of ``CODES``; it never changes its meaning, so that programs may read it.
    text
        A clause for people.
    """

    code: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        """Check the code.

        Raises
        ------
        ValueError
            The code is not in ``CODES``, or there is no text to it.
        """
        if (self.code or self.text) and (self.code not in CODES or not self.text):
            raise ValueError(f"{self.code!r} is no code of a reason, or has no text")

    def __bool__(self) -> bool:
        """Whether there is a reason."""
        return bool(self.code)

    def __str__(self) -> str:
        """The text."""
        return self.text


CODES = (
    # What the graph refuses
    "unsupported",
    "not-constant",
    "computed-weight",
    "constant-input",
    "shared-weight",
    "element-type",
    "empty",
    "weights-not-finite",
    # Why units of a layer have to stay
    "fixed-width",
    "fixed-partner",
    "mixed",
    "not-followed",
    "unread",
    # What the settings leave out
    "not-included",
    "excluded",
    "depthwise",
    # What the samples do not tell
    "unreached",
    "signals-not-finite",
    "changing-shapes",
    "not-measured",
    # What the solver does not reach
    "not-sparser",
    "errors-not-finite",
    "infeasible",
    "limit",
    "more-weights",
    "solver-not-finite",
    "not-solved",
    "out-of-range",
)

NO_REASON = Reason()
