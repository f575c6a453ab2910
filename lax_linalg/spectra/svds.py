"""A few singular triplets by restarted Golub–Kahan bidiagonalisation, with residuals that bound their errors.

The basis is kept orthogonal by Gram–Schmidt on its right side, from which the left side's orthogonality follows where
A v is not small, and is restarted with its best Ritz vectors (thick restart), so that memory stays at `steps` vectors.
It grows by blocks as wide as what it starts with: one random vector, or the vectors of a nearby operator. A breakdown,
which is normal for low-rank or degenerate A, is met at the threshold √n ε ‖A‖: the basis goes on with a random
direction and a coupling of zero. What is returned is checked by products with A itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lax_linalg.core.dispatch import of_finite
from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import over_unit, unit_of
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.norms import scaled_norm

ENDS = ("largest", "smallest")


CHECK = 8
"""Every so many vectors it is looked whether the values have converged."""


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
    rtol: ArrayLike | None = None,
    start: PartialSVD | None = None,
    key: jax.Array | None = None,
) -> PartialSVD:
    """The k largest or smallest singular values with their vectors, from products with A and Aᴴ alone.

    Args:
        A: operator or array [m, n], such as a `Jacobian`.
        k: how many, at most min(m, n).
        which: "largest" or "smallest".
        steps: vectors in the basis; unless given max(2k + 20, 96) for the largest, 40 in place of 96 with `start`, and
            for the smallest, which a short basis finds slowly or not at all, as many as there are up to 2,048. With
            min(m, n) steps all are exact.
        restarts: at most so many times the basis is restarted.
        rtol: stop when all residuals are at most rtol · σ₁, one number or one for each value; 100 ε unless given.
            1e-2 suits a plot.
        start: triplets of a nearby operator of this shape, such as those of the last training step: the basis begins
            with all of their vectors.
        key: of the start vector; `jax.random.key(0)` unless given.

    Returns:
        `PartialSVD(U, S, Vt, residuals)`. The residuals are computed from A and the vectors, so that they hold
        whether or not the iteration converged: look at them. That the values found are the outermost ones is as
        certain as a random start vector makes it.

    Raises:
        DimensionMismatch: for k or steps that do not fit.
        UnknownNameError: for another end.
        NonFiniteError: on NaN or infinity.

    Cost: at most steps · (restarts + 1) + k products with A and with Aᴴ, and O((m + n) steps²) for every restart;
    memory for steps vectors of both sides. It stops as soon as the values have converged.

    Differentiable: dσ_i = Re u_iᴴ dA v_i; the vectors by conjugate gradients on the rest of the space, for values that
    are simple, not zero, and apart from that rest.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((3, 3, 1, 1)) / 9, (8, 8))
        >>> top = la.svds(A, 1)
        >>> bool(top.S[0] < 1), bool(jnp.abs(A @ top.Vt[0] - top.S[0] * top.U[:, 0]).max() < 1e-5)
        (True, True)

    Source: Golub & Kahan (1965); Baglama & Reichel, Augmented implicitly restarted Lanczos bidiagonalization methods
    (SIAM J. Sci. Comput. 2005) and Restarted block Lanczos bidiagonalization methods (Numer. Algorithms 2006), for the
    restart; Simon & Zha, Low-rank matrix approximation using the Lanczos bidiagonalization process (SIAM J. Sci.
    Comput. 2000), for one-sided orthogonality.
    """
    A = as_operator(A)
    m, n = A.shape
    if not 1 <= k <= min(m, n):
        raise DimensionMismatch(f"svds of a {m}×{n} matrix gives 1 to {min(m, n)} values, k = {k} was asked for")
    if which not in ENDS:
        raise UnknownNameError.of("end of the spectrum", which, ENDS)
    if steps is None:
        steps = max(2 * k + 20, 2048 if which == "smallest" else 96 if start is None else 40)
    if steps < k:
        raise DimensionMismatch(f"svds needs at least k = {k} steps, got {steps}")
    steps = min(steps, m, n)
    dtype = compute_dtype(A.dtype)
    tolerance = jnp.asarray(100 * float(jnp.finfo(dtype).eps) if rtol is None else rtol)
    if tolerance.shape not in ((), (k,)):
        raise DimensionMismatch(f"svds: rtol is a number or k = {k} of them, got shape {list(tolerance.shape)}")
    wide = m < n  # on the tall side all steps leave no residual
    key = jax.random.key(0) if key is None else key
    vectors = _random(key, min(m, n), dtype)[None]
    if start is not None:
        if (start.U.shape[0], start.Vt.shape[1]) != (m, n):
            shape = f"{start.U.shape[0]}×{start.Vt.shape[1]}"
            raise DimensionMismatch(f"svds of a {m}×{n} matrix starts with triplets of its shape, got those of {shape}")
        vectors = (start.U.T if wide else start.Vt.conj()).astype(dtype)
        if which == "smallest" or 2 * len(vectors) > steps:  # there is no room for a second block
            vectors = jnp.sum(vectors, axis=0, keepdims=True)
    plan = _Plan(k, which == "smallest", steps, 0 if steps == min(m, n) else restarts)

    def found(A: LinearOperator) -> PartialSVD:
        U, S, V, residuals = _checked_triplets(plan, A.H if wide else A, vectors, tolerance, key)
        U, V = (V, U) if wide else (U, V)
        return PartialSVD(U, S, V.conj().T, residuals)

    return of_finite("svds", (A,), found)


class _Plan(NamedTuple):
    k: int
    smallest: bool
    steps: int
    restarts: int


@functools.partial(jax.jit, static_argnums=0)
def _checked_triplets(
    plan: _Plan, A: LinearOperator, start: jax.Array, rtol: jax.Array, key: jax.Array
) -> tuple[jax.Array, ...]:
    """U, S, V and the residuals of a tall A."""
    with jax.default_matmul_precision("highest"):
        return _triplets(plan, A, start, rtol, key)


class _State(NamedTuple):
    """A V[:j]ᵀ = U[:j]ᵀ B[:j, :j] and Aᴴ U[:j]ᵀ = V[:j + b]ᵀ B[:j, :j + b]ᴴ, vectors as rows."""

    U: jax.Array  # [p, m], zero from row j on
    V: jax.Array  # [p + b, n], zero from row j + b on
    B: jax.Array  # [p, p + b]
    j: jax.Array
    cycle: jax.Array
    best: jax.Array  # the right Ritz vectors by rows of V, [k, p]
    done: jax.Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _triplets(
    plan: _Plan, A: LinearOperator, start: jax.Array, rtol: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """U [m, k], S [k], V [n, k] and residuals [k], m ≥ n, from start vectors [b, n]."""
    (m, n), p, k, b = A.shape, plan.steps, plan.k, start.shape[0]
    dtype = compute_dtype(A.dtype)
    tiny = max(m, n) ** 0.5 * float(jnp.finfo(dtype).eps)  # what rounding leaves of a vector in the basis, by ‖A‖
    kept = min(p - b, k + max(3, (p - k) // 3))  # Ritz vectors that a restart carries over
    AH = A.H

    def add(i: jax.Array, carry: tuple[_State, jax.Array]) -> tuple[_State, jax.Array]:
        """Row j + i of U from w_i = A v_{j+i}, of which the couplings to the rows before the block are known."""
        (state, W), c = carry, carry[0].j + i
        known = jax.lax.dynamic_slice_in_dim(state.B, c, 1, axis=1)[:, 0]
        known = jnp.where(jnp.arange(p) < state.j, known, 0)
        # coupled are the block before, after a restart all that it kept
        coupled = jnp.where(state.j == kept, 0, jnp.maximum(state.j - b, 0))
        w = _without(W[i], state.U, known, coupled, state.j)
        size = tiny * scaled_norm(state.B)
        # the others are orthogonal already, as far as V is and as A v is not small (Simon & Zha)
        first = jnp.where(scaled_norm(w) > 0.1 * jnp.max(jnp.abs(state.B)), state.j, 0)
        u, h, alpha = _next(w, state.U, first, c, size, jax.random.fold_in(key, 2 * c))
        column = known + jnp.where(jnp.arange(p) == c, alpha, h)
        B = jax.lax.dynamic_update_slice_in_dim(state.B, column[:, None].astype(dtype), c, axis=1)
        return state._replace(U=jax.lax.dynamic_update_slice_in_dim(state.U, u[None], c, axis=0), B=B), W

    def add_right(i: jax.Array, carry: tuple[_State, jax.Array]) -> tuple[_State, jax.Array]:
        """Row j + b + i of V from z_i = Aᴴ u_{j+i}, of which the couplings to V up to the block are known."""
        (state, Z), c = carry, carry[0].j + i
        known = jax.lax.dynamic_slice_in_dim(state.B, c, 1)[0].conj()
        z = _without(Z[i], state.V, known, state.j, state.j + b + i)
        size = tiny * scaled_norm(state.B)
        v, h, beta = _next(z, state.V, jnp.zeros_like(c), c + b, size, jax.random.fold_in(key, 2 * c + 1))
        new = jnp.arange(p + b)
        # what lies in the basis up to the block is rounding
        row = known + jnp.where(new == c + b, beta, jnp.where((new >= state.j + b) & (new < c + b), h, 0))
        B = jax.lax.dynamic_update_slice_in_dim(state.B, row.conj()[None].astype(dtype), c, axis=0)
        return state._replace(V=jax.lax.dynamic_update_slice_in_dim(state.V, v[None], c + b, axis=0), B=B), Z

    def extend(_: Any, state: _State) -> _State:
        W = (A @ jax.lax.dynamic_slice_in_dim(state.V, state.j, b).T).T
        state, _ = jax.lax.fori_loop(0, b, add, (state, W.astype(dtype)))
        Z = (AH @ jax.lax.dynamic_slice_in_dim(state.U, state.j, b).T).T
        state, _ = jax.lax.fori_loop(0, b, add_right, (state, Z.astype(dtype)))
        return state._replace(j=state.j + b)

    def factorised(state: _State) -> tuple[jax.Array, ...]:
        """P, s, Qt of B, the wanted values first, and what couples the Ritz vectors to the next block, [p, b]."""
        P, s, Qt = platform.svd(jnp.where(jnp.arange(p + b) < state.j, state.B, 0)[:, :p])
        if plan.smallest:
            P, s, Qt = P[:, ::-1], s[::-1], Qt[::-1]
        return P, s, Qt, P.conj().T @ jax.lax.dynamic_slice_in_dim(state.B, state.j, b, axis=1)

    def look(state: _State) -> _State:
        blocks = jnp.minimum(max(1, CHECK // b), (p - state.j) // b)
        state = jax.lax.fori_loop(0, blocks, extend, state)
        _, s, Qt, coupling = factorised(state)
        converged = ~jnp.any(jax.vmap(scaled_norm)(coupling[:k]) > rtol * jnp.max(s))  # so does what is not a number
        usable = full(state) if plan.smallest else state.j >= k
        return state._replace(best=Qt[:k].conj(), done=converged & usable)

    def full(state: _State) -> jax.Array:
        return state.j + b > p

    def restarted(state: _State) -> _State:
        """The best Ritz vectors, coupled to the next block."""
        P, s, Qt, coupling = factorised(state)
        U, V = P[:, :kept].T @ state.U[:p], Qt[:kept].conj() @ state.V[:p]
        V = jnp.concatenate([V, jax.lax.dynamic_slice_in_dim(state.V, state.j, b)])
        B = jnp.zeros_like(state.B).at[:kept, :kept].set(jnp.diag(s[:kept]).astype(dtype))
        B = B.at[:kept, kept : kept + b].set(coupling[:kept])
        return state._replace(
            U=jnp.zeros_like(state.U).at[:kept].set(U),
            V=jnp.zeros_like(state.V).at[: kept + b].set(V),
            B=B,
            j=jnp.full_like(state.j, kept),
        )

    def cycle(state: _State) -> _State:
        state = jax.lax.while_loop(lambda state: ~state.done & ~full(state), look, state)
        done = state.done | (state.cycle >= plan.restarts)
        state = jax.lax.cond(done, lambda state: state, restarted, state)
        return state._replace(cycle=state.cycle + 1, done=done)

    V = jnp.zeros((p + b, n), dtype).at[:b].set(jnp.linalg.qr(start.T.astype(dtype))[0].T)
    zero = jnp.zeros((), jnp.int32)
    best = jnp.zeros((k, p), dtype)
    state = _State(jnp.zeros((p, m), dtype), V, jnp.zeros((p, p + b), dtype), zero, zero, best, zero != 0)
    state = jax.lax.while_loop(lambda state: ~state.done, cycle, state)
    # the best triplets of the space that V spans: A V = U S to rounding
    V = (state.best @ state.V[:p]).T
    Q, R = jnp.linalg.qr((A @ V).astype(dtype))
    P, S, Qt = platform.svd(R)
    U, V = Q @ P, V @ Qt.conj().T
    residuals = jax.vmap(scaled_norm, 1)(AH @ U - V * S) / 2**0.5
    return U, S, V, residuals


def _random(key: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
    real = jnp.finfo(dtype).dtype
    x = jax.random.normal(key, (2, size), real)
    return jax.lax.complex(x[0], x[1]) if jnp.issubdtype(dtype, jnp.complexfloating) else x[0]


def _without(w: jax.Array, basis: jax.Array, h: jax.Array, first: jax.Array, count: jax.Array) -> jax.Array:
    """w − Σ h_l basis_l over the rows first … count − 1."""
    return jax.lax.fori_loop(first, count, lambda l, w: w - h[l] * basis[l], w)


def _next(
    w: jax.Array, basis: jax.Array, first: jax.Array, count: jax.Array, threshold: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """w = Σ h_l basis_l + size q with a unit q orthogonal to the basis; a random q and size 0 where nothing is left.

    Rows first … count − 1 are projected out; the others take no part.
    """

    def project(l: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        w, h = pair  # one vector after the other: each is read once
        c = jnp.vdot(basis[l], w)
        return w - c * basis[l], h.at[l].add(c)

    def orthogonal(first: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        nothing = jnp.zeros((basis.shape[0],), basis.dtype)
        once = jax.lax.fori_loop(first, count, project, (w, nothing))
        much = scaled_norm(once[0]) < 0.7 * scaled_norm(w)  # Kahan: then once was not enough, twice is
        return jax.lax.cond(much, lambda pair: jax.lax.fori_loop(first, count, project, pair), lambda pair: pair, once)

    rest, h = orthogonal(first, w)
    size = scaled_norm(rest)
    gone = size <= threshold

    def other() -> jax.Array:
        r, _ = orthogonal(jnp.zeros_like(first), _random(key, w.shape[0], basis.dtype))
        length = scaled_norm(r)
        # in a full basis there is no direction left: rounding is not one
        return jnp.where(length > 1e-3, r / jnp.where(length > 0, length, 1), 0)

    q = jax.lax.cond(gone, other, lambda: rest / jnp.where(gone, 1, size))
    return q, h, jnp.where(gone, 0, size)


# --- derivatives ---


@_triplets.defjvp
def _triplets_jvp(plan, primals, tangents):
    (A, *others), (dA, *_) = primals, tangents
    U, S, V, residuals = _triplets(plan, A, *others)
    _, dAV = jax.jvp(lambda A: A @ V, (A,), (dA,))
    _, dAHU = jax.jvp(lambda A: A.H @ U, (A,), (dA,))
    dS = jnp.real(jnp.sum(U.conj() * dAV, axis=0))
    dV, dU = _vectors(plan, A, U, S, V, dAV, dAHU, dS)
    return (U, S, V, residuals), (dU, dS, dV, jnp.zeros_like(residuals))


def _vectors(plan: _Plan, A: LinearOperator, U, S, V, dAV, dAHU, dS) -> tuple[jax.Array, jax.Array]:
    """dV and dU for tall A. Within span V by divided differences; outside of it (σ² − AᴴA) dv = (Aᴴ dA v + σ dAᴴ u)."""
    # Mᴴ S + S M over σ_j² − σ_i², from differentiating AᴴA V = V S²; of A over its unit, whose squares stay in range
    unit = unit_of(S)
    S = S / unit
    M = U.conj().T @ dAV
    gaps = S[None, :] - S[:, None]  # not of squares, whose difference a fused multiplication leaves above zero
    simple = gaps != 0
    total = jnp.where(simple, S[None, :] + S[:, None], 1)
    mixed = (S[:, None] / total) * M + M.conj().T * (S[None, :] / total)
    coefficients = jnp.where(simple, mixed / jnp.where(simple, gaps, 1), 0)

    def outside(X: jax.Array) -> jax.Array:
        return X - V @ (V.conj().T @ X)

    sign = -1 if plan.smallest else 1  # where the operator is definite

    def shifted(X: jax.Array) -> jax.Array:
        X = outside(X)
        return sign * outside(X * S**2 - over_unit(A.H @ over_unit(A @ X, unit), unit)) + V @ (V.conj().T @ X)

    rhs = sign * outside(over_unit(A.H @ (dAV - U @ M), unit) + dAHU * S)
    complement = _definite_solve(shifted, rhs)
    dV = V @ coefficients + outside(complement)
    positive = S > 0
    dU = jnp.where(positive, (dAV + over_unit(A @ dV, unit) - U * dS) / jnp.where(positive, S, 1), 0)
    return over_unit(dV, unit), over_unit(dU, unit)


def _definite_solve(matvec: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
    """Conjugate gradients, which transpose into conjugate gradients."""

    def solve(matvec: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
        tolerance = 10 * float(jnp.finfo(b.dtype).eps)
        return jax.scipy.sparse.linalg.cg(matvec, b, tol=tolerance, maxiter=4 * b.shape[0])[0]

    symmetric = not jnp.issubdtype(b.dtype, jnp.complexfloating)  # its transpose is definite all the same
    return jax.lax.custom_linear_solve(matvec, b, solve, transpose_solve=solve, symmetric=symmetric)
