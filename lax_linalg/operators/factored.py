"""Factorisations as operators: the products of their factors, whose verbs use them."""

from __future__ import annotations

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import FACTORED
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.lazy import Product
from lax_linalg.operators.permutation import Permutation
from lax_linalg.operators.triangular import LowerTriangular, UpperTriangular
from lax_linalg.verbs.cholesky import Cholesky
from lax_linalg.verbs.lu import LU
from lax_linalg.verbs.qr import QR, PivotedQR
from lax_linalg.verbs.svd import SVD


def _upper(R) -> UpperTriangular | Dense:
    return UpperTriangular(R) if R.shape[0] == R.shape[1] else Dense(R)


FACTORED[LU] = lambda F: Product(
    (
        Permutation(F.p).T,
        LowerTriangular(F.L, unit=True) if F.L.shape[0] == F.L.shape[1] else Dense(F.L),
        _upper(F.U),
    )
)
FACTORED[Cholesky] = lambda F: Product((LowerTriangular(F.L), UpperTriangular(F.U)))
FACTORED[QR] = lambda F: Product((Dense(F.Q), _upper(F.R)))
FACTORED[PivotedQR] = lambda F: Product((Dense(F.Q), _upper(F.R), Permutation(F.p)))
FACTORED[SVD] = lambda F: Product((Dense(F.U[:, : F.S.shape[0]]), Diagonal(F.S), Dense(F.Vt[: F.S.shape[0]])))
