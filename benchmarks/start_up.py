"""What it takes to begin: imports, ``--version``, and the first redshifts of two sources.

    python benchmarks/start_up.py [--rounds 3]

Each line is a fresh process; all are run in turn, several times, and the table shows medians. The
first redshifts are compared with today's route on the same csv file: `gaiaxpy.convert`, then
Keras's `predict_on_batch` with the dissertation's network (needs the extra `train`). Peak memory is
each process's own. Seconds are those of this machine in this minute: compare ratios. The two
sources are simulated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""
"""Runs a command; a process of its own, whose children are this command alone."""
TODAY = "today: gaiaxpy.convert, then Keras"
PYTHON = "Python with NumPy"


def list_commands(csv: Path) -> dict[str, list[str]]:
    """Return what is measured, by name."""
    python = sys.executable
    package = [python, "-m", "gaia_redshift"]
    into = ["-o", str(csv.with_name("z.parquet")), "--overwrite"]
    today = [python, str(Path(__file__).with_name("end_to_end.py")), "--task", "measure_today"]
    return {
        PYTHON: [python, "-c", "import numpy"],
        "import gaia_redshift": [python, "-c", "import gaia_redshift"],
        "gaia-redshift --version": [*package, "--version"],
        "gaia-redshift --help": [*package, "--help"],
        "first redshifts, default model": [*package, "predict", str(csv)],
        "first redshifts, network of 2023": [*package, "predict", str(csv), "--model=kiraleos2023"],
        "first redshifts, without flux errors": [*package, "predict", str(csv), "--no-errors"],
        "first redshifts, into a Parquet file": [*package, "predict", str(csv), *into],
        TODAY: [*today, str(csv), "", "first"],
    }


def measure(command: list[str], folder: str) -> tuple[float, float]:
    """Return a command's seconds and its peak memory in MB."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # As after an installation: modules are compiled once, in the first round.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def write_sources(path: Path) -> None:
    """Simulate two sources with full covariances, and write what GaiaXPy wants as well."""
    from dataclasses import replace

    import numpy as np
    from astropy.table import Table

    from gaia_redshift import simulate_spectra, write_spectra

    spectra = simulate_spectra(2, seed=1)
    columns = Table({f"{band}_standard_deviation": np.ones(2) for band in ("bp", "rp")})
    write_spectra(replace(spectra, columns=columns), path)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "two.csv"
        write_sources(csv)
        commands = list_commands(csv)
        for turn in range(arguments.rounds + 1):
            for name, command in commands.items():
                result = measure(command, folder)
                if turn:  # the first round fills the file cache
                    found.setdefault(name, []).append(result)
    print(f"{os.cpu_count()} processors; {arguments.rounds} rounds; simulated sources\n")
    print("| fresh process | seconds | peak memory, MB | today's route takes times as long |")
    print("|---|---:|---:|---:|")
    for name, results in found.items():
        seconds, memory = (statistics.median(values) for values in zip(*results, strict=True))
        ratios = [b[0] / a[0] for a, b in zip(results, found[TODAY], strict=True)]
        first = name.startswith(("first", "today"))
        ratio = f"{statistics.median(ratios):.1f}" if first else ""
        print(f"| {name} | {seconds:.2f} | {memory:,.0f} | {ratio} |")


if __name__ == "__main__":
    main()
