"""What unpacks csv.gz and parses its arrays of numbers, beside other libraries.

    python benchmarks/parsers.py [--sources 500] [--rounds 5] [--folder DIR]

CPU seconds, best of the rounds, in one process and one thread, on simulated sources with full
covariances: unpacking per megabyte of text, parsing per number of the correlations, VOTables per
source. Libraries that are not installed (zlib-ng, polars, orjson) are left out. All parsers give
the same numbers; the script checks that.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end import DISTINCT, simulate, write_copies

os.environ["POLARS_MAX_THREADS"] = "1"
Cells = list[bytes]


def list_unpackers() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    """Yield name and opener of each way to unpack gzip."""
    for name, module, function in (
        ("isal", "isal.igzip", "open"),
        ("zlib-ng", "zlib_ng.gzip_ng", "open"),
    ):
        try:
            yield name, getattr(import_module(module), function)
        except ImportError:
            continue
    yield "Python's gzip", gzip.open


def unpack(opener: Callable[[Path], Any], path: Path) -> int:
    """Read a file to its end; return the bytes."""
    size = 0
    with opener(path) as stream:
        while piece := stream.read(1 << 20):
            size += len(piece)
    return size


def parse_as_read(cells: Cells) -> Any:
    """As `read_spectra` does."""
    from gaia_redshift.readers.arrays import parse_text_arrays

    return parse_text_arrays(cells).values


def parse_by_arrow_csv(cells: Cells) -> Any:
    """One number a line, by pyarrow's csv."""
    from gaia_redshift.readers.arrays import parse_numbers

    text = b"\n".join(cell[1:-1].replace(b",", b"\n") for cell in cells) + b"\n"
    return parse_numbers(text, text.count(b"\n"))


def parse_by_arrow_cast(cells: Cells) -> Any:
    """Strings split and cast by pyarrow."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pa.array([cell[1:-1].decode() for cell in cells])
    return pc.split_pattern(texts, ", ").flatten().cast(pa.float64()).to_numpy()


def parse_by_polars(cells: Cells) -> Any:
    """Strings split and cast by polars."""
    import polars as pl

    texts = pl.Series([cell[1:-1].decode() for cell in cells])
    return texts.str.split(", ").explode().cast(pl.Float64).to_numpy()


def parse_by_orjson(cells: Cells) -> Any:
    """Lists of Python's floats by orjson."""
    import orjson

    return np.array([x for cell in cells for x in orjson.loads(b"[" + cell[1:-1] + b"]")])


def parse_by_numpy(cells: Cells) -> Any:
    """`numpy.fromstring`."""
    return np.fromstring(b",".join(cell[1:-1] for cell in cells).decode(), sep=",")


def parse_by_float(cells: Cells) -> Any:
    """Python's `float`."""
    return np.array([float(word) for cell in cells for word in cell[1:-1].split(b",")])


PARSERS = {
    "simdjson, as `read_spectra`": parse_as_read,
    "polars, split and cast": parse_by_polars,
    "pyarrow, split and cast": parse_by_arrow_cast,
    "pyarrow's csv, one number a line": parse_by_arrow_csv,
    "orjson": parse_by_orjson,
    "numpy.fromstring": parse_by_numpy,
    "float": parse_by_float,
}


def write_votables(source: Path, folder: Path, n: int) -> dict[str, Path]:
    """Write n sources as VOTables of both kinds."""
    from astropy.io.votable import parse

    from gaia_redshift import read_spectra, write_spectra

    paths = {form: folder / f"{form}.{n}.vot" for form in ("BINARY2", "TABLEDATA")}
    write_spectra(read_spectra(source)[:n], paths["BINARY2"], overwrite=True)
    document = parse(paths["BINARY2"])
    for table in document.iter_tables():
        table.format = "tabledata"
    document.to_xml(str(paths["TABLEDATA"]))
    return paths


def report_votables(paths: dict[str, Path], n: int, rounds: int) -> None:
    """Print what reading a VOTable takes, beside astropy."""
    from astropy.io.votable import parse

    from gaia_redshift import read_spectra

    print("\n| VOTable | sources a second | astropy alone | times as fast |\n|---|---:|---:|---:|")
    for form, path in paths.items():
        ours, _ = time_best(lambda path=path: read_spectra(path), rounds)
        theirs, _ = time_best(lambda path=path: parse(path), 1)
        print(f"| {form} | {n / ours:,.0f} | {n / theirs:,.0f} | {theirs / ours:.1f} |", flush=True)


def time_best(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return the least CPU seconds and the result."""
    best, result = np.inf, None
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the files here for the next run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        path = folder / f"full.{arguments.sources}.csv.gz"
        write_copies(simulate(folder, DISTINCT), path, arguments.sources, correlations=True)
        print("| unpacking | ms a megabyte of text | times isal |\n|---|---:|---:|")
        first = None
        for name, opener in list_unpackers():
            seconds, size = time_best(lambda opener=opener: unpack(opener, path), arguments.rounds)
            first = first or seconds
            print(f"| {name} | {seconds / size * 1e9:.2f} | {seconds / first:.1f} |", flush=True)
        text = gzip.decompress(path.read_bytes())
        votables = write_votables(simulate(folder, DISTINCT), folder, arguments.sources)
        report_votables(votables, arguments.sources, arguments.rounds)
    cells = [part for part in text.split(b'"')[1::2] if part.count(b",") > 1000]
    print("\n| parsing | ns a number | times the first |\n|---|---:|---:|")
    first, wanted = None, None
    for name, parse in PARSERS.items():
        try:
            seconds, found = time_best(lambda parse=parse: parse(cells), arguments.rounds)
        except ImportError:
            continue
        wanted = found if wanted is None else wanted
        np.testing.assert_array_equal(found, wanted)
        first = first or seconds
        print(f"| {name} | {seconds / len(found) * 1e9:.1f} | {seconds / first:.1f} |", flush=True)


if __name__ == "__main__":
    main()
