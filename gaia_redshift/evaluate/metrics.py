"""Metrics of predicted against true redshifts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gaia_redshift.errors import InputError

__all__ = ["compute_metrics"]


def compute_metrics(z_pred: ArrayLike, z_true: ArrayLike) -> dict[str, Any]:
    """Compare predicted with true redshifts.

    Parameters
    ----------
    z_pred, z_true : array-like, shape (n,)
        Pairs of which either is masked or NaN are left out.

    Returns
    -------
    dict
        With ``dz = (z_pred - z_true) / (1 + z_true)``: ``n`` pairs compared, ``bias`` = mean dz,
        ``sigma_nmad`` = ``1.4826 median |dz - median dz|`` (Ilbert et al. 2006; Brammer et al.
        2008), ``mae`` = mean ``|z_pred - z_true|`` (not divided by 1 + z, as in Kiraleos 2023),
        ``outliers_05`` and ``outliers_15``, the fractions with ``|dz|`` > 0.05 and > 0.15. NaN
        where n is 0.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> compute_metrics([0.1, 0.2], [0.1, 0.2])["sigma_nmad"]
    0.0
    """
    predicted, true = (
        np.ma.filled(np.ma.asarray(z, dtype=np.float64), np.nan) for z in (z_pred, z_true)
    )
    if predicted.shape != true.shape:
        raise InputError(
            f"predicted and true redshifts have shapes {predicted.shape} and {true.shape}"
        )
    usable = np.isfinite(predicted) & np.isfinite(true)
    predicted, true = predicted[usable], true[usable]
    if not len(predicted):
        names = ("bias", "sigma_nmad", "mae", "outliers_05", "outliers_15")
        return {"n": 0, **dict.fromkeys(names, float("nan"))}
    dz = (predicted - true) / (1 + true)
    return {
        "n": len(dz),
        "bias": float(dz.mean()),
        "sigma_nmad": float(1.4826 * np.median(np.abs(dz - np.median(dz)))),
        "mae": float(np.abs(predicted - true).mean()),
        "outliers_05": float((np.abs(dz) > 0.05).mean()),
        "outliers_15": float((np.abs(dz) > 0.15).mean()),
    }
