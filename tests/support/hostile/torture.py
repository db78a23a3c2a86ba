"""Long runs of what may happen to a run: kills, signals, races, full disks, limits, mutations.

Prints a table of what was tried and how it ended; exits 1 where an output was lost or corrupt, or
an ending was none of those that are promised.  Each violation is named with its seed.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from tests.support import forked
from tests.support.hostile import mutations
from tests.support.hostile.cases import text
from tests.support.hostile.conditions import ENDINGS, hear_signals, set_limit
from tests.support.options import FAST
from tests.support.small import normal

NEVER = {1, 70}  # exit codes
SECONDS = 120


class Bench:
    """A folder with a model, samples and a good old output, which no fault may harm."""

    def __init__(self, folder: Path, *, external: bool = False) -> None:
        self.folder, self.output = folder, folder / "model.pruned.onnx"
        proto = text(
            "g (float[N,48] x) => (float[N,8] y) { h = Gemm(x, w, b) r = Relu(h) "
            "y = MatMul(r, v) }",
            w=normal(48, 40, seed=1),
            b=normal(40, seed=2),
            v=normal(40, 8, seed=3),
        )
        import onnx

        options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
        onnx.save(proto, folder / "model.onnx", **(options if external else {}))
        np.savez(folder / "data.npz", x=normal(64, 48))
        self.external = external
        first = self.timed("--sparsity", "0.3")
        self.old = self.output.read_bytes()
        self.seconds = min(first, self.timed())
        self.new = self.output.read_bytes()

    def start(
        self,
        *more: str,
        before: Callable[[], None] | None = None,
        program: type[subprocess.Popen[str]] = forked.Popen,
    ) -> subprocess.Popen[str]:
        words = ["prune", "model.onnx", "--data", "data.npz", *FAST]
        return program(
            [sys.executable, "-m", "nettrim_cli", *words, "--force", "-q", *more],
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
        )

    def timed(self, *more: str) -> float:
        """Seconds of a run that nothing disturbs."""
        begun = time.monotonic()
        self.finish(*more)
        return time.monotonic() - begun

    def finish(self, *more: str) -> None:
        """A run that nothing disturbs."""
        run = self.start(*more)
        _, err = run.communicate(timeout=SECONDS)
        assert run.returncode == 0, err

    def reset(self) -> None:
        """Put the old output back; what lies around stays."""
        if not self.external:
            self.output.write_bytes(self.old)

    def harm(self) -> str:
        """What is wrong with the output; empty where it is whole."""
        try:
            found = self.output.read_bytes()
            onnxruntime.InferenceSession(str(self.output), providers=["CPUExecutionProvider"])
        except Exception as error:
            return f"the output is lost: {error}"
        return "" if found in (self.old, self.new) else "the output is neither old nor new"

    def left(self) -> list[str]:
        """Files that should not be there."""
        return [each for each in os.listdir(self.folder) if each.startswith(".nettrim-")]

    def sweep(self) -> None:
        """Remove what dead runs have left."""
        for name in self.left():
            (self.folder / name).unlink()

    def moment(self, draw: random.Random) -> float:
        """Seconds to wait; half of them in the last quarter, where files are written."""
        first = draw.choice((0, 0.75))
        return self.seconds * draw.uniform(first, 1.05)


class Tally:
    """Counts of endings, and all violations."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.violations: list[str] = []

    def add(self, kind: str, seed: int, ending: object, wrong: str = "") -> None:
        self.counts.setdefault(kind, Counter())[str(ending)] += 1
        if wrong:
            self.violations.append(f"{kind}, seed {seed}: {wrong}")

    def show(self) -> int:
        for kind, counts in self.counts.items():
            shown = ", ".join(f"{code}: {n:,}" for code, n in sorted(counts.items()))
            print(f"{kind:10} {counts.total():>9,}   {shown}")
        print(f"violations {len(self.violations):>9,}")
        for each in self.violations[:50]:
            print(f"  {each}")
        return bool(self.violations)


@contextmanager
def bench(**options: bool) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder), **options)


def wrong(code: int, err: str, *right: int) -> str:
    """What is wrong with an ending; `right` are the codes that it may have, if given."""
    if "Traceback" in err or code < 0 or code in NEVER or (right and code not in right):
        return f"exit {code}: {err.strip()[-200:]}"
    return ""


def kills(count: int, seed: int, tally: Tally, place: Bench) -> None:
    for at in range(seed, seed + count):
        place.reset()
        run = place.start()
        time.sleep(place.moment(random.Random(at)))
        run.kill()
        run.communicate()
        tally.add("kill", at, "ended before" if run.returncode == 0 else "killed", place.harm())
        if at % 20 == 19:
            _, err = (after := place.start()).communicate(timeout=SECONDS)
            left = place.left()
            bad = wrong(after.returncode, err, 0) or (f"left behind: {left}" if left else "")
            tally.add("next run", at, after.returncode, bad)


