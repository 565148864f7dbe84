"""The commands ``simulate`` and ``dataset``: galaxies made, and gathered to train on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gaia_redshift._extras import import_research
from gaia_redshift.cli.archive import add_archive, list_archive_sources, make_archive_options
from gaia_redshift.cli.options import (
    Command,
    add,
    add_option,
    parse_bits,
    parse_columns,
    parse_names,
    split_words,
    take,
)
from gaia_redshift.cli.output import say
from gaia_redshift.errors import InputError

__all__ = ["DATASET", "SIMULATE"]


def _declare_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, required=True, metavar="N", help="number of sources")
    add(parser, "--seed", required=True)
    add_option(
        parser,
        "--survey",
        "redshifts of galaxies as SDSS's (the default), flat, or both mixed",
        choices=["sdss", "flat", "mixed"],
    )
    add_option(
        parser,
        "--kind",
        "all kinds have the brightness of galaxies",
        choices=["galaxy", "star", "quasar", "double_star", "star_galaxy", "smeared_star"],
        default="galaxy",
    )
    add(
        parser,
        "--output",
        help="csv, ecsv, FITS, Parquet, ... in the archive's form, with the true redshifts",
    )
    add_option(parser, "--report DIR", "in a checkout: numbers and plots beside real galaxies")
    add_option(
        parser,
        "--noise-sources FILE",
        "with --report: real spectra with errors and correlations to compare the noise with",
    )
    add(parser, "--overwrite")
    add_option(parser, "--no-correlations", "leave the correlations out: smaller files")


def _run_simulate(arguments: argparse.Namespace) -> int:
    if arguments.n < 1:
        raise InputError(f"-n must be at least 1, not {arguments.n}")
    galaxies = arguments.kind == "galaxy"
    if not (arguments.output or arguments.report):
        raise InputError("nothing to do: give -o FILE, --report DIR or both")
    if not galaxies and (arguments.report or arguments.survey):
        raise InputError(f"--report and --survey are for galaxies, not for --kind {arguments.kind}")
    if arguments.noise_sources and not arguments.report:
        raise InputError("--noise-sources goes with --report")
    report = import_research("simulator.report", "--report") if arguments.report else None
    if arguments.output:
        _write_simulated(arguments)
    if report is not None:
        report.report_simulation(
            arguments.n,
            arguments.seed,
            arguments.survey or "sdss",
            arguments.report,
            noise_sources=arguments.noise_sources,
            progress=arguments.progress,
        )
        say(arguments, f"report: {Path(arguments.report) / 'report.md'}")
    return 0


def _write_simulated(arguments: argparse.Namespace) -> None:
    from gaia_redshift.simulate.generate import KINDS, simulate_blocks
    from gaia_redshift.writers import SpectraWriter

    blocks = simulate_blocks(
        arguments.n,
        seed=arguments.seed,
        kind=arguments.kind,
        survey=arguments.survey or "sdss",
        correlations=not arguments.no_correlations,
        progress=arguments.progress,
    )
    with SpectraWriter(arguments.output, overwrite=arguments.overwrite) as writer:
        for block in blocks:
            writer.write(block)
    what = KINDS[arguments.kind].plural
    say(arguments, f"{arguments.n:,} simulated {what} (not observed ones): {arguments.output}")


SIMULATE = Command(
    "simulate",
    "simulate XP spectra of galaxies",
    _declare_simulate,
    _run_simulate,
    """examples:
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.fits
  gaia-redshift simulate -n 100000 --seed 2 --survey flat --no-correlations -o flat.parquet
  gaia-redshift simulate -n 500 --seed 3 --kind star -o stars.fits
  python -m gaia_redshift simulate -n 20000 --seed 1 --report report/

