"""Every differentiable verb as a function of an operator's parameters that does not depend on the choice of signs,
phases and bases, and its derivative in both modes against differences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from verb_oracle import Reference, arrays

import lax_linalg as la

STEP = 3e-4  # of the five-point formula, whose error is O(h⁴)
TOLERANCE = 1e-6


def always(r: Reference) -> bool:
    return True


def regular(r: Reference) -> bool:
    return r.k > 0 and r.kappa < 1e3


def separated(r: Reference) -> bool:
    """Whether eigenvalues are simple and well-conditioned."""
    if r.k == 0:
        return False
    w, V = np.linalg.eig(r.a)
    gaps = np.abs(w[:, None] - w[None, :]) + np.diag(np.full(r.n, np.inf))
    return bool(gaps.min() > 0.1 * r.scale / r.n and np.linalg.cond(V) < 1e3)


def distinct(r: Reference) -> bool:
    """Whether singular values are."""
    return r.k > 0 and bool((-np.diff(np.r_[r.sigma, 0]) > 1e-2 * r.sigma[0] / r.k).all())


def leading(r: Reference) -> bool:
    """Whether the columns that give the pivots are independent."""
    return regular(r) and bool(np.linalg.cond(r.a[:, : r.k]) < 1e3)


def largest_alone(numbers: np.ndarray) -> bool:
    ordered = np.sort(numbers)[::-1]
    return len(ordered) < 2 or bool(ordered[0] - ordered[1] > 1e-3 * ordered[0])


def one_radius(r: Reference) -> bool:
    return separated(r) and largest_alone(np.abs(np.linalg.eigvals(r.a)))


def one_sum(r: Reference) -> bool:
    """Whether one column and one row have the largest sum; a tie of real structures holds along every direction."""
    sums = np.abs(r.a).sum(0), np.abs(r.a).sum(1)
    return r.k > 0 and (not np.iscomplexobj(r.a) or all(map(largest_alone, sums)))


def off_the_cut(r: Reference) -> bool:
    return regular(r) and bool((np.abs(np.angle(np.linalg.eigvals(r.a))) < 3).all())


def definite(r: Reference) -> bool:
    return r.definite and regular(r)


def _svd(A):
    U, S, Vt = la.svd(A)
    return (U * S**3) @ Vt


def _eigen(A):
    w, V = la.eigen(A)
    return (V * w**2) @ jnp.linalg.inv(V)


def _schur(A):
    T, Z, values = la.schur(A)
    return jnp.abs(T) ** 2, jnp.abs(Z) ** 2, jnp.abs(values)


def _qr(A):
    # LAPACK's phases of the columns jump where a column has nothing to eliminate
    Q, R = la.qr(A)
    return jnp.abs(Q) ** 2, jnp.abs(R) ** 2


@jax.jit  # where it does not ask whether a matrix that is moved along a line is still symmetric
def _cholesky(A):
    return la.cholesky(A)


def _right(A) -> jax.Array:
    return jnp.cos(jnp.arange(2.0 * A.shape[0])).reshape(A.shape[0], 2)


DERIVATIVES: dict[str, tuple[bool, Callable[[Reference], bool], Callable[[Any], Any]]] = {
    # name -> (whether it needs a square matrix, where it is differentiable, the function)
    "materialize": (False, always, la.materialize),
    "product": (False, always, lambda A: A @ jnp.cos(jnp.arange(1.0 * A.shape[1]))),
    "transpose": (False, always, lambda A: A.T @ jnp.cos(jnp.arange(1.0 * A.shape[0]))),
    "adjoint": (False, always, lambda A: A.H @ _right(A)),
    "diag": (False, always, la.diag),
    "norm": (False, always, lambda A: [la.norm(A, p) for p in (1, 2, 3.0)]),
    "opnorm": (False, distinct, la.opnorm),
    "sums": (False, one_sum, lambda A: [la.opnorm(A, p) for p in (1, np.inf)]),
    "cond": (False, lambda r: regular(r) and distinct(r), la.cond),
    "svdvals": (False, distinct, la.svdvals),
    "svd": (False, distinct, _svd),
    "polar": (False, regular, la.polar),
    "qr": (False, regular, _qr),
    "lu": (False, leading, lambda A: la.lu(A)[:2]),
    "lstsq": (False, regular, lambda A: la.lstsq(A, _right(A))),
    "pinv": (False, regular, la.pinv),
    "tr": (True, always, la.tr),
    "det": (True, regular, la.det),
    "logabsdet": (True, regular, lambda A: la.logabsdet(A).logabs),
    "eigvals": (True, separated, la.eigvals),
    "spectral_radius": (True, one_radius, la.spectral_radius),
    "eigen": (True, separated, _eigen),
    "schur": (True, separated, _schur),
    "cholesky": (True, definite, _cholesky),
    "solve": (True, regular, lambda A: la.solve(A, _right(A))),
    "inv": (True, regular, la.inv),
    "exp": (True, always, la.exp),
    "log": (True, off_the_cut, la.log),
    "sqrt": (True, off_the_cut, la.sqrt),
    "power": (True, always, lambda A: la.power(A, 3)),
    "inverse power": (True, regular, lambda A: la.power(A, -2)),
    "fractional power": (True, off_the_cut, lambda A: la.power(A, 1.7)),
}


def _same_pivots(points: list[la.LinearOperator]) -> bool:
    pivots = [np.asarray(la.lu(A).p) for A in points]
    return all(np.array_equal(p, pivots[0]) for p in pivots)


ORDERED = ("eigvals", "schur")
"""Their eigenvalues come in an order that may change from one point to the next: by real parts, and LAPACK's own."""


