"""What every verb has to satisfy on any operator, checked against NumPy and SciPy on a dense matrix.

A check takes the operator, the `Reference` made from the dense matrix, and a namespace of verbs: `la` itself, or
`Transformed`, in which each verb runs under a transformation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np
import scipy.linalg

import lax_linalg as la

RATIO = 30.0  # LAPACK's own threshold of its test ratios


class Reference:
    """The dense matrix a [m, n] of an operator and the unit roundoff of what is computed from it.

    Args:
        a: the matrix.
        eps: the unit roundoff; that of a's dtype (float32 for half precision) unless given.
        given: the unit roundoff of the operator's own dtype, where predicates allow for it.
    """

    def __init__(self, a: Any, eps: float | None = None, given: float = 0.0):
        a = np.asarray(a)
        exact = a.dtype if a.dtype.kind in "fc" and a.dtype.itemsize >= 4 and a.dtype.name != "bfloat16" else np.float32
        self.eps = float(np.finfo(exact).eps) if eps is None else eps
        self.given = given
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


class Transformed:
    """The verbs of `la`, each run under a transformation of (function of the operator) -> function of the operator.

    Results that are operators come back as arrays, because a transformed function returns those.
    """

    def __init__(self, transform: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]):
        self.transform = transform

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(la, name)

        def call(A: Any, *args: Any, **options: Any) -> Any:
            return self.transform(lambda A: arrays(verb(A, *args, **options)))(A)

        return call


def arrays(result: Any) -> Any:
    """A verb's result with operators materialised."""
    return la.materialize(result) if isinstance(result, la.LinearOperator) else result


jitted = Transformed(jax.jit)


def _array(A: Any) -> np.ndarray:
    return np.asarray(la.materialize(A))


def _svd(A, r, v):
    U, S, Vt = map(np.asarray, v.svd(A))
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


def _eigvals(A, r, v):
    s = _sensitivity(r)
    if s * r.eps < 1e-3:
        r.eigenvalues(v.eigvals(A), s)


def _eigen(A, r, v):
    w, V = map(np.asarray, v.eigen(A))
    r.close(r.a @ V, V * w)
    r.close(np.linalg.norm(V, axis=0), np.ones(r.n), 1.0)
    if _sensitivity(r) * r.eps < 1e-3:
        r.eigenvalues(w, _sensitivity(r))


def _schur(A, r, v):
    T, Z, values = map(np.asarray, v.schur(A))
    r.unitary(Z)
    r.close(Z @ T @ Z.conj().T, r.a)
    np.testing.assert_array_equal(np.tril(T, -1), 0)
    np.testing.assert_array_equal(values, np.diag(T))


def _qr(A, r, v):
    Q, R = map(np.asarray, v.qr(A))
    assert Q.shape == (r.m, r.k)
    assert R.shape == (r.k, r.n)
    r.unitary(Q)
    r.close(Q @ R, r.a)
    np.testing.assert_array_equal(np.tril(R, -1), 0)


def _lu(A, r, v):
    L, U, p = map(np.asarray, v.lu(A))
    assert sorted(p) == list(range(r.m))
    r.close(L @ U, r.a[p])
    np.testing.assert_array_equal(np.triu(L), np.eye(r.m, r.k))
    np.testing.assert_array_equal(np.tril(U, -1), 0)
    # LAPACK picks complex pivots by |Re| + |Im|
    assert np.abs(L).max(initial=0) <= (2**0.5 if np.iscomplexobj(L) else 1) * (1 + 4 * r.eps)


def _cholesky(A, r, v):
    if r.definite and r.full_rank:
        L, U = map(np.asarray, v.cholesky(A))
        np.testing.assert_array_equal(np.triu(L, 1), 0)
        np.testing.assert_array_equal(U, L.conj().T)
        r.close(L @ U, r.a)
    else:
        try:
            L, _ = v.cholesky(A)
        except la.NotPositiveDefiniteError:
            return
        if v is la:
            assert r.k == 0 or not r.full_rank, "cholesky accepted a matrix that is not positive definite"
        elif r.full_rank and r.hermitian and np.linalg.eigvalsh(r.a).min() < -1e-3 * r.scale:
            assert np.isnan(L).any(), "cholesky of an indefinite matrix under jit holds no NaN"