The galaxies are simulated, not observed. The columns are those of the archive, with the true
redshift in redshift_true; the same number, seed and survey give the same galaxies.""",
)


def _declare_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "spectra",
        nargs="*",
        metavar="SPECTRA",
        help="files or folders of XP spectra (else fetched)",
    )
    add(parser, "--output", help="the training set (.parquet)")
    add(parser, "--overwrite")
    add_option(parser, "--check FILE", "check a training set instead of making one")
    add_option(parser, "--simulate N", "simulate N galaxies", type=int)
    add_option(
        parser,
        "--galaxies",
        "redshifts of simulated ones: as SDSS's (the default) or flat",
        choices=["sdss", "flat"],
        default="sdss",
    )
    add(parser, "--seed", default=1, help="of the split and of --simulate (1)")
    add_option(parser, "--coefficients", "keep the coefficients too (`--grid-jitter`)")
    add(parser, "--model", help="sample on this model's grid, to fine-tune it")
    add(parser, "--grid", help="sample on a table of 120 wavelengths a band (nm) instead")
    labels = parser.add_argument_group("redshifts")
    add(labels, "--truth", help="column with redshifts: no cross-match is made")
    add(labels, "--catalogue", help="a catalogue of redshifts at hand")
    add_option(labels, "--survey", "of the catalogue: sdss (the default), desi", default="sdss")
    add(labels, "--columns", help="the catalogue's columns, as for `crossmatch`")
    add(labels, "--service", default="xmatch")
    cuts = parser.add_argument_group("cuts")
    add_option(cuts, "--redshifts LOW,HIGH", "range of redshifts (0,0.6)", default="0,0.6")
    add(cuts, "--classes", "--zwarning")
    add_option(cuts, "--redshift-error E", "largest error, divided by 1 + z", type=float)
    add_option(cuts, "--magnitude BRIGHT,FAINT", "range of G")
    add_option(cuts, "--require COLUMN", "must be positive, such as a size", action="append")
    add_option(cuts, "--doubtful-matches", "keep ambiguous and conflicting matches")
    add_option(cuts, "--no-photometry", "keep sources without G, BP or RP magnitude")
    split = parser.add_argument_group("split")
    add_option(split, "--split A,B,C", "training, validation, test part", default="0.63,0.27,0.10")
    add_option(
        split, "--level", "HEALPix level of the regions that stay whole (5)", type=int, default=5
    )
    add_archive(
        parser, help="sources: a table with source_id, ra and dec (with --truth, source_id will do)"
    )


def _run_dataset(arguments: argparse.Namespace) -> int:
    if arguments.check:
        if arguments.output or arguments.spectra:
            raise InputError("--check takes one training set and makes none")
        return _check(arguments)
    if not arguments.output:
        raise InputError("give -o FILE to build a training set, or --check FILE")
    from gaia_redshift.datasets import SkySplit, TrainingCuts, build_training_set, describe_manifest

    classes = parse_names(arguments.classes)
    cuts = TrainingCuts(
        redshift_range=_numbers(arguments.redshifts, "--redshifts", 2),  # type: ignore[arg-type]
        zwarning=parse_bits(arguments.zwarning),
        classes=None if classes is None else tuple(classes),
        clean_matches=not arguments.doubtful_matches,
        redshift_error=arguments.redshift_error,
        photometry=not arguments.no_photometry,
        magnitude=(
            _numbers(arguments.magnitude, "--magnitude", 2)  # type: ignore[arg-type]
            if arguments.magnitude
            else None
        ),
        required=tuple(name for value in arguments.require or [] for name in split_words(value)),
    )
    split = SkySplit(
        fractions=_numbers(arguments.split, "--split", 3),  # type: ignore[arg-type]
        seed=arguments.seed,
        healpix_order=arguments.level,
    )
    spectra, sources, options = _find_inputs(arguments)
    manifest = build_training_set(
        arguments.output,
        spectra=spectra,
        sources=sources,
        columns=parse_columns(arguments.columns),
        cuts=cuts,
        split=split,
        archive=options,
        **take(arguments, "truth catalogue survey service radius grid model release"),
        **take(arguments, "coefficients overwrite progress"),
    )
    say(arguments, f"{describe_manifest(manifest)}\ntraining set: {arguments.output}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from gaia_redshift.datasets import check_dataset
    from gaia_redshift.datasets.file import hash_file, manifest_path

    dataset = check_dataset(arguments.check)
    beside = manifest_path(arguments.check)
    note = ""
    if beside.exists():
        try:
            stated = json.loads(beside.read_text(encoding="utf-8")).get("sha256")
        except (ValueError, AttributeError):
            raise InputError(f"{beside}: is no manifest of a training set") from None
        if stated != hash_file(arguments.check):
            raise InputError(
                f"{arguments.check}: is not the file that {beside.name} describes (its sha256"
                " differs): it is damaged, or was replaced"
            )
        note = ", sha256 as in the manifest"
    counts = ", ".join(f"{name} {len(rows):,}" for name, rows in dataset.rows.items())
    say(arguments, f"{arguments.check}: {len(dataset):,} galaxies ({counts}), no leaks{note}")
    return 0


def _find_inputs(arguments: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """Return where spectra come from, the sources, and options of the archive."""
    options = make_archive_options(arguments)
    del options["release"], options["radius"]  # given to build_training_set itself
    spectra = arguments.spectra
    if arguments.ids and not arguments.adql and len(arguments.ids) == 1:
        found: list[Any] = [arguments.ids[0]]  # the path tells later runs that it is the same
    else:
        found, _ = list_archive_sources(argparse.Namespace(**{**vars(arguments), "inputs": []}))
    if len(found) > 1:
        raise InputError("give one table of sources: one --ids FILE or one --adql QUERY")
    sources = found[0] if found else None
    if arguments.simulate is not None:
        if spectra or sources is not None:
            raise InputError("--simulate takes neither files nor sources")
        from gaia_redshift.simulate.generate import SimulatedGalaxies

        return SimulatedGalaxies(arguments.simulate, arguments.galaxies, arguments.seed), None, {}
    if not spectra and sources is None:
        raise InputError("give files of spectra, --ids FILE, --adql QUERY or --simulate N")
    return (spectra or "archive"), sources, options


def _numbers(text: str, option: str, n: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in split_words(text))
    except ValueError:
        values = ()
    if len(values) != n:
        raise InputError(f"{option} takes {n} numbers with commas between, not '{text}'")
    return values


DATASET = Command(
    "dataset",
    "build a training set, or check one",
    _declare_dataset,
    _run_dataset,
    """examples:
  gaia-redshift dataset --adql @galaxies.adql -o training.parquet
  gaia-redshift dataset --ids galaxies.fits --catalogue zall-pix.fits --survey desi -o t.parquet
  gaia-redshift dataset /data/xp_bulk --ids with_sdss.fits --truth redshift_sdss -o t.parquet
  gaia-redshift dataset spectra.parquet --truth redshift_true -o t.parquet
  gaia-redshift dataset --simulate 20000 --seed 1 -o simulated.parquet
  gaia-redshift dataset --check t.parquet

Spectra come from the files given, from a simulation, or from the Gaia archive. Redshifts come from
the column --truth, from --catalogue, or from SDSS by --service. After an interruption the same
command goes on. Beside the file appears its manifest, FILE.json.""",
)
