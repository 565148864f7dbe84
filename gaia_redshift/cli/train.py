"""The command ``gaia-redshift train``: its options."""

from __future__ import annotations

import argparse

__all__ = ["TRAIN_EPILOG", "add_train"]

TRAIN_EPILOG = """\
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
training or search goes on with --resume."""


def add_train(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``train``."""
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
    parser.add_argument(
        "--truth", metavar="COLUMN", help="column of DATA with true redshifts (redshift_true)"
    )
    parser.add_argument("--config", metavar="FILE", help="options of the training, TOML or JSON")
    parser.add_argument("--seed", type=int, metavar="S", help="random seed (1)")
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
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the model's folder")
    parser.add_argument("--resume", action="store_true", help="go on after an interruption")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="folder of the checkpoints (default: beside the model's)"
    )
