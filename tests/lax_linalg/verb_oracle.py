"""What every verb has to satisfy on any operator, checked against NumPy and SciPy on the materialised matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import lax_linalg as la

RATIO = 30.0  # LAPACK's own threshold of its test ratios


class Reference:
    """The dense matrix a [m, n] of an operator and the unit roundoff of what is computed from it."""

    def __init__(self, a: Any):
        a = np.asarray(a)
        exact = a.dtype if a.dtype.kind in "fc" and a.dtype.itemsize >= 4 and a.dtype.name != "bfloat16" else np.float32
        self.eps = float(np.finfo(exact).eps)
        self.a = a.astype(np.result_type(exact, np.float64))
        self.m, self.n = a.shape
        self.k = min(a.shape)
        self.size = max(*a.shape, 1)
        self.scale = float(np.linalg.norm(self.a)) or 1.0
        self.sigma = np.linalg.svd(self.a, compute_uv=False) if self.a.size else np.zeros(0)
        self.kappa = self.sigma[0] / self.sigma[-1] if self.k and self.sigma[-1] > 0 else np.inf
        self.square = self.m == self.n
        self.full_rank = self.kappa * self.size * self.eps < 1e-2 or self.k == 0
        asymmetry = np.linalg.norm(self.a - self.a.conj().T) if self.square else np.inf
        self.hermitian = bool(asymmetry <= self.size * self.eps * self.scale)
        self.definite = self.hermitian and (self.k == 0 or bool((np.linalg.eigvalsh(self.a) > 0).all()))

    def close(self, got: Any, want: Any, scale: float | None = None, growth: float = 1.0) -> None:
        """‖got − want‖ ≤ 30 · growth · n ε · scale, the LAPACK ratio of a forward or backward error."""
        got, want = np.asarray(got), np.asarray(want)
        assert got.shape == want.shape, f"{got.shape} ≠ {want.shape}"
        if got.size:
            bound = RATIO * growth * self.size * self.eps * (self.scale if scale is None else scale)
            error = float(np.linalg.norm((got - want).ravel()))
            assert error <= bound, f"error {error:.3g} > {bound:.3g}\n{got}\n{want}"

    def unitary(self, Q: Any) -> None:
        """Columns are orthonormal."""
        Q = np.asarray(Q, np.result_type(np.asarray(Q).dtype, np.float64))
        self.close(Q.conj().T @ Q, np.eye(Q.shape[1]), 1.0)

    def eigenvalues(self, got: Any, sensitivity: float) -> None:
        """The same multiset of eigenvalues, whatever the order of nearly equal ones."""
        got, want = np.asarray(got), np.linalg.eigvals(self.a) if self.k else np.zeros(0)
        assert got.shape == want.shape
        if self.k == 0:
            return
        from scipy.optimize import linear_sum_assignment

        gap = np.abs(got[:, None] - want[None, :])
        rows, columns = linear_sum_assignment(gap)
        bound = RATIO * self.size * self.eps * self.scale * sensitivity
        assert gap[rows, columns].max() <= bound, f"{gap[rows, columns].max():.3g} > {bound:.3g}\n{got}\n{want}"
        assert np.all(np.diff(got.real) >= -bound), f"not sorted: {got}"


def _array(A: Any) -> np.ndarray:
    return np.asarray(la.materialize(A))


def _svd(A, r):
    U, S, Vt = map(np.asarray, la.svd(A))
    assert U.shape == (r.m, r.k)
    assert S.shape == (r.k,)
    assert Vt.shape == (r.k, r.n)
    assert np.all(np.diff(S) <= 0)
    r.close(U * S @ Vt, r.a)
    r.unitary(U)
    r.unitary(Vt.conj().T)


def _sensitivity(r: Reference) -> float:
    """Largest eigenvalue condition number: how far an error of size ε may move an eigenvalue."""
    if r.k == 0 or r.hermitian:
        return 1.0
    _, left, right = scipy.linalg.eig(r.a, left=True)
    return float(1 / np.abs(np.sum(left.conj() * right, 0)).min())


def _eigvals(A, r):
    s = _sensitivity(r)
    if s * r.eps < 1e-3:
        r.eigenvalues(la.eigvals(A), s)


def _eigen(A, r):
    w, V = map(np.asarray, la.eigen(A))
    r.close(r.a @ V, V * w)
    r.close(np.linalg.norm(V, axis=0), np.ones(r.n), 1.0)
    if _sensitivity(r) * r.eps < 1e-3:
        r.eigenvalues(w, _sensitivity(r))


def _schur(A, r):
    T, Z, values = map(np.asarray, la.schur(A))
    r.unitary(Z)
    r.close(Z @ T @ Z.conj().T, r.a)
    np.testing.assert_array_equal(np.tril(T, -1), 0)
    np.testing.assert_array_equal(values, np.diag(T))


def _qr(A, r):
    Q, R = map(np.asarray, la.qr(A))
    assert Q.shape == (r.m, r.k)
    assert R.shape == (r.k, r.n)
    r.unitary(Q)
    r.close(Q @ R, r.a)
    np.testing.assert_array_equal(np.tril(R, -1), 0)


def _lu(A, r):
    L, U, p = map(np.asarray, la.lu(A))
    assert sorted(p) == list(range(r.m))
    r.close(L @ U, r.a[p])
    np.testing.assert_array_equal(np.triu(L), np.eye(r.m, r.k))
    np.testing.assert_array_equal(np.tril(U, -1), 0)
    # LAPACK picks complex pivots by |Re| + |Im|
    assert np.abs(L).max(initial=0) <= (2**0.5 if np.iscomplexobj(L) else 1) * (1 + 4 * r.eps)


def _cholesky(A, r):
    if r.definite and r.full_rank:
        L, U = map(np.asarray, la.cholesky(A))
        np.testing.assert_array_equal(np.triu(L, 1), 0)
        np.testing.assert_array_equal(U, L.conj().T)
        r.close(L @ U, r.a)
    else:
        try:
            la.cholesky(A)
        except la.NotPositiveDefiniteError:
            return
        assert r.k == 0 or not r.full_rank, "cholesky accepted a matrix that is not positive definite"


def _polar(A, r):
    U, P = map(np.asarray, la.polar(A))
    r.close(U @ P, r.a)
    r.close(P, P.conj().T)
    if r.k:
        assert np.linalg.eigvalsh(P).min() >= -RATIO * r.size * r.eps * r.scale
    r.unitary(U if r.m >= r.n else U.conj().T)


def _solve(A, r):
    b = np.cos(np.arange(2.0 * r.m)).reshape(r.m, 2)
    if r.square and not r.full_rank:
        return
    for rhs in (b, b[:, 0]):
        x = np.asarray(la.solve(A, rhs))
        if r.square:
            r.close(r.a @ x, rhs, r.scale * float(np.linalg.norm(x)) + 1, growth=10)
        elif r.full_rank and r.k:
            r.close(x, np.linalg.lstsq(r.a, rhs, rcond=None)[0], r.kappa**2 / r.sigma[0] * np.linalg.norm(rhs))


def _lstsq(A, r):
    b = np.cos(np.arange(2.0 * r.m)).reshape(r.m, 2)
    x = np.asarray(la.lstsq(A, b))
    rank = int((r.sigma > 1e-3 * r.sigma[:1]).sum()) if r.k else 0
    scale = (r.sigma[0] / r.sigma[rank - 1]) ** 2 / r.sigma[0] * np.linalg.norm(b) if rank else 1.0
    r.close(x, np.linalg.pinv(r.a, rcond=1e-3) @ b if r.k else np.zeros((r.n, 2)), scale)


def _inv(A, r):
    if r.full_rank:
        X = _array(la.inv(A))
        r.close(r.a @ X, np.eye(r.n), r.kappa * r.n)


def _pinv(A, r):
    rank = int((r.sigma > 1e-3 * r.sigma[:1]).sum()) if r.k else 0
    scale = (r.sigma[0] / r.sigma[rank - 1]) ** 2 / r.sigma[0] * r.size if rank else 1.0
    r.close(_array(la.pinv(A)), np.linalg.pinv(r.a, rcond=1e-3) if r.k else r.a.T, scale)


def _det(A, r):
    want = np.linalg.det(r.a) if r.k else 1.0
    bound = float(np.prod(np.maximum(r.sigma, r.eps * r.scale))) * max(r.kappa if r.full_rank else 1 / r.eps, 1)
    r.close(la.det(A), want, bound, growth=10)
    logabs, sign = la.logabsdet(A)
    if r.full_rank:
        want_sign, want_log = np.linalg.slogdet(r.a) if r.k else (1.0, 0.0)
        r.close(logabs, want_log, r.kappa * max(abs(want_log), 1) if r.k else 1.0)
        r.close(sign, want_sign, r.kappa if r.k else 1.0)


def _logdet(A, r):
    if not r.full_rank:
        return
    sign, want = np.linalg.slogdet(r.a) if r.k else (1.0, 0.0)
    scale = r.kappa * max(abs(want), 1) if r.k else 1.0
    if np.iscomplexobj(r.a):
        got = complex(la.logdet(A))
        r.close(np.exp(1j * got.imag) * np.exp(got.real - want), sign, scale)
    elif sign > 0:
        r.close(la.logdet(A), want, scale)
    else:
        try:
            la.logdet(A)
        except la.LinearAlgebraError:
            return
        raise AssertionError("logdet accepted a negative determinant")


def _norms(A, r):
    for p in (1, 2, 3.0, np.inf):
        r.close(la.norm(A, p), np.linalg.norm(r.a.ravel(), p) if r.a.size else 0.0, r.scale * r.size)
    for p in (1, 2, np.inf):
        want = np.linalg.norm(r.a, p) if r.a.size else 0.0
        r.close(la.opnorm(A, p), want, r.scale * r.size)
    if r.full_rank and r.k:
        r.close(la.cond(A), r.kappa, r.kappa**2)
        if r.square:
            r.close(la.cond(A, 1), np.linalg.cond(r.a, 1), r.kappa**2 * r.n**2)


def _exp(A, r):
    want = scipy.linalg.expm(r.a) if r.k else r.a
    r.close(_array(la.exp(A)), want, np.exp(np.linalg.norm(r.a, 2)) * r.scale + 1 if r.k else 1.0)


def _negative_by_type(A, r) -> bool:
    return isinstance(A, la.Hermitian) and r.k > 0 and np.linalg.eigvalsh(r.a).min() <= 0


def _log(A, r):
    if r.full_rank and not _negative_by_type(A, r):
        X = _array(la.log(A))
        if r.k:
            assert np.abs(np.linalg.eigvals(X).imag).max() <= np.pi + 1e-3
            sensitivity = r.kappa * (1 + np.linalg.norm(X)) * _sensitivity(r) ** 2
            r.close(scipy.linalg.expm(X), r.a, r.scale * sensitivity)


def _sqrt(A, r):
    if r.full_rank and not _negative_by_type(A, r):
        X = _array(la.sqrt(A))
        if r.k:
            assert np.linalg.eigvals(X).real.min() >= -1e-3 * np.linalg.norm(X)
        r.close(X @ X, r.a, r.scale * r.kappa)


def _power(A, r):
    r.close(_array(la.power(A, 3)), np.linalg.matrix_power(r.a, 3), r.scale**3)
    r.close(_array(la.power(A, 0)), np.eye(r.n), 1.0)
    if r.full_rank and r.k:
        inverse = np.linalg.inv(r.a)
        r.close(_array(la.power(A, -2)), inverse @ inverse, r.kappa**2 * np.linalg.norm(inverse) ** 2)


def _predicates(A, r):
    a, tol = r.a, 10 * r.size * r.eps
    norm = np.linalg.norm

    def agrees(got: Any, residual: float, scale: float) -> None:
        # between the two thresholds either answer is right
        if residual <= 0.1 * tol * scale or residual > 30 * tol * scale:
            assert bool(got) == (residual <= tol * scale)

    if r.square:
        agrees(la.issymmetric(A), norm(a - a.T), r.scale)
        agrees(la.ishermitian(A), norm(a - a.conj().T), r.scale)
        agrees(la.isnormal(A), norm(a @ a.conj().T - a.conj().T @ a), r.scale**2)
        if r.full_rank:
            assert bool(la.isposdef(A)) == r.definite
    else:
        assert not bool(la.issymmetric(A))
        assert not bool(la.ishermitian(A))
        assert not bool(la.isnormal(A))
        assert not bool(la.isposdef(A))
    gram = a.conj().T @ a if r.m >= r.n else a @ a.conj().T
    off = norm(gram - np.eye(r.k))
    agrees(la.isunitary(A), off, r.k**0.5)
    agrees(la.isorthogonal(A), off + norm(a.imag) * 1e3, r.k**0.5)
    agrees(la.istriu(A), norm(np.tril(a, -1)), r.scale)
    agrees(la.istril(A), norm(np.triu(a, 1)), r.scale)
    agrees(la.isdiag(A), norm(np.tril(a, -1) + np.triu(a, 1)), r.scale)


def _rank(A, r):
    cut = r.size * r.eps * r.sigma[0] if r.k else 0.0
    if not np.any((r.sigma > cut / 100) & (r.sigma < cut * 100)):
        assert int(la.rank(A)) == int((r.sigma > cut).sum())
        N = np.asarray(la.nullspace(A))
        assert N.shape == (r.n, r.n - int((r.sigma > cut).sum()))
        r.unitary(N)
        r.close(r.a @ N, np.zeros((r.m, N.shape[1])))


CHECKS: dict[str, tuple[bool, Callable[[Any, Reference], None]]] = {
    # name -> (whether the verb needs a square matrix, the check)
    "svdvals": (False, lambda A, r: r.close(la.svdvals(A), r.sigma)),
    "svd": (False, _svd),
    "norms": (False, _norms),
    "rank": (False, _rank),
    "qr": (False, _qr),
    "lu": (False, _lu),
    "polar": (False, _polar),
    "solve": (False, _solve),
    "lstsq": (False, _lstsq),
    "pinv": (False, _pinv),
    "diag": (False, lambda A, r: r.close(la.diag(A), np.diag(r.a))),
    "predicates": (False, _predicates),
    "tr": (True, lambda A, r: r.close(la.tr(A), np.trace(r.a), r.scale * r.size)),
    "eigvals": (True, _eigvals),
    "eigen": (True, _eigen),
    "schur": (True, _schur),
    "cholesky": (True, _cholesky),
    "det": (True, _det),
    "logdet": (True, _logdet),
    "inv": (True, _inv),
    "exp": (True, _exp),
    "log": (True, _log),
    "sqrt": (True, _sqrt),
    "power": (True, _power),
}


def check_verbs(A: la.LinearOperator, only: tuple[str, ...] = ()) -> None:
    """Run every check that applies to A's shape (or those named); the failing verb is named in the assertion."""
    reference = Reference(la.materialize(A))
    for name, (square, check) in CHECKS.items():
        if (only and name not in only) or (square and not reference.square):
            continue
        try:
            check(A, reference)
        except Exception as error:
            raise AssertionError(f"{name} of {A!r}: {type(error).__name__}: {error}") from error
