"""From files to a table of redshifts: by input size, and beside today's route.

    python benchmarks/end_to_end.py [--sizes 10000 100000 1000000] [--against 20000]
                                    [--rounds 3] [--model default] [--folder DIR]

1. `--sizes`: Parquet files of so many sources through `predict_to_file`, each in a process of its
   own: sources per second, as a share of what the model does on ready vectors of flux, and of what
   its network does on ready inputs, in the same process; and the peak memory of a process that does
   nothing else. Medians of `--rounds`.
2. `--against`: today's route, `gaiaxpy.convert` from csv and then Keras's `predict_on_batch` of the
   dissertation's network (needs the extra `train`), beside `predict_to_file` on the same csv file,
   in turn; the time to the first result of a file with two sources; the difference of the vectors.

0 leaves a part out. Absolute rates are those of this machine in this minute: compare ratios. The
sources are simulated, a few thousand that repeat under new ids. Tables are printed in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

DISTINCT = 2000
"""Simulated sources behind all files."""
SHORTEST = 2.0
"""Seconds: a file that is done sooner is predicted again."""
ENGINES = ("vectors", "network")
"""What a rate is compared with: the model on vectors that are ready, and its network alone."""


# --- data ----------------------------------------------------------------------------------------


def simulate(folder: Path, n: int) -> Path:
    """Simulate the sources once."""
    from gaia_redshift import simulate_spectra, write_spectra

    path = folder / "simulated.parquet"
    if not path.exists():
        write_spectra(simulate_spectra(n, seed=1), path)
    return path


def write_copies(source: Path, path: Path, n: int, *, correlations: bool) -> Path:
    """Write n sources: those of a file again and again, under new ids."""
    import numpy as np
    from astropy.table import Table

    from gaia_redshift import read_spectra
    from gaia_redshift.writers import SpectraWriter

    if path.exists():
        return path
    spectra = read_spectra(source)
    if not correlations:
        bands = {
            band: replace(getattr(spectra, band), correlations=None, errors=None)
            for band in ("bp", "rp")
        }
        spectra = replace(spectra, **bands)
    # Two columns that GaiaXPy wants to see in a csv file.
    ones = np.ones(len(spectra))
    spectra = replace(
        spectra, columns=Table({f"{band}_standard_deviation": ones for band in ("bp", "rp")})
    )
    with SpectraWriter(path) as writer:
        for start in range(0, n, len(spectra)):
            part = spectra[: n - start]
            writer.write(replace(part, source_id=10**15 + start + np.arange(len(part))))
    return path


# --- what runs in processes of its own -----------------------------------------------------------


def time_model(model: Any, flux: Any) -> Any:
    """Sources per second of the model on ready vectors, and of its network on ready inputs."""
    import numpy as np

    engine, inputs = model._build_engine(), []
    run = engine.run

    def record(given: Any, *args: Any) -> Any:
        inputs.append(given)
        return run(given, *args)

    engine.run = record
    model.predict(flux)
    engine.run = run
    start = time.perf_counter()
    model.predict(flux)
    middle = time.perf_counter()
    for given in inputs:
        run(given)
    end = time.perf_counter()
    return len(flux) / np.array([middle - start, end - middle])


def measure_file(path: str, model_name: str, errors: str) -> dict[str, float]:
    """Predict a file, after a first run that loads everything; then the engine by itself."""
    from gaia_redshift import load_model, predict_to_file, sample_spectra
    from gaia_redshift.readers import iter_spectra

    model = load_model(model_name)
    with closing(iter_spectra(path, block_size=8192, errors=False)) as blocks:
        block = next(blocks)
    flux = sample_spectra(block, errors=False).flux
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"model": model, "flux_errors": bool(errors)}
        predict_to_file(block, Path(folder) / "first.parquet", **options)
        before = time_model(model, flux)
        n, seconds, start, cpu = 0, 0.0, time.perf_counter(), time.process_time()
        while seconds < SHORTEST:
            output = Path(folder) / "z.parquet"
            n += predict_to_file(path, output, overwrite=True, **options).n_rows
            seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
    vectors, network = (before + time_model(model, flux)) / 2
    return {"rate": n / seconds, "cpu rate": n / cpu, "vectors": vectors, "network": network}


def measure_peak(path: str, model_name: str, errors: str) -> dict[str, float]:
    """Predict a file and do nothing else; return the process's peak memory."""
    from gaia_redshift import predict_to_file

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "z.parquet"
        predict_to_file(path, output, model=model_name, flux_errors=bool(errors))
    return {"peak": read_peak()}