def _jumps(at: jax.Array, points: list[jax.Array]) -> bool:
    """Whether values at −2, −1, 1, 2 steps cannot be those of a smooth function, whatever its derivative is."""
    far_left, left, right, far_right = points
    differences = left + right - 2 * at, far_left + far_right - 2 * at, 2 * (right - left) - (far_right - far_left)
    return any(float(jnp.linalg.norm(d)) > STEP * float(jnp.linalg.norm(at)) for d in differences)


def _numbers(result: Any) -> jax.Array:
    """All the numbers of a result, as one real vector."""
    leaves = jax.tree.leaves(jax.tree.map(arrays, result, is_leaf=lambda x: isinstance(x, la.LinearOperator)))
    flat = [part.ravel() for x in leaves for part in ((x.real, x.imag) if jnp.iscomplexobj(x) else (x,))]
    return jnp.concatenate(flat) if flat else jnp.zeros(0)


def check_derivatives(A: la.LinearOperator, reference: Reference, only: Collection[str] = ()) -> None:
    """Forward and reverse mode of every verb, in one random direction, against differences of fourth order."""
    leaves, tree = jax.tree.flatten(A)
    inexact = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    parameters = [x for x, yes in zip(leaves, inexact) if yes]
    if not parameters or not sum(x.size for x in parameters):
        return
    generator = np.random.default_rng(7)

    def draw(x: Any) -> jax.Array:
        y = generator.standard_normal(x.shape)
        return jnp.asarray(y + 1j * generator.standard_normal(x.shape) if jnp.iscomplexobj(x) else y, x.dtype)

    direction = [draw(x) for x in parameters]
    points = [[x + k * STEP * d for x, d in zip(parameters, direction)] for k in (-2, -1, 1, 2)]

    def operator(*values: Any) -> la.LinearOperator:
        rest = iter(values)
        return jax.tree.unflatten(tree, [next(rest) if yes else x for x, yes in zip(leaves, inexact)])

    failures = []
    for name, (square, condition, function) in DERIVATIVES.items():
        if (only and name not in only) or (square and not reference.square) or not condition(reference):
            continue

        def f(*values: Any, function: Callable[[Any], Any] = function) -> jax.Array:
            rest = iter(values)
            return _numbers(
                function(jax.tree.unflatten(tree, [next(rest) if i else x for x, i in zip(leaves, inexact)]))
            )

        try:
            moved = jax.jit(f)
            value, tangent = jax.jit(functools.partial(jax.jvp, f))(parameters, direction)
            if not value.size:
                continue
            if name == "lu" and not _same_pivots([operator(*p) for p in points]):
                continue
            far_left, left, right, far_right = found = [moved(*p) for p in points]
            if name in ORDERED and _jumps(value, found):
                continue
            want = np.asarray(8 * (right - left) - (far_right - far_left)) / (12 * STEP)
            size = float(np.linalg.norm(want)) + float(np.linalg.norm(value)) or 1.0
            error = float(np.linalg.norm(np.asarray(tangent) - want)) / size
            assert error < TOLERANCE, f"forward mode is off by {error:.2g}\n{tangent}\n{want}"
            weights = jnp.asarray(generator.standard_normal(value.shape))
            cotangents = jax.jit(lambda p, w, f=f: jax.vjp(f, *p)[1](w))(parameters, weights)
            # JAX's convention for complex cotangents: Re Σ g d, without a conjugate
            got = sum(float(jnp.real(jnp.sum(g * d))) for g, d in zip(cotangents, direction))
            expected = float(np.asarray(weights) @ np.asarray(tangent))
            assert abs(got - expected) < 1e-8 * (size * float(jnp.linalg.norm(weights))), f"reverse {got} ≠ {expected}"
        except Exception as error:
            failures.append(f"{name} of {A!r}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
