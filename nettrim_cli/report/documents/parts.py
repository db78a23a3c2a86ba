"""Sections that several kinds of results have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nettrim_cli.report import formatting
from nettrim_cli.report.bench_result import BatchTiming
from nettrim_cli.report.bench_verdict import WORDS, at_batch, show_ratio, speed
from nettrim_cli.report.certificate_result import Certificate, LayerCosts
from nettrim_cli.report.comparison_result import Comparison
from nettrim_cli.report.document import Bar, Block, Cell, Measure, Section, Table, Text, Tile
from nettrim_cli.report.plain import plain
from nettrim_cli.report.provenance_result import Provenance
from nettrim_cli.report.text_table import Column


def figures(rows: Sequence[tuple[str, str, str, str]], head: tuple[str, str]) -> Table:
    """Rows of a label, two figures and a remark as a table."""
    return Table(("", *head, ""), "lrrl", rows)


def file_sizes(comparison: Comparison) -> list[Measure]:
    """Bytes of both models' files, as they lie and gzipped."""
    reference, candidate = comparison.reference, comparison.candidate
    return [
        size_measure("file", reference.bytes_raw, candidate.bytes_raw),
        size_measure("gzipped", reference.bytes_gzip, candidate.bytes_gzip),
    ]


def comparison_tiles(comparison: Comparison, samples: str) -> list[Tile]:
    """Size, accuracy and error at a glance, on so called samples."""
    reference, candidate = comparison.reference, comparison.candidate
    dense_size = f"{formatting.size(reference.bytes_gzip)} before"
    tiles = [Tile("file, gzipped", formatting.size(candidate.bytes_gzip), dense_size)]
    if candidate.accuracy is not None:
        change = formatting.points(reference.accuracy, candidate.accuracy)
        tiles.append(Tile("accuracy", f"{formatting.percent(candidate.accuracy, 2)} %", change))
    elif comparison.drop is not None:
        same = f"{formatting.percent(1 - comparison.drop, 2)} %"
        tiles.append(Tile("same answers", same, "as the dense model"))
    if comparison.outputs:
        value = f"{formatting.error(comparison.error)} %"
        remark = f"on {formatting.count(comparison.samples)} {samples}"
        tiles.append(Tile("output error", value, remark))
    return tiles


def size_measure(label: str, reference: int, candidate: int) -> Measure:
    """Bytes before and after."""
    texts = formatting.size(reference), formatting.size(candidate)
    return Measure(label, reference, candidate, *texts, formatting.factor(reference, candidate))


def latency_measures(timings: Sequence[BatchTiming], names: Sequence[str] = ("",)) -> list[Measure]:
    """Latencies of the reference and of each candidate, by their names, at each batch size."""
    return [
        Measure(
            f"{name or 'latency'}{at_batch(timing.size)}",
            timing.latencies[0].median,
            latency.median,
            f"{formatting.milliseconds(timing.latencies[0].median)} ms",
            f"{formatting.milliseconds(latency.median)} ms",
            f"{WORDS[speed(ratio)]}, ratio {show_ratio(ratio)}",
        )
        for timing in timings
        for name, latency, ratio in zip(names, timing.latencies[1:], timing.ratios, strict=True)
    ]


def cost_section(costs: LayerCosts) -> Section | None:
    """What the layers cost at the outputs; None where that was not measured."""
    if not costs.parts:
        return None
    outputs = costs.sums
    largest = max((row.largest or 0.0 for row in costs.parts), default=0.0) or 1.0

    def cell(cost: float | None) -> Cell:
        """A cost with its bar."""
        return Bar(formatting.error(cost), (cost or 0.0) / largest, tone="cost")

    rows: list[list[Cell]] = [
        [", ".join(row.layers), *(cell(row.outputs.get(output.name)) for output in outputs)]
        for row in costs.parts
    ]
    sums = ["?" if output.bound is None else formatting.at_most(output.bound) for output in outputs]
    names = ["layers", *(f"cost at {output.name} %" for output in outputs)]
    table = Table(names, "l" + "b" * len(outputs), [*rows, ["together at most", *sums]])
    basis = f"Measured on {formatting.count(costs.samples)} samples."
    return Section("Costs of layers at the outputs", [table, Text(basis, faint=True)])


def certificate_section(certificate: Certificate, columns: Mapping[str, int]) -> Section | None:
    """What is proved of each layer, with the columns that it was fitted to, by name."""
    if not certificate.layers:
        return None
    rows = [
        (
            *(bound.name, formatting.error(bound.error_alone)),
            formatting.error(bound.error_network),
            formatting.UNKNOWN if bound.norm is None else f"{bound.norm:.3g}",
            formatting.UNKNOWN if bound.bound is None else formatting.at_most(bound.bound),
            *(formatting.count(bound.samples_median), formatting.count(bound.samples_densest)),
            formatting.count(bound.samples_theorem),
            formatting.count(columns.get(bound.name)),
        )
        for bound in certificate.layers
    ]
    explained = (
        "The error in the network is at most what is proved from the layers' own errors and norms. "
        "Norms multiply from layer to layer, so bounds of deep layers are far above the errors."
    )
    blocks: list[Block] = [
        Text(explained, faint=True),
        *_theorem(certificate),
        Table(PROVED, "lrrrrrrrr", rows),
    ]
    return Section("Certificate of the layers", blocks, closed=True)


def _theorem(certificate: Certificate) -> list[Block]:
    """What the paper's own theorem proves, or why it says nothing."""
    theorem = certificate.consistency
    if not theorem.theorem:
        return []
    name = f"Theorem {theorem.theorem} of the Net-Trim paper"
    if theorem.bound is None or theorem.sharper is None:
        return [Text(f"{name} says nothing of this network: {theorem.why_unproved}.")]
    bound, sharper = formatting.at_most(theorem.bound), formatting.at_most(theorem.sharper)
    return [
        Text(
            f"{name}: on the samples that were fitted to, '{theorem.response}' has an error of at "
            f"most {bound} %, by the same proof with spectral norms {sharper} %. Measured: "
            f"{formatting.error(theorem.error)} %."
        )
    ]


PROVED = (
    *("layer", "error alone %", "error in the network %", "norm", "error at most %"),
    *("samples asked, median neuron", "densest neuron"),
    *("by the paper's theorem", "columns given"),
)


def settings_section(settings: Mapping[str, Any], title: str = "Settings") -> Section | None:
    """The resolved options of a run, or what else has names and values."""
    rows = [(name, json.dumps(plain(value))) for name, value in settings.items()]
    return Section(title, [Table(("setting", "value"), "ll", rows)], closed=True) if rows else None


def provenance_section(provenance: Provenance) -> Section | None:
    """Files with their hashes, and versions; None where nothing is known."""
    if not provenance.versions:
        return None
    files = [
        (file.role, file.path, formatting.size(file.bytes), file.sha256)
        for file in provenance.files
    ]
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return Section(
        "Files and versions",
        [
            Table(("role", "file", "size", "SHA-256"), "llrl", files),
            Text(f"{versions}; {provenance.platform}; {provenance.time}"),
        ],
    )


def as_table(columns: Sequence[Column]) -> Table:
    """Columns of the terminal as a table."""
    shown = [column for column in columns if any(column.cells)]
    head = [" ".join(filter(None, (column.title, column.group))) for column in shown]
    align = "".join("r" if column.right else "l" for column in shown)
    return Table(head, align, list(zip(*(column.cells for column in shown), strict=True)))
