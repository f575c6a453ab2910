"""Test ratios over a table of sizes, dtypes and spectra, as LAPACK's own test programs form them: all below 30.

The table is that of `dchkst`, `ddrvev`, `ddrvbd` and `dchkge`: zero, identity, Jordan blocks, evenly spaced, geometric
and clustered values down to ε, columns of zeros, tall and wide matrices, and the same scaled near under- and overflow.
Residuals are formed in extended precision, whose range is wider. XLA takes subnormal numbers for zero, so that systems
near underflow are solved for values that are not small beside it. Of bfloat16 the entries are taken as they are
rounded, and the ratios are those of float32, in which verbs compute. Small matrices go through the verbs outside of
`jit`, the large ones inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la

THRESHOLD = 30.0
SIZES = (0, 1, 2, 3, 5, 10, 16, 25, 40)


def values(kind: str, n: int, eps: float) -> np.ndarray:
    """n values from 1 down, in LAPACK's modes."""
    t = np.arange(n) / max(n - 1, 1)
    return {
        "zero": np.zeros(n),
        "identity": np.ones(n),
        "evenly spaced": 1 - t * (1 - eps),
        "geometric": eps**t,
        "one large": np.r_[1.0, np.full(n, eps)][:n],
        "one small": np.r_[np.ones(max(n - 1, 0)), eps][:n] if n > 1 else np.ones(n),
        "moderate": 1e-2**t,
        "mild": 0.25**t,
    }[kind]


KINDS = ("zero", "identity", "evenly spaced", "geometric", "one large", "one small", "moderate")
DEFICIENT = ("first column zero", "last column zero", "half the columns zero")  # LU meets a pivot that is zero exactly
SCALES = ("1", "near underflow", "near overflow")


def scale_of(name: str, limits: np.finfo) -> float:
    """A power of two: near underflow is that of LAPACK, a quarter of the smallest normal number over ε."""
    exponent = int(limits.minexp) + int(limits.nmant) - 2
    return 2.0 ** {"1": 0, "near underflow": exponent, "near overflow": -exponent}[name]


def unitary(generator: np.random.Generator, n: int, complex_: bool) -> np.ndarray:
    x = generator.standard_normal((n, n)) + (1j * generator.standard_normal((n, n)) if complex_ else 0)
    return np.linalg.qr(x)[0] if n else x


class Ratios:
    """The matrix in extended precision, and ratios of residuals to its norm, its size and the unit roundoff."""

    def __init__(self, a: np.ndarray):
        self.a, self.n = wide(a), max(*a.shape, 1)
        self.eps = float(limits_of(a.dtype).eps)
        self.norm = frobenius(self.a)

    def small(self, residual: np.ndarray, scale: float | None = None) -> None:
        size = frobenius(wide(residual))
        bound = THRESHOLD * self.n * self.eps * (self.norm if scale is None else scale)
        assert size <= bound, f"ratio {size / bound * THRESHOLD if bound else np.inf:.3g}"

    def unitary(self, Q: np.ndarray) -> None:
        Q = wide(Q)
        self.small(Q.conj().T @ Q - np.eye(Q.shape[1]), 1.0)


def limits_of(dtype: np.dtype) -> np.finfo:
    """Those of the dtype in which verbs compute."""
    return np.finfo("float32" if dtype == jnp.bfloat16 else dtype)


def wide(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)


def frobenius(x: np.ndarray) -> np.longdouble:
    return np.sqrt(np.sum(x.real**2 + x.imag**2))


class Compiled:
    """The verbs, each of them one program a shape."""

    def __getattr__(self, name: str) -> Callable:
        verb = jax.jit(getattr(la, name), static_argnums=(1,) if name == "opnorm" else ())
        setattr(self, name, verb)
        return verb


compiled = Compiled()


# --- one function a factorisation ---


