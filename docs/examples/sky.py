import matplotlib.pyplot as plt
import numpy as np

from gaia_redshift import predict_table
from gaia_redshift.plot import plot_redshift_cone, plot_redshift_map

table = predict_table("catalogs/demo_galaxies.parquet")
rng = np.random.default_rng(1)  # the demo galaxies have no positions: these are made up
table["ra"], table["dec"] = rng.uniform(120, 240, 500), rng.uniform(0, 45, 500)
plot_redshift_map(table, level=3, ax=plt.figure().add_subplot(projection="mollweide"))
plot_redshift_cone(table, ax=plt.figure().add_subplot(projection="polar"))
