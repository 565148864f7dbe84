"""Looking at spectra: one page for many objects, which needs no other file and no network.

Modules: ``content`` (spectra, predictions and what is shown beside them, such as the nearest
simulated galaxy), ``page`` (all of it as HTML).
"""

from gaia_redshift.inspect.content import LARGEST, Inspection, gather_objects
from gaia_redshift.inspect.page import format_inspection, inspect_spectra

__all__ = ["LARGEST", "Inspection", "format_inspection", "gather_objects", "inspect_spectra"]
