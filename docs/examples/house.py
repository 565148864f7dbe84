import sys
from pathlib import Path

sys.path.append(str(Path.cwd()))  # for `research`, which is not installed

from matplotlib import pyplot

from research.house import draw_house, read_arrows

draw_house(read_arrows(), pyplot.figure(figsize=(9, 8), layout="constrained"))