def check_svd(a, r, v):
    U, S, Vt = map(np.asarray, v.svd(a))
    r.small(wide(U) * wide(S) @ wide(Vt) - r.a)
    r.unitary(U)
    r.unitary(Vt.conj().T)
    assert np.all(np.diff(S) <= 0)
    assert np.all(S >= 0)
    s = v.svdvals(a)
    assert s.dtype == S.dtype == limits_of(a.dtype).dtype
    r.small(wide(s) - wide(S), float(r.norm))


def check_norms(a, r, v):
    sigma = np.linalg.svd((r.a / (r.norm or 1)).astype(complex), compute_uv=False)  # in units of the norm
    largest = r.norm * sigma.max(initial=0)
    r.small(wide(v.norm(a)) - r.norm)
    r.small(wide(v.opnorm(a)) - largest)
    for p, axis in ((1, 0), (np.inf, 1)):
        r.small(wide(v.opnorm(a, p)) - np.abs(r.a).sum(axis).max(initial=0), r.norm * r.n**0.5)
    if a.size and sigma.min() > 1e-3 * sigma.max():
        r.small(wide(v.cond(a)) - sigma.max() / sigma.min(), (sigma.max() / sigma.min()) ** 2)


def check_schur(a, r, v):
    T, Z, _ = map(np.asarray, v.schur(a))
    r.small(wide(Z) @ wide(T) @ wide(Z).conj().T - r.a)
    r.unitary(Z)
    assert not np.tril(T, -1).any()


def check_eigen(a, r, v):
    w, V = map(np.asarray, v.eigen(a))
    r.small(r.a @ wide(V) - wide(V) * wide(w), r.norm * frobenius(wide(V)))
    r.small(np.linalg.norm(V, axis=0) - 1, 1.0)
    unit = (r.a / (r.norm or 1)).astype(complex)
    for value in wide(v.eigvals(a)) / (r.norm or 1):  # each is an eigenvalue of a matrix nearby
        nearest = np.linalg.svd(unit - complex(value) * np.eye(len(a)), compute_uv=False)[-1]
        r.small(nearest, 1.0)


def check_hermitian(a, r, v):
    w, V = map(np.asarray, v.eigen(la.Hermitian(a)))
    r.small(r.a @ wide(V) - wide(V) * wide(w))
    r.unitary(V)
    assert np.all(np.diff(w) >= 0)
    r.small(wide(v.eigvals(la.Hermitian(a))) - wide(w), float(r.norm))


def check_qr(a, r, v):
    Q, R = map(np.asarray, v.qr(a))
    r.small(wide(Q) @ wide(R) - r.a)
    r.unitary(Q)


def check_lu(a, r, v):
    L, U, p = map(np.asarray, v.lu(a))
    r.small(wide(L) @ wide(U) - r.a[p])


def check_polar(a, r, v):
    U, P = map(np.asarray, v.polar(a))
    r.small(wide(U) @ wide(P) - r.a)
    r.unitary(U if U.shape[0] >= U.shape[1] else U.conj().T)
    np.testing.assert_array_equal(P, P.conj().T)


def check_cholesky(a, r, v):
    L, _ = map(np.asarray, v.cholesky(a))
    r.small(wide(L) @ wide(L).conj().T - r.a)


def check_solve(a, r, v):
    b = np.cos(np.arange(1.0 * len(a))).astype(a.dtype)
    x = wide(v.solve(a, b))
    r.small(r.a @ x - b, r.norm * frobenius(x))


def check_inv(a, r, v):
    X = wide(v.materialize(v.inv(a)))
    r.small(r.a @ X - np.eye(len(a)), r.norm * frobenius(X))


