"""Numbers that say how good redshifts are: of points (`points`), of distributions.

A leaf: it knows arrays and `gaia_redshift.errors`, and nothing else of the package.
"""