def _polar(A, r, v):
    U, P = map(np.asarray, v.polar(A))
    r.close(U @ P, r.a)
    r.close(P, P.conj().T)
    if r.k:
        assert np.linalg.eigvalsh(P).min() >= -RATIO * r.size * r.eps * r.scale
    r.unitary(U if r.m >= r.n else U.conj().T)


def _solve(A, r, v):
    b = np.cos(np.arange(2.0 * r.m)).reshape(r.m, 2)
    if r.square and not r.full_rank:
        return
    for rhs in (b, b[:, 0]):
        x = np.asarray(v.solve(A, rhs))
        if r.square:
            r.close(r.a @ x, rhs, r.scale * float(np.linalg.norm(x)) + 1, growth=10)
        elif r.full_rank and r.k:
            r.close(x, np.linalg.lstsq(r.a, rhs, rcond=None)[0], r.kappa**2 / r.sigma[0] * np.linalg.norm(rhs))


def _cut(r) -> float | None:
    """The relative singular value below which is nothing but rounding; None where it is not clear what is."""
    cut = r.size * r.eps
    if r.k and np.any((r.sigma > cut / 100 * r.sigma[0]) & (r.sigma < cut * 100 * r.sigma[0])):
        return None
    return cut


def _lstsq(A, r, v):
    cut = _cut(r)
    if cut is None:
        return
    b = np.cos(np.arange(2.0 * r.m)).reshape(r.m, 2)
    x = np.asarray(v.lstsq(A, b))
    rank = int((r.sigma > cut * r.sigma[:1]).sum()) if r.k else 0
    scale = (r.sigma[0] / r.sigma[rank - 1]) ** 2 / r.sigma[0] * np.linalg.norm(b) if rank else 1.0
    r.close(x, np.linalg.pinv(r.a, rcond=cut) @ b if r.k else np.zeros((r.n, 2)), scale)


def _inv(A, r, v):
    if r.full_rank:
        X = _array(v.inv(A))
        r.close(r.a @ X, np.eye(r.n), r.kappa * r.n)


def _pinv(A, r, v):
    cut = _cut(r)
    if cut is None:
        return
    rank = int((r.sigma > cut * r.sigma[:1]).sum()) if r.k else 0
    scale = (r.sigma[0] / r.sigma[rank - 1]) ** 2 / r.sigma[0] * r.size if rank else 1.0
    r.close(_array(v.pinv(A)), np.linalg.pinv(r.a, rcond=cut) if r.k else r.a.T, scale)


def _det(A, r, v):
    want = np.linalg.det(r.a) if r.k else 1.0
    bound = float(np.prod(np.maximum(r.sigma, r.eps * r.scale))) * max(r.kappa if r.full_rank else 1 / r.eps, 1)
    r.close(v.det(A), want, bound, growth=10)
    logabs, sign = v.logabsdet(A)
    if r.full_rank:
        want_sign, want_log = np.linalg.slogdet(r.a) if r.k else (1.0, 0.0)
        r.close(logabs, want_log, r.kappa * max(abs(want_log), 1) if r.k else 1.0)
        r.close(sign, want_sign, r.kappa if r.k else 1.0)


def _logdet(A, r, v):
    if not r.full_rank:
        return
    sign, want = np.linalg.slogdet(r.a) if r.k else (1.0, 0.0)
    scale = r.kappa * max(abs(want), 1) if r.k else 1.0
    if np.iscomplexobj(r.a):
        got = complex(v.logdet(A))
        r.close(np.exp(1j * got.imag) * np.exp(got.real - want), sign, scale)
    elif sign > 0:
        r.close(v.logdet(A), want, scale)
    else:
        try:
            got = v.logdet(A)
        except la.LinearAlgebraError:
            return
        if v is not la and np.isnan(got):
            return
        raise AssertionError("logdet accepted a negative determinant")


