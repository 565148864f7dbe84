"""How the simulator was made and how real it is.

populations, nuclei -> library (``galaxy_library.npz``); photometry, real means -> calibration
(``survey.json``); report (report_numbers, real_noise, figures, report_text): simulated galaxies
beside real ones.
"""
