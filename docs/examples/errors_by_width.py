import matplotlib.pyplot as plt
import numpy as np

from gaia_redshift import predict_table

table = predict_table("catalogs/demo_galaxies.parquet", keep="redshift_true", std=True)
std = np.asarray(table["redshift_cnn_std"])
error = abs(np.asarray(table["redshift_cnn"]) - np.asarray(table["redshift_true"]))
figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
ax.loglog(std, np.maximum(error, 1e-4), ".", alpha=0.5)
ax.loglog([0.005, 0.1], [0.005, 0.1], "k--", label="error = std")
ax.set_xlabel("standard deviation of the redshift's distribution")
ax.set_ylabel("|predicted - true redshift|")
ax.legend()