def _norms(A, r, v):
    for p in (1, 2, 3.0, np.inf):
        r.close(v.norm(A, p), np.linalg.norm(r.a.ravel(), p) if r.a.size else 0.0, r.scale * r.size)
    for p in (1, 2, np.inf):
        want = np.linalg.norm(r.a, p) if r.a.size else 0.0
        r.close(v.opnorm(A, p), want, r.scale * r.size)
    if r.full_rank and r.k:
        r.close(v.cond(A), r.kappa, r.kappa**2)
        if r.square:
            r.close(v.cond(A, 1), np.linalg.cond(r.a, 1), r.kappa**2 * r.n**2)


def exponential(a: np.ndarray) -> np.ndarray:
    """eᴬ by Taylor's series and squaring in extended precision; SciPy's is good to three digits less than ours."""
    squarings = max(int(np.ceil(np.log2(max(np.linalg.norm(a, 1), 1)))), 0) + 4 if a.size else 0
    x = a.astype(np.clongdouble if np.iscomplexobj(a) else np.longdouble) / 2**squarings
    term = result = np.eye(len(a), dtype=x.dtype)
    for k in range(1, 20):
        term = term @ x / k
        result = result + term
    for _ in range(squarings):
        result = result @ result
    return result.astype(a.dtype)


def _exp(A, r, v):
    want = exponential(r.a)
    r.close(_array(v.exp(A)), want, np.exp(np.linalg.norm(r.a, 2)) * r.scale + 1 if r.k else 1.0)


def _negative_by_type(A, r) -> bool:
    return isinstance(A, (la.Hermitian, la.SymTridiagonal)) and r.k > 0 and np.linalg.eigvalsh(r.a).min() <= 0


def _log(A, r, v):
    if r.full_rank and not _negative_by_type(A, r):
        X = _array(v.log(A))
        if r.k:
            assert np.abs(np.linalg.eigvals(X).imag).max() <= np.pi + 1e-3
            sensitivity = r.kappa * (1 + np.linalg.norm(X)) * _sensitivity(r) ** 2
            r.close(exponential(X), r.a, r.scale * sensitivity)


def _sqrt(A, r, v):
    if r.full_rank and not _negative_by_type(A, r):
        X = _array(v.sqrt(A))
        if r.k:
            assert np.linalg.eigvals(X).real.min() >= -1e-3 * np.linalg.norm(X)
        r.close(X @ X, r.a, r.scale * r.kappa)


def _power(A, r, v):
    r.close(_array(v.power(A, 3)), np.linalg.matrix_power(r.a, 3), r.scale**3)
    r.close(_array(v.power(A, 0)), np.eye(r.n), 1.0)
    if r.full_rank and r.k:
        inverse = np.linalg.inv(r.a)
        r.close(_array(v.power(A, -2)), inverse @ inverse, r.kappa**2 * np.linalg.norm(inverse) ** 2)


