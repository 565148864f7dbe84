"""What the default model sees: python docs/sensitivity.py docs/images/sensitivity.png.

Adds a smooth bump to the fluxes around each wavelength, as high as the noise there, and takes it
away again; prints and draws by how much the redshift moves. Simulated galaxies of the demo
catalogue; a minute or less on two cores.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gaia_redshift import (
    load_model,
    predict_redshift,
    read_spectra,
    sample_spectra,
    sample_wavelengths,
)
from gaia_redshift.grid import N_BP

DEMO = Path(__file__).parents[1] / "catalogs" / "demo_galaxies.parquet"
WIDTH = 2.0
"""Standard deviation of the bump, samples."""
EDGES = (0.0, 0.1, 0.2, 0.3)
LINES = {"Hα": 656.5, "[O III], Hβ": 496.0, "4000 Å break": 400.0}


def measure_sensitivity(vectors, height=1.0, width=WIDTH):
    """Return the change of the median redshift per standard error, shape (n, 186).

    Half the difference between a bump added and a bump taken away, divided by the standard
    deviation that the model itself gives for the redshift.
    """
    n_flux = vectors.flux.shape[1]
    band = np.arange(n_flux) >= N_BP
    place = np.arange(n_flux)
    std = np.asarray(_predict(vectors, vectors.flux, std=True)["redshift_cnn_std"], dtype=float)
    change = np.empty(vectors.flux.shape)
    for sample in range(n_flux):
        bump = np.exp(-0.5 * ((place - sample) / width) ** 2) * (band == band[sample])
        step = height * bump * vectors.flux_error
        up, down = (
            np.ma.filled(_predict(vectors, vectors.flux + sign * step)["redshift_cnn"], np.nan)
            for sign in (1, -1)
        )
        change[:, sample] = (up - down) / (2 * height)
    return change, std


def _predict(vectors, flux, **options):
    return predict_redshift(flux, flux_error=vectors.flux_error, **options)


def draw_sensitivity(wavelength, change, std, redshift):
    """Return a figure: the typical change by wavelength, for bins of redshift."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    relative = change / std[:, None]
    for number, (low, high) in enumerate(itertools.pairwise(EDGES)):
        rows = (redshift >= low) & (redshift < high)
        for band in (slice(0, N_BP), slice(N_BP, None)):
            label = f"z = {low:g} to {high:g} ({rows.sum()})" if band.start == 0 else None
            style = {"color": f"C{number}", "label": label}
            size = np.nanmedian(np.abs(relative[rows]), axis=0)
            top.plot(wavelength[band], size[band], **style)
            bottom.plot(wavelength[band], np.nanmedian(relative[rows], axis=0)[band], **style)
        middle = np.median(redshift[rows])
        for rest in LINES.values():
            if wavelength[0] < rest * (1 + middle) < wavelength[-1]:
                top.axvline(rest * (1 + middle), color=f"C{number}", ls=":", lw=1)
    top.set_ylabel("typical |change of z| / std of z")
    bottom.set_ylabel("median change of z / std of z")
    bottom.set_xlabel("wavelength (nm)")
    bottom.axhline(0, color="0.6", lw=0.8)
    top.legend(title="simulated galaxies")
    return figure


def main(output):
    """Measure, print and draw."""
    spectra = read_spectra(DEMO, keep="redshift_true")
    vectors = sample_spectra(spectra)
    redshift = np.asarray(spectra.columns["redshift_true"], dtype=float)
    wavelength = sample_wavelengths(load_model("default").grid)
    change, std = measure_sensitivity(vectors)
    relative = np.abs(change) / std[:, None]
    for low, high in itertools.pairwise(EDGES):
        rows = (redshift >= low) & (redshift < high)
        size = np.nanmedian(relative[rows], axis=0)
        share = np.nansum(size[:N_BP] ** 2) / np.nansum(size**2)
        best = ", ".join(f"{wavelength[k]:.0f}" for k in np.sort(np.argsort(size)[-6:]))
        print(
            f"z {low:g} to {high:g}: {rows.sum()} galaxies, std {np.nanmedian(std[rows]):.4f},"
            f" median over samples {np.median(size):.3f}, largest {size.max():.3f},"
            f" BP's part {share:.2f}; most at {best} nm"
        )
    draw_sensitivity(wavelength, change, std, redshift).savefig(output, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
