"""A few singular triplets by restarted Golub–Kahan bidiagonalisation, with residuals that bound their errors.

The basis is kept orthogonal by two passes of Gram–Schmidt and restarted with its best Ritz vectors (thick restart), so
that memory stays at `steps` vectors. A breakdown, which is normal for low-rank or degenerate A, is met at the threshold
√n ε ‖A‖: the basis goes on with a random direction and a coupling of zero. (matfree's bidiagonalisation divides by zero
there and takes real matrices only.) What is returned is checked by products with A itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg import platform
from lax_linalg.dispatch import of_finite
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from lax_linalg.operators.base import LinearOperator, MatrixLike, as_operator
from lax_linalg.verbs.basic import compute_dtype

ENDS = ("largest", "smallest")


class PartialSVD(NamedTuple):
    """k singular triplets, A V ≈ U diag(S): U [m, k], S [k] descending, Vt [k, n], and bounds of their errors.

    Attributes:
        residuals: r_i = √((‖A v_i − s_i u_i‖² + ‖Aᴴ u_i − s_i v_i‖²) / 2), [k]: some singular value of A (of a
            rectangular A also 0) lies within r_i of s_i.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> U, S, Vt, residuals = la.svds(la.Diagonal([3.0, 1.0, 2.0]), 2)
        >>> bool(jnp.allclose(S, jnp.array([3.0, 2.0]))), bool((residuals < 1e-5).all())
        (True, True)
    """

    U: jax.Array
    S: jax.Array
    Vt: jax.Array
    residuals: jax.Array


def svds(
    A: MatrixLike,
    k: int = 6,
    which: str = "largest",
    *,
    steps: int | None = None,
    restarts: int = 100,
    rtol: float | None = None,
    key: jax.Array | None = None,
) -> PartialSVD:
    """The k largest or smallest singular values with their vectors, from products with A and Aᴴ alone.

    Args:
        A: operator or array [m, n], such as a `Jacobian`.
        k: how many, at most min(m, n).
        which: "largest" or "smallest".
        steps: vectors in the basis; unless given max(2k + 20, 40) for the largest, and for the smallest, which a short
            basis finds slowly or not at all, as many as there are up to 2,048. With min(m, n) steps all are exact.
        restarts: at most so many times the basis is restarted.
        rtol: stop when all residuals are at most rtol · σ₁; 100 ε unless given.
        key: of the start vector; `jax.random.key(0)` unless given.

    Returns:
        `PartialSVD(U, S, Vt, residuals)`. The residuals are computed from A and the vectors, so that they hold
        whether or not the iteration converged: look at them. That the values found are the outermost ones is as
        certain as a random start vector makes it.

    Raises:
        DimensionMismatch: for k or steps that do not fit.
        UnknownNameError: for another end.
        NonFiniteError: on NaN or infinity.

    Cost: at most steps · (restarts + 1) products with A and with Aᴴ, and O((m + n) steps²) for every restart; memory
    for steps vectors of both sides.

    Differentiable: dσ_i = Re u_iᴴ dA v_i; the vectors by conjugate gradients on the rest of the space, for values that
    are simple, not zero, and apart from that rest.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((3, 3, 1, 1)) / 9, (8, 8))
        >>> top = la.svds(A, 1)
        >>> bool(top.S[0] < 1), bool(jnp.abs(A @ top.Vt[0] - top.S[0] * top.U[:, 0]).max() < 1e-5)
        (True, True)

    Source: Golub & Kahan (1965); Baglama & Reichel, Augmented implicitly restarted Lanczos bidiagonalization methods
    (SIAM J. Sci. Comput. 2005), for the restart.
    """
    A = as_operator(A)
    m, n = A.shape
    if not 1 <= k <= min(m, n):
        raise DimensionMismatch(f"svds of a {m}×{n} matrix gives 1 to {min(m, n)} values, k = {k} was asked for")
    if which not in ENDS:
        raise UnknownNameError.of("end of the spectrum", which, ENDS)
    if steps is None:
        steps = max(2 * k + 20, 40 if which == "largest" else 2048)
    if steps < k:
        raise DimensionMismatch(f"svds needs at least k = {k} steps, got {steps}")
    steps = min(steps, m, n)
    plan = _Plan(k, which == "smallest", steps, 0 if steps == min(m, n) else restarts, rtol)
    key = jax.random.key(0) if key is None else key

    def found(A: LinearOperator) -> PartialSVD:
        if m < n:  # on the tall side all n steps leave no residual
            V, S, U, residuals = _checked_triplets(plan, A.H, key)
        else:
            U, S, V, residuals = _checked_triplets(plan, A, key)
        return PartialSVD(U, S, V.conj().T, residuals)

    return of_finite("svds", (A,), found)


class _Plan(NamedTuple):
    k: int
    smallest: bool
    steps: int
    restarts: int
    rtol: float | None


@functools.partial(jax.jit, static_argnums=0)
def _checked_triplets(plan: _Plan, A: LinearOperator, key: jax.Array) -> tuple[jax.Array, ...]:
    """U, S, V and the residuals of a tall A."""
    with jax.default_matmul_precision("highest"):
        U, S, V = _triplets(plan, A, key)
        return U, S, V, _residuals(*jax.lax.stop_gradient((A, U, S, V)))


def _residuals(A: LinearOperator, U: jax.Array, S: jax.Array, V: jax.Array) -> jax.Array:
    right, left = A @ V - U * S, A.H @ U - V * S
    return jnp.hypot(jnp.linalg.norm(right, axis=0), jnp.linalg.norm(left, axis=0)) / 2**0.5


class _State(NamedTuple):
    U: jax.Array  # [m, steps]
    V: jax.Array  # [n, steps + 1]
    B: jax.Array  # A V = U B, [steps, steps]
    start: jax.Array  # how many columns are done
    cycle: jax.Array
    done: jax.Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _triplets(plan: _Plan, A: LinearOperator, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U [m, k], S [k], V [n, k], m ≥ n."""
    (m, n), p, k = A.shape, plan.steps, plan.k
    dtype = compute_dtype(A.dtype)
    eps = float(jnp.finfo(dtype).eps)
    tiny = max(m, n) ** 0.5 * eps  # what rounding leaves of a vector that lies in the basis, relative to ‖A‖
    rtol = 100 * eps if plan.rtol is None else plan.rtol
    kept = min(p - 1, k + max(3, (p - k) // 3))  # Ritz vectors that a restart carries over

    def extend(j: jax.Array, state: _State) -> _State:
        U, V, B = state.U, state.V, state.B
        threshold = tiny * jnp.linalg.norm(B)
        u, h, alpha = _next(A @ V[:, j], U, threshold, jax.random.fold_in(key, 2 * j))
        U = U.at[:, j].set(u)
        B = B.at[:, j].set((h.at[j].set(alpha)).astype(dtype))
        threshold = tiny * jnp.linalg.norm(B)
        v, _, beta = _next(A.H @ u, V, threshold, jax.random.fold_in(key, 2 * j + 1))
        # what the basis does not see any more of Aᴴ u_j is β v_{j+1}
        return state._replace(U=U, V=V.at[:, j + 1].set(v), B=B, done=beta)

    def cycle(state: _State) -> _State:
        state = jax.lax.fori_loop(state.start, p, extend, state)
        beta = state.done
        P, s, Qt = platform.svd(state.B)
        Q = Qt.conj().T
        if plan.smallest:
            P, s, Q = P[:, ::-1], s[::-1], Q[:, ::-1]
        residual = beta * jnp.abs(P[-1])
        finished = ~jnp.any(residual[:k] > rtol * jnp.max(s))  # a NaN stops, too
        U, V = state.U @ P, state.V.at[:, :p].set(state.V[:, :p] @ Q)
        keep = jnp.arange(p) < kept
        stop = finished | (state.cycle >= plan.restarts)
        # at a restart the columns behind the kept ones are empty, and the residual's direction is the next
        fresh = jnp.where(jnp.arange(p + 1)[None, :] < kept, V, 0).at[:, kept].set(state.V[:, p])
        return _State(
            U=jnp.where(stop | keep, U, 0),
            V=jnp.where(stop, V, fresh),
            B=jnp.diag(jnp.where(stop | keep, s, 0)).astype(dtype),
            start=jnp.asarray(kept),
            cycle=state.cycle + 1,
            done=jnp.where(stop, 1, 0).astype(s.dtype),
        )

    v = _random(key, n, dtype)
    state = _State(
        U=jnp.zeros((m, p), dtype),
        V=jnp.zeros((n, p + 1), dtype).at[:, 0].set(v / jnp.linalg.norm(v)),
        B=jnp.zeros((p, p), dtype),
        start=jnp.asarray(0),
        cycle=jnp.asarray(0),
        done=jnp.zeros((), jnp.finfo(dtype).dtype),
    )
    state = jax.lax.while_loop(lambda s: s.done == 0, cycle, state)
    S = jnp.real(jnp.diagonal(state.B))[:k]
    order = jnp.argsort(-S)
    return state.U[:, :k][:, order], S[order], state.V[:, :k][:, order]


def _random(key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    real = jnp.finfo(dtype).dtype
    x = jax.random.normal(key, (2, size), real)
    return jax.lax.complex(x[0], x[1]) if jnp.issubdtype(dtype, jnp.complexfloating) else x[0]


def _next(
    w: jax.Array, basis: jax.Array, threshold: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """w = basis h + size q with a unit q orthogonal to the basis; a random q and size 0 where nothing is left of w."""

    def project(_: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        w, h = pair
        c = basis.conj().T @ w
        return w - basis @ c, h + c

    def orthogonal(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.lax.fori_loop(0, 2, project, (w, jnp.zeros((basis.shape[1],), basis.dtype)))

    rest, h = orthogonal(w)
    size = jnp.linalg.norm(rest)
    alive = size > threshold

    def other() -> jax.Array:
        r, _ = orthogonal(_random(key, w.shape[0], basis.dtype))
        length = jnp.linalg.norm(r)
        # in a full basis there is no direction left: rounding is not one
        return jnp.where(length > 1e-3, r / jnp.where(length > 0, length, 1), 0)

    q = jax.lax.cond(alive, lambda: rest / jnp.where(alive, size, 1), other)
    return q, h, jnp.where(alive, size, 0)


# --- derivatives ---


@_triplets.defjvp
def _triplets_jvp(plan, primals, tangents):
    (A, key), (dA, _) = primals, tangents
    U, S, V = _triplets(plan, A, key)
    _, dAV = jax.jvp(lambda A: A @ V, (A,), (dA,))
    _, dAHU = jax.jvp(lambda A: A.H @ U, (A,), (dA,))
    dS = jnp.real(jnp.sum(U.conj() * dAV, axis=0))
    dV, dU = _vectors(plan, A, U, S, V, dAV, dAHU, dS)
    return (U, S, V), (dU, dS, dV)


def _vectors(plan: _Plan, A: LinearOperator, U, S, V, dAV, dAHU, dS) -> tuple[jax.Array, jax.Array]:
    """dV and dU for tall A. Within span V by divided differences; outside of it (σ² − AᴴA) dv = (Aᴴ dA v + σ dAᴴ u)."""
    # Mᴴ S + S M over σ_j² − σ_i², from differentiating AᴴA V = V S²
    M = U.conj().T @ dAV
    gaps = S[None, :] ** 2 - S[:, None] ** 2
    simple = gaps != 0
    coefficients = jnp.where(simple, (S[:, None] * M + M.conj().T * S[None, :]) / jnp.where(simple, gaps, 1), 0)

    def outside(X: jax.Array) -> jax.Array:
        return X - V @ (V.conj().T @ X)

    sign = -1 if plan.smallest else 1  # where the operator is definite

    def shifted(X: jax.Array) -> jax.Array:
        X = outside(X)
        return sign * outside(X * S**2 - A.H @ (A @ X)) + V @ (V.conj().T @ X)

    rhs = sign * outside(A.H @ (dAV - U @ M) + dAHU * S)
    complement = _definite_solve(shifted, rhs)
    dV = V @ coefficients + outside(complement)
    positive = S > 0
    dU = jnp.where(positive, (dAV + A @ dV - U * dS) / jnp.where(positive, S, 1), 0)
    return dV, dU


def _definite_solve(matvec: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
    """Conjugate gradients, which transpose into conjugate gradients."""

    def solve(matvec: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
        tolerance = 10 * float(jnp.finfo(b.dtype).eps)
        return jax.scipy.sparse.linalg.cg(matvec, b, tol=tolerance, maxiter=4 * b.shape[0])[0]

    symmetric = not jnp.issubdtype(b.dtype, jnp.complexfloating)  # its transpose is definite all the same
    return jax.lax.custom_linear_solve(matvec, b, solve, transpose_solve=solve, symmetric=symmetric)
