"""Run the experiments of the paper that are not there yet, and write docs/paper.md.

python -m benchmarks.paper
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.common import blas_threads, write_json
from benchmarks.paper import noise, page, recovery, samples, schemes, spirals, sweep

EXPERIMENTS = {
    "recovery": recovery.cells,
    "sweep": sweep.cells,
    "schemes": schemes.cells,
    "samples": samples.cells,
    "noise": noise.cells,
    "spirals": spirals.cells,
}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", type=Path, default=Path("build/paper.json"), metavar="FILE")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--no-page", action="store_true", help="measure only")
    chosen = parser.parse_args()
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    figures = json.loads(chosen.json.read_text()) if chosen.json.exists() else {}
    with blas_threads(1):
        for name in chosen.only:
            for cell, measure in EXPERIMENTS[name]().items():
                if cell not in figures:
                    figures[cell] = measure()
                    print(cell, json.dumps(figures[cell]), flush=True)
                    write_json(chosen.json, figures)
    if not chosen.no_page:
        from benchmarks.paper import pictures  # which needs matplotlib

        page.write(figures)
        pictures.draw(figures)


if __name__ == "__main__":
    main()
