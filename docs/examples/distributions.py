import matplotlib.pyplot as plt
import numpy as np

from gaia_redshift import predict_table
from gaia_redshift.plot import plot_pdf

table = predict_table("catalogs/demo_galaxies.parquet", keep="redshift_true", std=True, pdf=True)
order = np.argsort(np.asarray(table["redshift_cnn_std"]))  # narrow to wide
figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for ax, share in zip(axes.flat, (0.1, 0.5, 0.9, 0.99), strict=True):
    plot_pdf(table, row=int(order[int(share * 500)]), truth="redshift_true", ax=ax)
