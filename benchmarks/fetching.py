"""What fetching costs beside the bare transfer and parsing of the same bytes.

    python benchmarks/fetching.py [--sources 20000] [--chunk 1000] [--rounds 3]

A double of the Gaia archive (tests/doubles) runs in a process of its own and answers from bytes
made beforehand. Each round does both sides, in turn: plain HTTP requests whose answers go through
the package's FITS reader, and `gaia_redshift.fetch_spectra` with an empty cache and without one.
Prints seconds and, per round, the ratio to the bare side; then the peak memory of processes that
fetch a quarter, half and all of the sources.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def serve(n: int, chunk: int, pipe: Any) -> None:
    """Run the double until told to stop."""
    from archive_samples import make_archive
    from doubles.gaia_products import pack_spectra

    with make_archive(n=n, n_without=0, k=55) as archive:
        ids = archive.spectra.source_id.tolist()
        for start in range(0, n, chunk):
            part = archive.spectra[start : start + chunk]
            body = pack_spectra(part, "RAW", "fits", "Gaia DR3", "XP_CONTINUOUS")
            archive.answers[tuple(ids[start : start + chunk])] = body
        pipe.send((archive.tap_url, archive.data_url, ids))
        pipe.recv()


def fetch_bare(url: str, ids: list[int], chunk: int) -> int:
    """Ask for each chunk and parse the answer; return the number of sources."""
    from gaia_redshift.readers.bands import build_spectra
    from gaia_redshift.readers.columns import ReadOptions
    from gaia_redshift.readers.content import Content
    from gaia_redshift.readers.formats import iter_content_blocks

    n = 0
    for start in range(0, len(ids), chunk):
        fields = {
            "ID": ",".join(map(str, ids[start : start + chunk])),
            "RETRIEVAL_TYPE": "XP_CONTINUOUS",
            "FORMAT": "fits",
        }
        with urllib.request.urlopen(url, urllib.parse.urlencode(fields).encode()) as answer:
            body = answer.read()
        content = Content("bare", "bare", lambda body=body: io.BytesIO(body))
        options = ReadOptions()
        for block in iter_content_blocks(content, options):
            n += len(build_spectra(block, options))
    return n


def fetch_ours(tap: str, data: str, ids: list[int], chunk: int, cache: Any) -> int:
    """Fetch the same sources block by block, as prediction does; return their number."""
    from gaia_redshift.archive import ArchiveSettings, open_stream

    settings = ArchiveSettings(tap, data, chunk_size=chunk)
    stream = open_stream(ids, settings=settings, cache=cache)
    return sum(len(block) for block in stream.blocks(8192))


def measure_peak(tap: str, data: str, ids: list[int], chunk: int, pipe: Any) -> None:
    """Fetch in a fresh process and say how much memory it took at most, in MB."""
    import resource

    with tempfile.TemporaryDirectory() as folder:
        fetch_ours(tap, data, ids, chunk, Path(folder))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=int, default=20_000)
    parser.add_argument("--chunk", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.sources, options.chunk, there), daemon=True
    )
    server.start()
    tap, data, ids = here.recv()
    fetch_bare(data, ids[: options.chunk], options.chunk)  # imports
    fetch_ours(tap, data, ids[: options.chunk], options.chunk, False)
    print(f"{options.sources} sources in chunks of {options.chunk}; wall (CPU) seconds")
    print("round  bare            with cache      ratio   without cache   ratio")
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            sides = (
                lambda: fetch_bare(data, ids, options.chunk),
                lambda folder=folder: fetch_ours(tap, data, ids, options.chunk, Path(folder)),
                lambda: fetch_ours(tap, data, ids, options.chunk, False),
            )
            found = []
            for side in sides:
                wall, cpu = time.perf_counter(), time.process_time()
                assert side() == options.sources
                found.append((time.perf_counter() - wall, time.process_time() - cpu))
        bare, cached, plain = found
        print(
            f"{number:5d}  {bare[0]:6.2f} ({bare[1]:5.2f})  {cached[0]:6.2f} ({cached[1]:5.2f})"
            f"  {cached[0] / bare[0]:5.2f}  {plain[0]:6.2f} ({plain[1]:5.2f})"
            f"  {plain[0] / bare[0]:5.2f}",
            flush=True,
        )
    print("peak memory of a process that fetches N sources, with cache")
    spawn = multiprocessing.get_context("spawn")
    for n in (options.sources // 4, options.sources // 2, options.sources):
        one, other = spawn.Pipe()
        worker = spawn.Process(target=measure_peak, args=(tap, data, ids[:n], options.chunk, other))
        worker.start()
        print(f"{n:8d}  {one.recv():6.0f} MB", flush=True)
        worker.join()
    here.send(None)
    server.join()


if __name__ == "__main__":
    main()
