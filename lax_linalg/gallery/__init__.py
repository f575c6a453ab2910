"""Matrices with known answers, for tests and for seeing what an algorithm does: `la.gallery.hilbert(5)`."""

from __future__ import annotations

from lax_linalg.gallery.bands import (
    clement as clement,
    jordan as jordan,
    periodic_second_difference as periodic_second_difference,
    second_difference as second_difference,
    tridiagonal as tridiagonal,
)
from lax_linalg.gallery.known import Known as Known
from lax_linalg.gallery.random import (
    ginibre as ginibre,
    haar as haar,
    randeigh as randeigh,
    randsvd as randsvd,
    spectrum as spectrum,
)
from lax_linalg.gallery.rational import (
    cauchy as cauchy,
    hilbert as hilbert,
    lehmer as lehmer,
    lotkin as lotkin,
    minij as minij,
    pascal as pascal,
    pei as pei,
)
from lax_linalg.gallery.toeplitz import (
    circulant as circulant,
    grcar as grcar,
    kms as kms,
    prolate as prolate,
    prolate_commuting as prolate_commuting,
)
from lax_linalg.gallery.triangular import frank as frank, kahan as kahan
