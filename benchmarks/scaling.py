"""Cost per source and memory, by format and size, beside reading alone; what that is for a release.

    python benchmarks/scaling.py [--sizes 10000 100000] [--formats csv.gz parquet fits h5]
                                 [--bare 0] [--dask 0] [--processes 0] [--rounds 3]
                                 [--model default] [--folder DIR]

Files of simulated sources with full covariances, a few thousand that repeat under new ids. Every
measurement is a process of its own, which first predicts a short file; both sides of a ratio are
measured in turn, in the same round. CPU seconds are those of all threads.

- `predict_to_file` without flux errors, and with them;
- for text `isal` alone, which unpacks the file and throws it away; for Parquet, FITS and HDF5
  pyarrow, astropy and h5py alone, which read the columns that are needed as arrays, and the network
  alone, on inputs that are ready.

`--bare N`: also Parquet files of the first size and of N sources without covariances. `--dask N`:
N such sources through `predict_dask`, by one worker and by two, of one thread each. `--processes
N`: N sources in folders of 16 files through `predict_to_file`, by one process and by two, whose
start counts, and Parquet by Dask's two workers, which have begun before. Then a release of 220
million sources is extrapolated from the largest csv.gz file. Tables are in Markdown.
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
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from end_to_end import DISTINCT, open_folder, read_peak, simulate, write_copies

FORMATS = ("csv.gz", "parquet", "fits", "h5")
RELEASE = 220e6
"""Sources with XP spectra in DR3 (219,197,643)."""
PARTS = 16
"""Files of a folder."""
ARRAYS = ("coefficients", "coefficient_errors", "coefficient_correlations")


def list_columns(errors: bool) -> list[str]:
    """The columns that `predict` needs."""
    arrays = ARRAYS if errors else ARRAYS[:1]
    bands = [f"{b}_{name}" for b in ("bp", "rp") for name in ("basis_function_id", *arrays)]
    return ["source_id", *bands]


# --- what is measured, each in a process of its own ----------------------------------------------


def open_ours(path: str, errors: bool, model: str) -> Callable[[], Any]:
    """Predict the file."""
    from gaia_redshift import load_model, predict_to_file

    loaded = load_model(model)
    folder = tempfile.mkdtemp()

    def run(source: str = path) -> None:
        output = Path(folder) / "z.parquet"
        predict_to_file(source, output, model=loaded, flux_errors=errors, overwrite=True)

    run(str(Path(path).with_name("short.parquet")))
    return run


def open_library(path: str, errors: bool, model: str) -> Callable[[], Any]:
    """Unpack text, or read the columns needed of another format as arrays."""
    names = list_columns(errors)
    if path.endswith(".gz"):
        from isal import igzip

        def run() -> None:
            with igzip.open(path, "rb") as stream:
                while stream.read(1 << 20):
                    pass
    elif path.endswith(".parquet"):
        from pyarrow import parquet

        def run() -> None:
            with parquet.ParquetFile(path, pre_buffer=False) as file:
                there = [name for name in names if name in file.schema_arrow.names]
                for _ in file.iter_batches(2048, columns=there):
                    pass
    elif path.endswith(".fits"):
        import numpy as np
        from astropy.io import fits

        def run() -> None:
            with fits.open(path, memmap=True) as hdus:
                table = hdus[1].data
                for start in range(0, len(table), 2048):
                    for name in names:
                        column = np.asarray(table.field(name)[start : start + 2048])
                        column.astype(column.dtype.newbyteorder("="))
    else:
        import h5py

        def run() -> None:
            with h5py.File(path) as file:
                for start in range(0, len(file["source_id"]), 2048):
                    for name in names:
                        file[name][start : start + 2048]

    return run


def open_network(path: str, errors: bool, model: str) -> Callable[[], Any]:
    """Run the network alone, as many times as the file has sources."""
    from gaia_redshift import load_model, sample_spectra
    from gaia_redshift.readers import iter_spectra

    loaded = load_model(model)
    block = next(iter(iter_spectra(path, block_size=1024, errors=False)))
    flux = sample_spectra(block, errors=False).flux
    engine, inputs = loaded._build_engine(), []
    run_engine = engine.run
    engine.run = lambda given, *more: inputs.append(given) or run_engine(given, *more)
    loaded.predict(flux)
    n = count_rows(path)

    def run() -> None:
        for _ in range(round(n / len(flux))):
            for given in inputs:
                run_engine(given)

    return run


def count_rows(path: str) -> int:
    """Sources in a file, which its name tells."""
    return int(Path(path).name.split(".")[1])


TASKS = {"ours": open_ours, "library": open_library, "network": open_network}


def measure(task: str, path: str, errors: str, model: str) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one task in this process."""
    run = TASKS[task](path, errors == "errors", model)
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "peak": read_peak(),
    }


