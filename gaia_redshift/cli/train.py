"""The commands ``simulate`` and ``train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from gaia_redshift._extras import import_research
from gaia_redshift.cli.options import Command, add
from gaia_redshift.cli.output import say
from gaia_redshift.errors import InputError

__all__ = ["SIMULATE", "TRAIN"]


def _declare_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, required=True, metavar="N", help="number of sources")
    add(parser, "--seed", required=True)
    parser.add_argument(
        "--survey",
        choices=["sdss", "flat", "mixed"],
        help="redshifts of galaxies as SDSS's (the default), flat, or both mixed",
    )
    parser.add_argument(
        "--kind",
        choices=["galaxy", "star", "quasar", "double_star", "star_galaxy", "smeared_star"],
        default="galaxy",
        help="all kinds have the brightness of galaxies",
    )
    add(
        parser,
        "--output",
        help="csv, ecsv, FITS, Parquet, ... in the archive's form, with the true redshifts",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="in a checkout: numbers and plots beside real galaxies"
    )
    parser.add_argument(
        "--noise-sources",
        metavar="FILE",
        help="with --report: real spectra with errors and correlations to compare the noise with",
    )
    add(parser, "--overwrite")
    parser.add_argument(
        "--no-correlations", action="store_true", help="leave the correlations out: smaller files"
    )


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


def _declare_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="training set of 'gaia-redshift dataset', or spectra with a column redshift_true"
        " (else: --simulate)",
    )
    parser.add_argument(
        "--simulate", type=int, metavar="N", help="train on N galaxies simulated for it"
    )
    parser.add_argument(
        "--survey",
        choices=["sdss", "flat", "mixed"],
        default="sdss",
        help="redshifts of simulated galaxies: as SDSS's (the default), flat, or both mixed",
    )
    parser.add_argument(
        "--sky",
        choices=["sdss", "wide", "mixed"],
        default="sdss",
        help="population of simulated galaxies: as SDSS targets (the default); wide, in which"
        " brightness and size say nothing of the redshift; mixed: wide, and SDSS's but for their"
        " brightness, undisturbed and disturbed, in three parts",
    )
    parser.add_argument(
        "--contaminants",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="stars, quasars, doubles ... simulated beside each galaxy, to learn what is none (0)",
    )
    add(parser, "--truth", help="column of DATA with true redshifts (redshift_true)")
    parser.add_argument("--config", metavar="FILE", help="options of the training, TOML or JSON")
    add(parser, "--seed", help="random seed (1)")
    parser.add_argument("--network", metavar="NAME", help="kiraleos2023 (the default) or residual")
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="passes through the data (20; residual: 8; --from: 20)",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="spectra per step (16; residual: 256)"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="of the optimiser, at its highest (0.001; residual: 0.002; --from: 0.0003)",
    )
    parser.add_argument(
        "--grid-jitter",
        type=float,
        nargs="?",
        const=1.0,
        metavar="SHARE",
        help="share of the galaxies to train on as sampled on moved grids, so that vectors sampled"
        " by others work (1 where no share is given)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="start from this model, by name or folder (fine-tuning)",
    )
    parser.add_argument(
        "--freeze",
        nargs="+",
        metavar="LAYER",
        help="layers of that model that stay as they are, by names or their beginnings:"
        " convolution, dense_1, ...",
    )
    parser.add_argument(
        "--mix",
        type=int,
        metavar="N",
        help="simulated galaxies to put into the training part beside the given ones (none)",
    )
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop after N epochs without a smaller validation loss and keep the best weights"
        " (never; --from: 4)",
    )
    parser.add_argument(
        "--search",
        type=int,
        metavar="TRIALS",
        help="instead, try this number of configurations of the network; -o is the search's folder",
    )
    parser.add_argument("--name", help="name of the model (default: that of the folder)")
    parser.add_argument(
        "--model-version", dest="version", metavar="X.Y", help="version of the model (1.0)"
    )
    add(parser, "--output", metavar="DIR", required=True, help="the model's folder")
    add(parser, "--resume")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="folder of the checkpoints (default: beside the model's)"
    )


def _run_train(arguments: argparse.Namespace) -> int:
    from gaia_redshift.train.command import run_training

    print(run_training(arguments, progress=not arguments.quiet))
    return 0


TRAIN = Command(
    "train",
    "train a model",
    _declare_train,
    _run_train,
    """\
examples:
  gaia-redshift train --simulate 400000 --survey mixed --sky mixed --contaminants 0.4 \\
      --network residual -o models/mine
  gaia-redshift train --simulate 300000 --network kiraleos2023 --seed 1 -o models/mine
  gaia-redshift train galaxies.parquet --epochs 20 --batch-size 16 -o models/mine
  gaia-redshift train real.parquet --from default -o models/tuned
  gaia-redshift train galaxies.parquet --config mine.toml -o models/mine --resume
  gaia-redshift train --simulate 40000 --network residual --epochs 3 --search 14 -o search
  gaia-redshift predict XP_CONTINUOUS_RAW.csv --model models/mine

A configuration is a TOML or JSON table of options (network, epochs, batch_size, learning_rate,
...: see the documentation of TrainingConfig), or a model's manifest.json; options given here come
first. A training set made by "gaia-redshift dataset" brings its own split. With --from a training
starts from a model (fine-tuning): a few thousand real galaxies will do then. --search writes a
table of the configurations that it tried and the best as a file for --config. An interrupted
training or search goes on with --resume.""",
)
