import matplotlib.pyplot as plt

from gaia_redshift import predict_table
from gaia_redshift.plot import plot_pdf

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharex=True, layout="constrained")
for ax, prior in zip(axes, ("sdss", "flat"), strict=True):
    table = predict_table(
        "catalogs/demo_galaxies.parquet", keep="redshift_true", prior=prior, pdf=True
    )
    plot_pdf(table, row=197, truth="redshift_true", ax=ax)
    ax.set_title(f'prior="{prior}"', pad=40)