def run_process(*arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_processes(path: str, n: str, errors: str, model: str) -> dict[str, float]:
    """Predict a folder of files by so many processes, whose start counts."""
    import numpy as np

    from gaia_redshift import load_model, predict_to_file, read_table

    loaded = load_model(model)
    options: dict[str, Any] = {"model": loaded, "flux_errors": bool(errors)}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "z.parquet"
        predict_to_file(Path(path).with_name("short.parquet"), output, **options)
        before, start = count_cpu(), time.perf_counter()
        predict_to_file(path, output, overwrite=True, processes=int(n), **options)
        wall, cpu = time.perf_counter() - start, count_cpu() - before
        check = zlib.crc32(np.asarray(read_table(output)["redshift_cnn"]))
    return {"wall": wall, "cpu": cpu, "check": check}


def count_cpu() -> float:
    """CPU seconds of this process, and of those that it started and that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure_dask(path: str, n_workers: str, errors: str, model: str) -> dict[str, float]:
    """Predict a folder of Parquet files by so many workers; each has done the first file before."""
    import dask
    import dask.dataframe as dd
    import numpy as np
    import pandas
    from distributed import Client, LocalCluster

    from gaia_redshift import predict_dask, predict_partition

    dask.config.set({"dataframe.convert-string": False})
    files = sorted(map(str, Path(path).glob("*.parquet")))
    options: dict[str, Any] = {"processes": True, "threads_per_worker": 1}
    with (
        LocalCluster(n_workers=int(n_workers), dashboard_address=None, **options) as cluster,
        Client(cluster) as client,
    ):
        client.run(lambda: len(predict_partition(pandas.read_parquet(files[0]), model=model)))
        spectra = dd.read_parquet(files, split_row_groups=False)
        before = sum(client.run(time.process_time).values())
        start = time.perf_counter()
        table = predict_dask(spectra, model=model, flux_errors=bool(errors)).compute()
        wall = time.perf_counter() - start
        cpu = sum(client.run(time.process_time).values()) - before
        check = zlib.crc32(np.sort(table["redshift_cnn"].to_numpy()))
        return {"wall": wall, "cpu": cpu, "check": check}


# --- the tables ----------------------------------------------------------------------------------


def report(paths: list[Path], rounds: int, model: str) -> dict[str, dict[str, float]]:
    """Print cost and memory of each file, and the ratios of CPU and of wall seconds."""
    print(
        "\n| file | sources | errors | µs a source, CPU | wall | reading alone, CPU"
        " | network alone, CPU | ratio, CPU | ratio, wall | peak memory, MB |"
    )
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    results = {}
    for path in paths:
        n, kind = count_rows(str(path)), path.name.partition(".")[2].partition(".")[2]
        for errors in ("", "errors") if path.name.startswith("full") else ("",):
            runs: list[dict[str, float]] = []
            for _ in range(rounds):
                one: dict[str, float] = {}
                for task in TASKS:
                    found = run_process("--task", task, str(path), errors, model)
                    one |= {f"{task} {key}": value for key, value in found.items()}
                for key in ("cpu", "wall"):
                    floor = one[f"library {key}"] + (
                        0 if kind == "csv.gz" else one[f"network {key}"]
                    )
                    one[f"ratio {key}"] = one[f"ours {key}"] / floor
                runs.append(one)
            middle = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
            per = {
                key: 1e6 * middle[key] / n for key in middle if key.split()[1] in ("cpu", "wall")
            }
            print(
                f"| {kind} | {n:,} | {'yes' if errors else 'no'} | {per['ours cpu']:.0f}"
                f" | {per['ours wall']:.0f} | {per['library cpu']:.0f} | {per['network cpu']:.0f}"
                f" | {middle['ratio cpu']:.2f} | {middle['ratio wall']:.2f}"
                f" | {middle['ours peak']:,.0f} |",
                flush=True,
            )
            results[f"{path.name} {errors}"] = per | {"bytes": path.stat().st_size / n}
    return results


def extrapolate(results: dict[str, dict[str, float]]) -> None:
    """Print what a release costs at the rates of the largest csv.gz file."""
    found = {name: about for name, about in results.items() if ".csv.gz" in name}
    if not found:
        return
    print(f"\n{RELEASE:,.0f} sources at these rates:\n")
    print("| csv.gz, flux errors | CPU hours | on one core, days | on 2 | on 8 | on 32 | TB read |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for errors in ("", "errors"):
        about = [a for name, a in found.items() if name.endswith(f" {errors}")][-1]
        hours = about["ours cpu"] * 1e-6 * RELEASE / 3600
        days = " | ".join(f"{hours / 24 / cores:.2f}" for cores in (1, 2, 8, 32))
        size = about["bytes"] * RELEASE / 1e12
        print(f"| {'yes' if errors else 'no'} | {hours:.1f} | {days} | {size:.1f} |")


def report_dask(folder: Path, n: int, rounds: int, model: str) -> None:
    """Print how much sooner two workers are than one."""
    parts = write_parts(folder, n, "parquet", correlations=False)
    ratios = []
    for _ in range(rounds):
        one, two = (run_process("--dask-task", str(parts), w, "", model) for w in ("1", "2"))
        assert one["check"] == two["check"], "redshifts differ"
        ratios.append(one["wall"] / two["wall"])
        print(
            f"{n:,} sources by Dask: one worker {one['wall']:.1f} s, of the processor"
            f" {one['cpu']:.1f}; two {two['wall']:.1f} and {two['cpu']:.1f}",
            flush=True,
        )
    print(f"two workers are {statistics.median(ratios):.2f} times as fast as one")


def report_processes(folder: Path, n: int, rounds: int, model: str) -> None:
    """Print how much sooner two processes are than one, from start to end, beside Dask."""
    print(
        f"\n| {n:,} sources in {PARTS} files | flux errors | one process, s | CPU | two, s | CPU"
        " | times as fast | two workers of Dask, s | CPU |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for kind, errors in product(("csv.gz", "parquet"), ("", "errors")):
        parts = str(write_parts(folder, n, kind, correlations=True))
        runs: dict[str, list[dict[str, float]]] = {"1": [], "2": [], "dask": []}
        for _ in range(rounds):
            for number in ("1", "2"):
                runs[number].append(run_process("--processes-task", parts, number, errors, model))
            if kind == "parquet":
                runs["dask"].append(run_process("--dask-task", parts, "2", errors, model))
        assert len({each["check"] for each in runs["1"] + runs["2"]}) == 1, "redshifts differ"
        ratios = [one["wall"] / two["wall"] for one, two in zip(runs["1"], runs["2"], strict=True)]
        cells = {
            number: " | ".join(
                f"{statistics.median(each[key] for each in found):.1f}" if found else ""
                for key in ("wall", "cpu")
            )
            for number, found in runs.items()
        }
        print(
            f"| {kind} | {'yes' if errors else 'no'} | {cells['1']} | {cells['2']}"
            f" | {statistics.median(ratios):.2f} | {cells['dask']} |",
            flush=True,
        )


def write_parts(folder: Path, n: int, kind: str, *, correlations: bool) -> Path:
    """Write a folder of files that have n sources together."""
    parts = folder / f"{'full' if correlations else 'bare'}.parts.{n}.{kind}"
    parts.mkdir(exist_ok=True)
    for number in range(PARTS):
        path = parts / f"{number:02d}.{kind}"
        write_copies(simulate(folder, DISTINCT), path, n // PARTS, correlations=correlations)
    return parts


def main() -> None:
    """Run what is asked for."""
    if sys.argv[1:2] == ["--task"]:
        print(json.dumps(measure(*sys.argv[2:])))
        return
    if sys.argv[1:2] == ["--processes-task"]:
        print(json.dumps(measure_processes(*sys.argv[2:])))
        return
    if sys.argv[1:2] == ["--dask-task"]:
        print(json.dumps(measure_dask(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--formats", nargs="*", default=FORMATS, choices=FORMATS)
    parser.add_argument("--bare", type=int, default=0)
    parser.add_argument("--dask", type=int, default=0)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="default")
    parser.add_argument("--folder", type=Path, help="keep the files here for the next run")
    arguments = parser.parse_args()
    with open_folder(arguments.folder) as folder:
        source = simulate(folder, DISTINCT)
        write_copies(source, folder / "short.parquet", 64, correlations=True)
        load = os.getloadavg()[0]
        print(f"{os.cpu_count()} processors, {load:.1f} processes ready before; simulated sources")
        paths = [
            write_copies(source, folder / f"full.{n}.{kind}", n, correlations=True)
            for kind in arguments.formats
            for n in arguments.sizes
        ]
        if arguments.bare:
            paths += [
                write_copies(source, folder / f"bare.{n}.parquet", n, correlations=False)
                for n in (arguments.sizes[0], arguments.bare)
            ]
        if paths:
            extrapolate(report(paths, arguments.rounds, arguments.model))
        if arguments.dask:
            report_dask(folder, arguments.dask, arguments.rounds, arguments.model)
        if arguments.processes:
            report_processes(folder, arguments.processes, arguments.rounds, arguments.model)


if __name__ == "__main__":
    main()