def check_det(a, r, v):
    logabs, sign = map(np.asarray, v.logabsdet(a))
    if not r.a.any(0).all():
        assert logabs == -np.inf
        assert v.det(a) == 0
        return
    unit = (r.a / (r.norm or 1)).astype(complex)
    want_sign, want = np.linalg.slogdet(unit)
    want += len(a) * np.log(r.norm or 1)
    kappa = np.linalg.cond(unit) if len(a) else 1.0
    r.small(wide(logabs) - want, kappa + abs(want))
    r.small(wide(sign) - want_sign, kappa)
    if abs(want) < 80:
        r.small(wide(v.det(a)) / np.exp(wide(want)) - wide(sign), kappa + abs(want))
    if not np.iscomplexobj(a) and sign > 0:
        assert v.logdet(a) == logabs


def check_lstsq(a, r, v):
    b = np.cos(np.arange(1.0 * len(a))).astype(a.dtype)
    x, b = wide(v.lstsq(a, b)), wide(b)
    r.small(r.a.conj().T @ (b - r.a @ x), r.norm * (r.norm * frobenius(x) + frobenius(b)))
    # the smallest solution lies in the range of Aᴴ
    left, sigma, right = np.linalg.svd((r.a / (r.norm or 1)).astype(complex), full_matrices=False)
    rows = right[sigma > len(left) * r.eps]
    r.small(x - rows.conj().T @ (rows @ x.astype(complex)), 10 * frobenius(x))


def check_pinv(a, r, v):
    X = wide(v.materialize(v.pinv(a)))
    kappa = r.norm * frobenius(X)
    r.small(r.a @ X @ r.a - r.a, r.norm * kappa)
    r.small(X @ r.a @ X - X, frobenius(X) * kappa)
    r.small(r.a @ X - (r.a @ X).conj().T, kappa)
    r.small(X @ r.a - (X @ r.a).conj().T, kappa)
    b = np.cos(np.arange(1.0 * len(a))).astype(a.dtype)
    r.small(wide(v.lstsq(a, b)) - X @ b, frobenius(X) * kappa * len(a) ** 0.5)


def check_exp(a, r, v):
    from verb_oracle import exponential

    if r.norm < 100:
        want = exponential(r.a)
        r.small(wide(v.materialize(v.exp(a))) - want, max(r.norm, 1) * frobenius(want))


def check_sqrt(a, r, v):
    X = wide(v.materialize(v.sqrt(a)))
    r.small(X @ X - r.a, frobenius(X) ** 2)


def check_log(a, r, v):
    from verb_oracle import exponential

    X = wide(v.materialize(v.log(a)))
    r.small(exponential(X) - r.a, r.norm * max(frobenius(X), 1))


# name -> (what it takes, the spectra it is meaningful for, the check)
EVERY = (*KINDS, *DEFICIENT)
DECISIVE = ("zero", "identity", "moderate")  # every value is either far above or at zero
REGULAR = ("identity", "moderate", "evenly spaced", "one small", "geometric")
FACTORISATIONS: dict[str, tuple[str, tuple[str, ...], Callable[[np.ndarray, Ratios, Any], None]]] = {
    "svd": ("general", EVERY, check_svd),
    "norms": ("general", EVERY, check_norms),
    "polar": ("general", EVERY, check_polar),
    "qr": ("general", EVERY, check_qr),
    "lu": ("general", EVERY, check_lu),
    "solve": ("general", REGULAR, check_solve),
    "inv": ("general", REGULAR, check_inv),
    "det": ("general", (*DECISIVE, *DEFICIENT), check_det),
    "lstsq": ("general", (*DECISIVE, *DEFICIENT), check_lstsq),
    "pinv": ("general", DECISIVE, check_pinv),
    "schur": ("nonnormal", (*KINDS, "jordan"), check_schur),
    "eigen": ("nonnormal", (*KINDS, "jordan"), check_eigen),
    "exp": ("nonnormal", (*KINDS, "jordan"), check_exp),
    "hermitian": ("hermitian", KINDS, check_hermitian),
    "cholesky": ("definite", ("identity", "moderate", "mild"), check_cholesky),
    "sqrt": ("definite", ("identity", "moderate", "mild"), check_sqrt),
    "log": ("definite", ("identity", "moderate", "mild"), check_log),
}
for _shape in ("tall", "wide"):
    for _name, _kinds in (("svd", EVERY), ("polar", EVERY), ("qr", EVERY), ("lu", EVERY), ("lstsq", DECISIVE)):
        FACTORISATIONS[f"{_name}, {_shape}"] = (_shape, _kinds, FACTORISATIONS[_name][2])