def _predicates(A, r, v):
    a, tol = r.a, max(10 * r.size * r.eps, 4 * r.given)
    norm = np.linalg.norm

    def agrees(got: Any, residual: float, scale: float) -> None:
        # between the two thresholds either answer is right
        if residual <= 0.1 * tol * scale or residual > 30 * tol * scale:
            assert bool(got) == (residual <= tol * scale)

    if r.square:
        agrees(v.issymmetric(A), norm(a - a.T), r.scale)
        agrees(v.ishermitian(A), norm(a - a.conj().T), r.scale)
        agrees(v.isnormal(A), norm(a @ a.conj().T - a.conj().T @ a), r.scale**2)
        asymmetry = norm(a - a.conj().T)
        if r.full_rank and not 0.1 * tol * r.scale < asymmetry <= 30 * tol * r.scale:
            definite = asymmetry <= tol * r.scale and bool((np.linalg.eigvalsh(a) > 0).all())
            assert bool(v.isposdef(A)) == definite
    else:
        assert not bool(v.issymmetric(A))
        assert not bool(v.ishermitian(A))
        assert not bool(v.isnormal(A))
        assert not bool(v.isposdef(A))
    gram = a.conj().T @ a if r.m >= r.n else a @ a.conj().T
    off = norm(gram - np.eye(r.k))
    agrees(v.isunitary(A), off, r.k**0.5)
    if not 0.1 * tol * r.scale < norm(a.imag) <= 30 * tol * r.scale:
        agrees(v.isorthogonal(A), off if norm(a.imag) <= tol * r.scale else np.inf, r.k**0.5)
    agrees(v.istriu(A), norm(np.tril(a, -1)), r.scale)
    agrees(v.istril(A), norm(np.triu(a, 1)), r.scale)
    agrees(v.isdiag(A), norm(np.tril(a, -1) + np.triu(a, 1)), r.scale)


def _rank(A, r, v):
    cut = _cut(r)
    if cut is not None:
        rank = int((r.sigma > cut * r.sigma[:1]).sum())
        assert int(v.rank(A)) == rank
        dimension = r.n - rank
        N = np.asarray(v.nullspace(A, dimension=None if v is la else dimension))
        assert N.shape == (r.n, dimension)
        r.unitary(N)
        r.close(r.a @ N, np.zeros((r.m, N.shape[1])))


def _parts(A, r, v):
    growth = max(1.0, r.given / r.eps)  # entries come in the operator's own precision

    def close(got, want):
        r.close(got, want, growth=growth)

    close(v.diag(A, -1), np.diag(r.a, -1) if r.m > 1 else np.zeros(0))
    close(_array(v.triu(A)), np.triu(r.a))
    close(_array(v.tril(A)), np.tril(r.a))
    middle, odd = range(1, max(r.k - 1, 1)), range(1, r.n, 2)
    for rows, columns in ((middle, middle), (range(r.m)[::2], odd), (range(r.m)[::-1], range(r.n))):
        close(_array(v.submatrix(A, rows, columns)), r.a[list(rows)][:, list(columns)])
    if v is la and r.k:
        close(A[-1], r.a[-1])
        close(A[:, 0], r.a[:, 0])
        close(A[0, r.n - 1], r.a[0, -1])
        close(_array(A[[r.m - 1, 0], 1:]), r.a[[r.m - 1, 0], 1:])


CHECKS: dict[str, tuple[bool, Callable[[Any, Reference], None]]] = {
    # name -> (whether the verb needs a square matrix, the check)
    "svdvals": (False, lambda A, r, v: r.close(v.svdvals(A), r.sigma)),
    "svd": (False, _svd),
    "norms": (False, _norms),
    "rank": (False, _rank),
    "qr": (False, _qr),
    "lu": (False, _lu),
    "polar": (False, _polar),
    "solve": (False, _solve),
    "lstsq": (False, _lstsq),
    "pinv": (False, _pinv),
    "parts": (False, _parts),
    "diag": (False, lambda A, r, v: r.close(v.diag(A), np.diag(r.a))),
    "predicates": (False, _predicates),
    "tr": (True, lambda A, r, v: r.close(v.tr(A), np.trace(r.a), r.scale * r.size)),
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


def check_verbs(
    A: la.LinearOperator, only: Collection[str] = (), reference: Reference | None = None, verbs: Any = la
) -> None:
    """Run every check that applies to A's shape (or those named); the failing verbs are named in the assertion.

    Args:
        A: the operator.
        only: names of checks.
        reference: what the results are compared with; A materialised unless given.
        verbs: `la`, or the same verbs under a transformation.
    """
    reference = Reference(la.materialize(A)) if reference is None else reference
    failures = []
    for name, (square, check) in CHECKS.items():
        if (only and name not in only) or (square and not reference.square):
            continue
        try:
            check(A, reference, verbs)
        except Exception as error:
            failures.append(f"{name} of {A!r}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