def signals(count: int, seed: int, tally: Tally, place: Bench) -> None:
    waits = []
    for at in range(seed, seed + count):
        draw = random.Random(at)
        place.reset()
        number = draw.choice(ENDINGS)
        # The interpreter itself starts in the first moments: before, no one could listen.
        run = place.start(before=hear_signals)
        time.sleep(max(0.1, place.moment(draw)))
        begun = time.monotonic()
        run.send_signal(number)
        _, err = run.communicate()
        waits.append(time.monotonic() - begun)
        code = run.returncode
        if code == -number:  # the interpreter was not yet up, which a shell cannot tell apart
            code = 128 + number
        bad = wrong(code, err, 0, 128 + number) or place.harm()
        left = place.left()
        tally.add("signal", at, code, bad or (f"left behind: {left}" if left else ""))
    if waits:
        half, most, worst = np.quantile(waits, (0.5, 0.99, 1))
        print(
            f"from a signal to the end: median {half:.3f} s, 99 % {most:.3f} s, worst {worst:.3f} s"
        )


def races(count: int, seed: int, tally: Tally, _: Bench) -> None:
    with bench(external=True) as place:
        for at in range(seed, seed + count):
            runs = [place.start("--seed", str(3 * at + k)) for k in range(3)]
            errs = [run.communicate()[1] for run in runs]
            codes = sorted(run.returncode for run in runs)
            bad = next(
                filter(
                    None, (wrong(r.returncode, e, 0, 75) for r, e in zip(runs, errs, strict=True))
                ),
                "",
            )
            place.new = place.output.read_bytes()
            tally.add(
                "race", at, codes, bad or place.harm() or ("" if 0 in codes else "none wrote")
            )


def disks(count: int, seed: int, tally: Tally, place: Bench) -> None:
    for at in range(seed, seed + count):
        place.reset()
        room = random.Random(at).randrange(len(place.old) // 2)
        limit = partial(set_limit, resource.RLIMIT_FSIZE, room)
        _, err = (run := place.start(before=limit)).communicate(timeout=SECONDS)
        bad = wrong(run.returncode, err, 74) or place.harm()
        tally.add("full disk", at, run.returncode, bad)


def limits(count: int, seed: int, tally: Tally, place: Bench) -> None:
    """Few file descriptors: those of the interpreter itself are left to it."""
    for at in range(seed, seed + count):
        place.reset()
        limit = partial(set_limit, resource.RLIMIT_NOFILE, random.Random(at).randrange(12, 40))
        _, err = (run := place.start(before=limit)).communicate(timeout=SECONDS)
        tally.add("few files", at, run.returncode, wrong(run.returncode, err) or place.harm())


def memory(count: int, seed: int, tally: Tally, place: Bench) -> None:
    """A limit of memory between what Python alone takes and what is plenty."""
    for at in range(seed, seed + count):
        place.reset()
        most = f"{random.Random(at).randrange(15, 100)}M"
        run = place.start("--max-memory", most, program=subprocess.Popen)
        _, err = run.communicate(timeout=SECONDS)
        # 124: onnxruntime hangs now and then where a thread of its own gets no memory.
        bad = wrong(run.returncode, err, 0, 71, 124) or place.harm()
        tally.add("memory", at, run.returncode, bad)


def resumes(count: int, seed: int, tally: Tally, _: Bench) -> None:
    """Kills of runs that then carry on: they write the bytes of a run that nothing disturbs."""
    sample = Path(__file__).parents[3] / "sample_models" / "mlp"
    words = ["--data", sample / "calib.h5", "--samples", "400", *FAST]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "small.onnx")
        command = [sys.executable, "-m", "nettrim_cli", "prune", sample / "model.onnx", *words]
        command += ["-o", output, "--progress", "none", "-q"]
        begun = time.monotonic()
        subprocess.run(command, check=True)
        seconds, uninterrupted = time.monotonic() - begun, output.read_bytes()
        for at in range(seed, seed + count):
            output.unlink()
            run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(random.Random(at).uniform(0.1, 1.0) * seconds)
            run.kill()
            run.wait()
            ending = "carried on" if os.listdir(folder) not in ([], [output.name]) else "anew"
            output.unlink(missing_ok=True)
            subprocess.run(command, check=True)
            bad = "" if output.read_bytes() == uninterrupted else "other bytes"
            left = [name for name in os.listdir(folder) if name != output.name]
            tally.add("resume", at, ending, bad or (f"left behind: {left}" if left else ""))


def mutate(count: int, seed: int, tally: Tally, _: Bench) -> None:
    for kind in mutations.KINDS:
        for at, ending in mutations.run(kind, range(seed, seed + count)):
            tally.add(kind, at, ending, "" if ending in mutations.RIGHT else f"ended with {ending}")


PARTS: dict[str, tuple[Callable[[int, int, Tally, Bench], None], int]] = {
    "kills": (kills, 1000),
    "signals": (signals, 300),
    "races": (races, 200),
    "disks": (disks, 100),
    "limits": (limits, 100),
    "memory": (memory, 100),
    "resumes": (resumes, 100),
    "mutations": (mutate, 1_000_000),
}


def run(counts: dict[str, int], seed: int) -> Tally:
    """Run the parts that are counted, so many times each."""
    tally = Tally()
    with bench() as place:
        for name, count in counts.items():
            if count:
                PARTS[name][0](count, seed, tally, place)
                place.sweep()
    return tally


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, (_, count) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    seed = given.pop("seed")
    return run(given, seed).show()


if __name__ == "__main__":
    sys.exit(main())
