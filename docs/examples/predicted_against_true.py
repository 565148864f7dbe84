import matplotlib.pyplot as plt

from gaia_redshift import predict_table
from gaia_redshift.plot import plot_predictions

table = predict_table("catalogs/demo_galaxies.parquet", keep="redshift_true")
figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
plot_predictions(table, "redshift_true", ax=ax)