def matrix(what: str, kind: str, n: int, eps: float, complex_: bool) -> np.ndarray:
    """A matrix with the values of this kind as singular values or eigenvalues."""
    generator = np.random.default_rng(n)
    if kind in DEFICIENT:
        a = matrix(what, "moderate", n, eps, complex_)
        k = a.shape[1]
        a[:, {"first": slice(0, 1), "last": slice(max(k - 1, 0), k), "half": slice(k // 2, k)}[kind.split()[0]]] = 0
        return a
    if kind == "jordan":
        return np.eye(n) + np.eye(n, k=-1) + (0j if complex_ else 0)
    s = values(kind, n, eps)
    if what in ("tall", "wide"):
        long = unitary(generator, n + n // 2 + 1, complex_)[:, :n]
        a = long * s @ unitary(generator, n, complex_)
        return a if what == "tall" else a.T.copy()
    if np.array_equal(s, np.ones(n)):
        return np.eye(n) + (0j if complex_ else 0)
    Q = unitary(generator, n, complex_)
    if what == "general":
        return Q * s @ unitary(generator, n, complex_)
    signs = generator.choice([-1.0, 1.0], n) if what != "definite" else np.ones(n)
    if what == "nonnormal":
        upper = np.triu(generator.standard_normal((n, n)), 1) * (s.any() / max(n, 1))
        return Q @ (np.diag(s * signs) + upper) @ Q.conj().T
    a = Q * (s * signs) @ Q.conj().T
    return (a + a.conj().T) / 2


DTYPES = ("float32", "float64", "complex64", "complex128", "bfloat16")
THIN = ((0, "float32"), (1, "complex64"), (3, "bfloat16"), (40, "float64"))


def pairs():
    for dtype in DTYPES:
        for n in SIZES:
            yield pytest.param(n, dtype, marks=() if (n, dtype) in THIN else pytest.mark.slow)


@pytest.mark.parametrize(("n", "dtype"), list(pairs()))
def test_ratios(n, dtype, x64):
    limits = limits_of(jnp.dtype(dtype))
    failures = []
    for name, (what, kinds, check) in FACTORISATIONS.items():
        for kind in kinds:
            for scale in SCALES:
                if name in ("solve", "inv") and scale == "near underflow" and kind not in DECISIVE:
                    continue
                if what == "definite" and kind == "moderate" and dtype == "bfloat16":
                    continue  # rounding the entries makes it indefinite
                a = matrix(what, kind, n, float(limits.eps), dtype.startswith("complex"))
                a = (a * scale_of(scale, limits)).astype(jnp.dtype(dtype))
                try:
                    check(a, Ratios(a), la if n <= 10 else compiled)
                except Exception as error:
                    failures.append(f"{name}, {kind}, scale {scale}: {type(error).__name__}: {str(error)[:200]}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_zero_matrix_is_refused_where_it_has_no_answer(dtype, x64):
    zero = np.zeros((3, 3), dtype)
    for call in (lambda: la.solve(zero, np.ones(3, dtype)), lambda: la.inv(zero)):
        with pytest.raises(la.SingularError) as caught:
            call()
        assert caught.value.index == 0
    with pytest.raises(la.NotPositiveDefiniteError) as caught:
        la.cholesky(zero)
    assert caught.value.index == 0
    with pytest.raises(la.SingularError):
        la.log(zero)
    assert not np.asarray(la.materialize(la.sqrt(zero))).any()