def read_peak() -> float:
    """Peak memory of this process in MB (Linux; elsewhere that of its parent may be in it)."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_today(path: str, model_name: str, errors: str) -> dict[str, float]:
    """`gaiaxpy.convert` from the file, then the dissertation's CNN with `predict_on_batch`."""
    convert, network = _open_today()
    convert(path if errors == "first" else _cut(path, 4))
    start, cpu = time.perf_counter(), time.process_time()
    network(convert(path))
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


def _open_today() -> tuple[Callable[[str], Any], Callable[[Any], Any]]:
    import keras
    import numpy as np
    from gaiaxpy import convert as gaiaxpy_convert

    from gaia_redshift.model import registry

    folder = Path(registry.__file__).parents[1] / "data" / "models" / "kiraleos2023"
    network = keras.saving.load_model(folder / "weights.keras", compile=False)

    def convert(path: str) -> Any:
        table, _ = gaiaxpy_convert(path, sampling=np.linspace(0, 60, 120), save_file=False)
        bands = [np.stack(table[table.xp == band]["flux"]) for band in ("BP", "RP")]
        return np.concatenate([bands[0][:, 34:114], bands[1][:, 4:110]], axis=1)

    def predict(flux: Any) -> Any:
        scaled = (flux - flux.min(axis=0)) / np.ptp(flux, axis=0).clip(1e-9)
        batches = [scaled[i : i + 64, :, None] for i in range(0, len(scaled), 64)]
        return np.concatenate([network.predict_on_batch(batch) for batch in batches])

    return convert, predict


def _cut(path: str, n: int) -> str:
    """Write the first sources of a csv file beside it."""
    short = Path(path).with_suffix(f".{n}.csv")
    with open(path, "rb") as file:
        short.write_bytes(b"".join(file.readline() for _ in range(n + 1)))
    return str(short)


def compare_vectors(path: str, model_name: str, errors: str) -> dict[str, float]:
    """Return the largest difference from GaiaXPy's own converter, relative to the largest flux.

    The converter's values are per unit pseudo-wavelength; the width of a sample makes them ours.
    """
    import numpy as np
    from gaiaxpy import convert

    from gaia_redshift import read_spectra, sample_spectra
    from gaia_redshift.grid import DEFAULT_GRID, N_BP
    from gaia_redshift.sampling.bases import sample_pseudo_wavelengths, sample_widths

    short = _cut(path, 100)
    ours = sample_spectra(read_spectra(short), errors=False).flux
    positions = sample_pseudo_wavelengths(DEFAULT_GRID)
    theirs = []
    for band, where in positions.items():
        order = np.argsort(where)
        table, _ = convert(short, sampling=where[order], save_file=False)
        flux = np.stack(table[table.xp == band.upper()]["flux"])
        theirs.append(flux[:, np.argsort(order)] * sample_widths(DEFAULT_GRID)[band])
    both = np.concatenate(theirs, axis=1)
    assert theirs[0].shape[1] == N_BP
    return {"difference": float(np.abs(both - ours).max() / np.abs(ours).max())}


TASKS = {
    task.__name__: task for task in (measure_file, measure_peak, measure_today, compare_vectors)
}


