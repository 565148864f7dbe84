r"""From the archive to a model of your own: build, split, train, fine-tune, evaluate, predict.

    python catalogs/train_end_to_end.py --simulated 3000 -o run

shows the whole way on two cores in some minutes, without network: a double of the Gaia archive (of
the repository's tests) serves simulated galaxies, of a sky that is unlike the one that the bundled
model was trained on. In the folder: the training set, two models (one trained from the beginning,
one fine-tuned from the bundled one), a report that compares them on galaxies of the test part, and
the redshifts of those galaxies. The same on real galaxies, when their spectra are public:

    python catalogs/train_end_to_end.py --release DR4 --sources galaxies.fits \
        --catalogue sdss.fits -o run

After an interruption the same command goes on from the steps that are done.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from gaia_redshift import predict_table, write_table
from gaia_redshift.archive import ArchiveSettings
from gaia_redshift.datasets import SkySplit, build_training_set, read_dataset
from gaia_redshift.errors import GaiaRedshiftError, InputError
from gaia_redshift.evaluate import compare_predictions, write_report
from gaia_redshift.simulate import simulate_spectra
from gaia_redshift.simulate.survey import load_parameters
from gaia_redshift.train import TrainingConfig, make_fine_tuning_config, train_model
from gaia_redshift.train.networks import get_recipe

TESTS = Path(__file__).parents[1] / "tests"
QUERY = (
    "SELECT source_id, ra, dec, phot_g_mean_mag, phot_bp_mean_mag, phot_rp_mean_mag"
    " FROM gaiadr3.gaia_source WHERE has_xp_continuous = 'True'"
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", required=True, help="folder for everything")
    parser.add_argument("--simulated", type=int, metavar="N", help="an archive of N galaxies")
    parser.add_argument("--sources", metavar="FILE|ADQL", help="source_id, ra, dec, photometry")
    parser.add_argument("--catalogue", metavar="PATH", help="redshifts at hand (else SDSS by CDS)")
    parser.add_argument("--release", default="DR3", help="Gaia data release (DR3)")
    parser.add_argument("--start", default="default", help="model to fine-tune (default)")
    parser.add_argument(
        "--mix", type=int, default=10_000, help="simulated galaxies in the first training (10000)"
    )
    parser.add_argument("--epochs", type=int, default=6, help="of the training (6)")
    parser.add_argument("--tuning-epochs", type=int, help="of the fine-tuning, at most")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (1)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    arguments = build_parser().parse_args(argv)
    folder = Path(arguments.output)
    try:
        if (arguments.simulated is None) == (arguments.sources is None):
            raise InputError("give either --simulated N or --sources")
        folder.mkdir(parents=True, exist_ok=True)
        archive = {"cache": folder / "cache", "release": arguments.release}
        if arguments.simulated is None:
            run_all(arguments, folder, arguments.sources, arguments.catalogue, archive)
        else:
            with serve_galaxies(arguments.simulated, arguments.seed) as (settings, catalogue):
                catalogue.write(folder / "catalogue.fits", overwrite=True)
                archive["settings"] = settings
                run_all(arguments, folder, QUERY, folder / "catalogue.fits", archive)
    except GaiaRedshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_all(
    arguments: argparse.Namespace,
    folder: Path,
    sources: Any,
    catalogue: Any,
    archive: dict[str, Any],
) -> None:
    """Go all the way; steps whose result is there are left out."""
    progress, seed = sys.stderr.isatty(), arguments.seed
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {what}", flush=True)

    training_set = folder / "training_set.parquet"
    if not training_set.exists():
        build_training_set(
            training_set,
            sources=sources,
            catalogue=catalogue,
            split=SkySplit(fractions=(0.55, 0.15, 0.30), seed=seed),
            model=arguments.start,
            release=arguments.release,
            archive={key: value for key, value in archive.items() if key != "release"},
            progress=progress,
        )
    dataset = read_dataset(training_set)
    tell(f"training set: {dataset!r}")

    # So few galaxies teach a new network little: simulated ones are put beside them.
    recipe = get_recipe("residual") | {"name": "trained", "seed": seed, "grid_jitter": 0.0}
    recipe |= {"epochs": arguments.epochs, "mix": arguments.mix, "repeat": 2}
    tuning: dict[str, Any] = {"name": "tuned", "seed": seed}
    if arguments.tuning_epochs:
        tuning["epochs"] = arguments.tuning_epochs
    models: dict[str, Any] = {
        "trained": (TrainingConfig.from_dict(recipe), None),
        "tuned": (make_fine_tuning_config(arguments.start, **tuning), arguments.start),
    }
    for name, (config, start) in models.items():
        if not (folder / name).exists():
            train_model(
                training_set,
                output=folder / name,
                config=config,
                start=start,
                resume=True,
                progress=progress,
            )
        tell(f"model: {folder / name}")

    # What a user would do with it: ids in, redshifts out, of galaxies that no training has seen.
    test = dataset.part("test")
    ids = test.vectors.source_id
    table = Table({"source_id": ids, "redshift_true": test.redshift})
    labels = {"redshift_cnn": str(arguments.start)}
    for name, suffix in ((arguments.start, ""), ("trained", "_trained"), ("tuned", "_tuned")):
        model = folder / name if suffix else name
        found = predict_table(ids.tolist(), model=model, archive=archive, progress=progress)
        for column in ("", "_lower", "_upper"):
            table[f"redshift_cnn{suffix}{column}"] = found[f"redshift_cnn{column}"]
        labels[f"redshift_cnn{suffix}"] = name
    write_table(table, folder / "predictions.ecsv", overwrite=True)
    comparison = compare_predictions(table, list(labels), labels=labels, seed=seed)
    page = write_report(comparison, folder / "report", overwrite=True)
    for row, column in zip(comparison.summary, labels, strict=True):
        coverage = np.mean(
            (table[f"{column}_lower"] <= table["redshift_true"])
            & (table["redshift_true"] <= table[f"{column}_upper"])
        )
        tell(
            f"{row['prediction']:>8}: bias {row['bias']:+.4f}, MAE {row['mae']:.4f}, sigma_NMAD"
            f" {row['sigma_nmad']:.4f}, {100 * coverage:.0f} % in their 68 % intervals"
        )
    tell(f"report: {page}")


@contextmanager
def serve_galaxies(n: int, seed: int) -> Iterator[tuple[ArchiveSettings, Table]]:
    """Serve simulated galaxies as the archive would, and give a catalogue of their redshifts.

    Galaxies twice as dusty and somewhat larger than those that the bundled model was trained on.
    Nine in ten are in the catalogue, at positions 0.1 arcsec off.
    """
    if not (TESTS / "doubles").is_dir():
        raise InputError("--simulated needs the repository: the double of the archive is in tests/")
    sys.path.append(str(TESTS))
    from doubles.gaia_archive import GaiaArchiveDouble

    usual = load_parameters()
    other = dataclasses.replace(
        usual,
        galactic_extinction_ebv_median=2 * usual.galactic_extinction_ebv_median,
        profile_radius=1.3 * usual.profile_radius,
    )
    spectra = simulate_spectra(n, seed=9000 + seed, parameters=other)
    truth = spectra.columns
    assert truth is not None
    rng = np.random.default_rng([seed, 77])
    ra, dec = rng.uniform(150, 230, n), np.degrees(np.arcsin(rng.uniform(0.0, 0.8, n)))
    magnitude = 24.7479 - 2.5 * np.log10(np.maximum(np.asarray(truth["rp_flux"]), 0.1))  # RP's
    sources = Table({"source_id": spectra.source_id, "ra": ra, "dec": dec})
    for name in ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag"):
        sources[name] = magnitude
    sources["has_xp_continuous"] = True
    known = np.sort(rng.permutation(n)[: max(1, round(0.9 * n))])
    off = rng.normal(0, 0.1 / 3600, (2, len(known)))
    catalogue = Table(
        {
            "RA_ICRS": ra[known] + off[0] / np.cos(np.radians(dec[known])),
            "DE_ICRS": dec[known] + off[1],
            "zsp": np.asarray(truth["redshift_true"])[known],
            "f_zsp": np.zeros(len(known), dtype=int),
            "spCl": np.full(len(known), "GALAXY"),
        }
    )
    with GaiaArchiveDouble(spectra, sources) as double:
        yield ArchiveSettings(double.tap_url, double.data_url), catalogue


if __name__ == "__main__":
    raise SystemExit(main())
