"""``python -m gaia_redshift`` is the command ``gaia-redshift``."""

from gaia_redshift.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
