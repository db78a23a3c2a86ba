"""Tables of docs/paper.md, between its marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs" / "paper.md"
SUPPLEMENT = {  # Table S.1: non-zeros of a network of that width before and after, by layer
    50: "99, 2,483, 100 → 98, 467, 54",
    75: "149, 5,594, 150 → 149, 710, 72",
    125: "250, 15,529, 250 → 247, 3,477, 96",
    175: "349, 30,395, 350 → 348, 1,743, 116",
    200: "400, 39,668, 399 → 399, 1,991, 113",
}
FIRST = "397, 39,770, 399 → 362, 2,663, 131 (risk .35)"


def write(figures: Figures) -> None:
    """Write all tables for which there are figures."""
    swept = [row for name, row in figures.items() if name.startswith("sweep")]
    for model in dict.fromkeys(row["model"] for row in swept):
        put(f"sweep {model}", SWEEP, sweep_rows([row for row in swept if row["model"] == model]))
    put("schemes", SCHEMES, scheme_rows(figures))
    put("samples", ("samples", "zeros %", "error %", "accuracy %"), sample_rows(figures))
    put("noise", *noise_table(figures))
    put("recovery", RECOVERY, recovery_rows(figures))
    put("spirals", SPIRALS, spiral_rows(figures))


def put(mark: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Put a table between the marks of the page, if it has them."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    before, found, rest = PAGE.read_text("utf-8").partition(begin)
    if not found:
        return
    after = rest.partition(end)[2]
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    PAGE.write_text(f"{before}{begin}{text}\n{end}{after}", "utf-8")


def per_cent(share: float, digits: int = 1) -> str:
    """A share as per cent."""
    return f"{100 * share:.{digits}f}"


SWEEP = (
    *("epsilon", "zeros %", "error %", "accuracy %", "refitted: error %", "accuracy %"),
    *("magnitude: error %", "accuracy %", "refitted: error %", "accuracy %"),
)


def sweep_rows(rows: Sequence[Figures]) -> Iterable[Sequence[str]]:
    """A line for each gain; rivals have as many non-zeros in each layer."""
    for row in sorted(rows, key=lambda row: row["epsilon"]):
        names = ("net-trim", "net-trim, refitted", "magnitude", "magnitude, refitted")
        cells = [per_cent(row[name][key]) for name in names for key in ("error", "accuracy")]
        yield f"{row['epsilon']:g}", per_cent(row["zeros"]), *cells


SCHEMES = (
    *("model", "epsilon", "parallel: zeros %", "error %", "accuracy %", "cascade: zeros %"),
    *("error %", "accuracy %"),
)


def scheme_rows(figures: Figures) -> Iterable[Sequence[str]]:
    """A line for each model and gain of which both schemes are there."""
    rows = [row for name, row in figures.items() if name.startswith("schemes")]
    for row in sorted(rows, key=lambda row: (row["model"] == "lenet", row["epsilon"])):
        name = f"schemes {row['model']} cascade {row['epsilon']:g}"
        if row["scheme"] == "parallel" and name in figures:
            pair = row, figures[name]
            cells = (per_cent(one[key]) for one in pair for key in ("zeros", "error", "accuracy"))
            yield row["model"], f"{row['epsilon']:g}", *cells


def sample_rows(figures: Figures) -> Iterable[Sequence[str]]:
    """A line for each number of samples."""
    for name, row in figures.items():
        if name.startswith("samples"):
            shares = (per_cent(row[key]) for key in ("zeros", "error", "accuracy"))
            yield f"{row['samples']:,}", *shares


def noise_table(figures: Figures) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    """A column for each network, a line for every other level of noise."""
    rows = [row for name, row in figures.items() if name.startswith("noise")]
    heads = ["dense" if row["epsilon"] is None else f"epsilon {row['epsilon']:g}" for row in rows]
    levels = rows[0]["levels"] if rows else []
    lines = [
        [f"{level:g}", *(per_cent(row["accuracy"][k]) for row in rows)]
        for k, level in enumerate(levels)
        if k % 2 == 0
    ]
    return ["noise to image", *heads], lines


RECOVERY = (
    *(
        "weights s",
        "half found: nettrim",
        "linear program",
        "ratio",
        "statistical dimension, twice",
    ),
    *("by the width", "by Theorem 3, 95 %"),
)


def recovery_rows(figures: Figures) -> Iterable[Sequence[str]]:
    """A line for each number of non-zeros."""
    for name, row in figures.items():
        if name.startswith("recovery"):
            ours, exact = row["half"]["nettrim"], row["half"]["linear program"]
            yield (
                *(str(row["nonzeros"]), f"{ours:.1f}", f"{exact:.1f}", f"{ours / exact:.2f}"),
                *(f"{row['dimension']:.1f}", f"{row['width']:,}", f"{row['theorem']:,}"),
            )


SPIRALS = (
    *("network", "epsilon", "risk", "error %", "nettrim: non-zeros", "supplement: non-zeros"),
    "error %",
)


def spiral_rows(figures: Figures) -> Iterable[Sequence[str]]:
    """The supplement's first experiment, and a line for each width of its table."""
    if row := figures.get("spirals first"):
        yield "200, no dropout", *spiral_cells(row), FIRST, "4.6"
    for width, theirs in SUPPLEMENT.items():
        if row := figures.get(f"spirals {width}"):
            yield str(width), *spiral_cells(row), theirs, "< 2.0"


def spiral_cells(row: Figures) -> Sequence[str]:
    """What nettrim made of a network."""
    counts = [", ".join(f"{n:,}" for n in row[key]) for key in ("before", "after")]
    shown = f"{row['epsilon']:g}", f"{row['risk']:g}", per_cent(row["error"])
    return *shown, " → ".join(counts)
