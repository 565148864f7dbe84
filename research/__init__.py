"""What made the simulator's data and the numbers in the documentation; not part of the package.

`simulator` (library of galaxies, fits to real ones, report), `benchmark` (other methods and the
limit beside the models), ``clean_samples`` and ``ugc_intervals``. Run in a checkout, from its root:
``python -m research.simulator.report -o DIR``.
"""
