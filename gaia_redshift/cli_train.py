"""The command ``gaia-redshift train``: its options."""

from __future__ import annotations

import argparse

__all__ = ["TRAIN_EPILOG", "add_train"]

TRAIN_EPILOG = """\
examples:
  gaia-redshift train --simulate 400000 --survey mixed --network residual -o models/mine
  gaia-redshift train --simulate 300000 --network kiraleos2023 --seed 1 -o models/mine
  gaia-redshift train galaxies.parquet --epochs 20 --batch-size 16 -o models/mine
  gaia-redshift train galaxies.parquet --config mine.toml -o models/mine --resume
  gaia-redshift predict XP_CONTINUOUS_RAW.csv --model models/mine

A configuration is a TOML or JSON table of options (network, epochs, batch_size, learning_rate,
...: see the documentation of TrainingConfig), or a model's manifest.json; options given here come
first. An interrupted training goes on from its last epoch with --resume."""


def add_train(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``train``."""
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="spectra with a column redshift_true (else: --simulate)",
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
    parser.add_argument("--config", metavar="FILE", help="options of the training, TOML or JSON")
    parser.add_argument("--seed", type=int, metavar="S", help="random seed (1)")
    parser.add_argument("--network", metavar="NAME", help="kiraleos2023 (the default) or residual")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes through the data")
    parser.add_argument("--batch-size", type=int, metavar="N", help="spectra per step")
    parser.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="of the optimiser, at its highest"
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
    parser.add_argument("--name", help="name of the model (default: that of the folder)")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the model's folder")
    parser.add_argument("--resume", action="store_true", help="go on after an interruption")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="folder of the checkpoints (default: beside the model's)"
    )