def run_task(name: str, path: Path, model: str, errors: str = "") -> dict[str, float]:
    """Run one of the functions above in a fresh process."""
    command = [sys.executable, __file__, "--task", name, str(path), model, errors]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {path.name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def time_process(command: list[str]) -> float:
    """Return the seconds that a command takes, from its start."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


# --- the tables ----------------------------------------------------------------------------------


def report_sizes(folder: Path, sizes: list[int], rounds: int, model: str) -> None:
    """Print rate, share of the engine's own rate, and peak memory by size: medians."""
    source = simulate(folder, DISTINCT)
    paths = {n: write_copies(source, folder / f"{n}.parquet", n, correlations=False) for n in sizes}
    runs: dict[int, list[dict[str, float]]] = {n: [] for n in sizes}
    for _ in range(rounds):
        for n, path in paths.items():
            found = run_task("measure_file", path, model) | run_task("measure_peak", path, model)
            found |= {f"share of {key}": found["rate"] / found[key] for key in ENGINES}
            runs[n].append(found)
    print(
        "\n| sources | per second | ready vectors | share | network alone | share"
        " | peak memory, MB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for n, several in runs.items():
        found = {key: statistics.median(each[key] for each in several) for key in several[0]}
        cells = [f"{n:,}", f"{found['rate']:,.0f}"]
        for key in ENGINES:
            cells += [f"{found[key]:,.0f}", f"{found[f'share of {key}']:.2f}"]
        print(f"| {' | '.join(cells)} | {found['peak']:,.0f} |", flush=True)


def report_today(folder: Path, n: int, rounds: int, model: str) -> None:
    """Print the ratios to today's route."""
    source = simulate(folder, DISTINCT)
    path = write_copies(source, folder / f"full.{n}.csv", n, correlations=True)
    kinds = (("", "coefficients"), ("errors", "with flux errors"))
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        today = run_task("measure_today", path, model)
        for errors, key in kinds:
            ours = run_task("measure_file", path, model, errors)
            of_time, of_cpu = (
                ours["rate"] * today["seconds"] / n,
                ours["cpu rate"] * today["cpu"] / n,
            )
            ratios.setdefault(key, []).append(of_time)
            ratios.setdefault(f"{key}, CPU seconds", []).append(of_cpu)
            print(
                f"csv, {key}: {ours['rate']:,.0f} sources/s; {of_time:.1f}, {of_cpu:.1f}",
                flush=True,
            )
    two = _cut(str(path), 2)
    first = []
    for _ in range(rounds):
        today = time_process(
            [sys.executable, __file__, "--task", "measure_today", two, "", "first"]
        )
        command = [sys.executable, "-m", "gaia_redshift", "predict", two, "--model", model]
        ours = time_process(command)
        first.append(today / ours)
        print(f"two sources, first result: {ours:.2f} s; today {today:.2f} s", flush=True)
    difference = run_task("compare_vectors", path, model)["difference"]
    print("\n| beside today's route | times as fast |\n|---|---:|")
    for key, values in {**ratios, "first result of two sources": first}.items():
        print(f"| {key} | {statistics.median(values):.1f} |")
    print(f"\nlargest difference of the vectors, relative: {difference:.1e}")


@contextmanager
def open_folder(folder: Path | None) -> Iterator[Path]:
    """Give the folder, made if need be, or a temporary one."""
    with tempfile.TemporaryDirectory() as scratch:
        chosen = folder or Path(scratch)
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen


def main() -> None:
    """Run the parts that are asked for."""
    if sys.argv[1:2] == ["--task"]:
        print(json.dumps(TASKS[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--against", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="default")
    parser.add_argument("--folder", type=Path, help="keep the files here for the next run")
    arguments = parser.parse_args()
    with open_folder(arguments.folder) as folder:
        print(f"{os.cpu_count()} processors; simulated sources")
        if arguments.sizes and any(arguments.sizes):
            report_sizes(folder, arguments.sizes, arguments.rounds, arguments.model)
        if arguments.against:
            report_today(folder, arguments.against, arguments.rounds, arguments.model)


if __name__ == "__main__":
    main()
