import matplotlib.pyplot as plt
import numpy as np

from gaia_redshift import read_spectra
from gaia_redshift.plot import plot_spectrum

spectra = read_spectra("catalogs/demo_galaxies.parquet", keep="redshift_true")
redshift = np.asarray(spectra.columns["redshift_true"])
figure, axes = plt.subplots(3, 1, figsize=(8, 11), layout="constrained")
for ax, wanted in zip(axes, (0.05, 0.15, 0.3), strict=True):
    row = int(np.argmin(abs(redshift - wanted)))
    plot_spectrum(spectra, redshift[row], row=row, ax=ax)
