"""Pictures of non-normality and of spectra beside their laws, on Matplotlib axes.

Each function draws into `ax`, or into a figure of its own, and returns the axes: `ax.figure.savefig("a.svg")`. What is
drawn is what `la.pseudospectrum`, `la.transient_growth`, `la.svdvals` … have returned. Matplotlib is imported on use.

Example:
    >>> import lax_linalg as la
    >>> ax = la.plot.transient_growth(la.transient_growth([[0.5, 4.0], [0.0, 0.5]]))
    >>> ax.get_xlabel()
    'power k'
"""

from __future__ import annotations

from lax_linalg.plot.analysis import analysis as analysis
from lax_linalg.plot.phase_diagram import phase_diagram as phase_diagram
from lax_linalg.plot.pseudospectra import pseudospectrum as pseudospectrum
from lax_linalg.plot.spectrum import spectrum as spectrum
from lax_linalg.plot.style import axes as axes
from lax_linalg.plot.transient_growth import transient_growth as transient_growth
