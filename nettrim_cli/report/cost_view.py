"""What layers cost and what new samples do not exceed, for people."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from nettrim_cli.report import formatting
from nettrim_cli.report.certificate_result import Certificate, LayerCosts
from nettrim_cli.report.comparison_result import NewSampleError

Row = tuple[str, str, str, str]
DITTO = '"'  # for a layer that shares the costs of the one above
COSTLIEST = 3  # layers of a comparison


def cost_cells(costs: LayerCosts, names: Sequence[str]) -> list[str]:
    """What each layer costs at the outputs, in per cent; empty for those that cost nothing."""
    shown: set[int] = set()
    cells = []
    for name in names:
        numbers = [number for number, part in enumerate(costs.parts) if name in part.layers]
        largest = [costs.parts[number].largest for number in numbers]
        known = [cost for cost in largest if cost is not None]
        if not numbers:
            cells.append("")
        elif shown.issuperset(numbers):
            cells.append(DITTO)
        else:
            cells.append(formatting.error(sum(known) if len(known) == len(largest) else None))
        shown.update(numbers)
    return cells


def cost_remark(certificate: Certificate, name: str, samples: int) -> str:
    """What the layers cost together at an output, of which so many samples were compared."""
    costs = certificate.costs
    if costs.reason:
        return formatting.clean(costs.reason)
    cost_sum = costs.output(name)
    if cost_sum is None or not cost_sum.bound or len(costs.parts) == 1:  # that is the error itself
        return ""
    text = f"at most {formatting.at_most(cost_sum.bound)} % by the costs of layers"
    if costs.samples < samples:
        count, error = formatting.count(costs.samples), formatting.error(cost_sum.error)
        text += f", on {count} samples with an error of {error} %"
    return text


def costliest_row(certificate: Certificate | None) -> list[Row]:
    """The layers that cost most at the outputs, where there are several."""
    parts = certificate.costs.parts if certificate is not None else ()
    costs = [(row.largest, row) for row in parts if row.largest]
    ranked = sorted(costs, key=lambda pair: -(pair[0] or 0))[:COSTLIEST]
    if len(parts) < 2 or not ranked:
        return []
    names = [formatting.clean(" + ".join(row.layers)) for _, row in ranked]
    figures = [f"{formatting.error(cost)} %" for cost, _ in ranked]
    pairs = [f"{name} {figure}" for name, figure in zip(names[1:], figures[1:], strict=True)]
    remark = "; then ".join(filter(None, (names[0], ", ".join(pairs))))
    return [("costliest layer", "", figures[0], remark)]


def new_sample_rows(bounds: Sequence[NewSampleError], *, run: bool) -> list[Row]:
    """The error that most new samples do not exceed, for each output.

    Parameters
    ----------
    run
        Whether this is a run's report, not that of a comparison.
    """
    rows: list[Row] = []
    for bound in bounds:
        share = Fraction(bound.share).limit_denominator(100)
        most = f"{share.numerator} of {share.denominator}"
        if bound.error is None:
            what = f"what {most} do not exceed"
            remark = f"{bound.needed} samples are needed to tell {what}"
            if run:
                remark = f"nettrim compare with {bound.needed} unused samples tells {what}"
            return [("new samples", "", formatting.UNKNOWN, remark)]
        remarks = [
            formatting.clean(bound.name) if len(bounds) > 1 else "",
            f"at most, for {most} of them ({formatting.plain_percent(bound.confidence)} % sure)",
            f"by {formatting.count(bound.samples)} unused samples" if run else "",
        ]
        value = f"{formatting.at_most(bound.error)} %"
        rows.append(("new samples", "", value, ", ".join(filter(None, remarks))))
    return rows
