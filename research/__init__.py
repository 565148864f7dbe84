"""What made the simulator's data and the numbers in the documentation; not part of the package.

`simulator` (library of galaxies, fits to real ones, report), `benchmark` (other methods and the
limit beside the models), ``clean_samples``, ``shape_limit``, ``ugc_intervals``,
``tabulated_bases`` and ``house`` (the picture of the code). Run in a checkout, from its root:
``python -m research.simulator.report -o DIR``.
"""
