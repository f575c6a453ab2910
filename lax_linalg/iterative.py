"""Linear systems and least squares by iteration, for operators too large for a factorisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import of_finite, require_square
from lax_linalg.core.operator import Entries, LinearOperator, MatrixLike, as_operator
from lax_linalg.dense.scaling import over_unit, unit_of
from lax_linalg.errors import DimensionMismatch
from lax_linalg.integrations.lineax import to_lineax
from lax_linalg.verbs.arithmetic import scale
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.norms import scaled_norm


class IterativeSolution(NamedTuple):
    """An approximate solution x [n] or [n, k], its relative residual ‖b − A x‖ / ‖b‖ and the number of steps.

    `residual` and `steps` are scalars, [k] for k right-hand sides; the residual is that of x, computed at the end.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.cg(la.I(2), jnp.ones(2)).x.shape
        (2,)
    """

    x: jax.Array
    residual: jax.Array
    steps: jax.Array


def cg(A: MatrixLike, b: Entries, *, rtol: float = 1e-5, max_steps: int | None = None) -> IterativeSolution:
    """Solve A x ≈ b for a Hermitian positive definite A by conjugate gradients.

    Args:
        A: operator or array [n, n].
        b: right-hand side [n] or [n, k].
        rtol: iterates until ‖b − A x‖ ≤ rtol ‖b‖ by the recurrence.
        max_steps: at most so many steps, each of one product; 10 n unless given.

    Returns:
        `IterativeSolution(x, residual, steps)`. Nothing is raised where the tolerance is not reached: read `residual`.

    Raises:
        DimensionMismatch: where shapes do not fit.
        NonFiniteError: on NaN or infinity; NaN under ``jit``.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.cg(la.SymTridiagonal(4.0 * jnp.ones(100), jnp.ones(99)), jnp.ones(100)).residual < 1e-5
        Array(True, dtype=bool)

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 11.3; the implementation is lineax's.
    """
    return _iterate("CG", A, b, rtol, max_steps)


def gmres(
    A: MatrixLike, b: Entries, *, rtol: float = 1e-5, max_steps: int | None = None, restart: int = 20
) -> IterativeSolution:
    """Solve A x ≈ b for a square A by restarted GMRES.

    Args:
        restart: dimension of the Krylov space, of which a basis is kept.
        A, b, rtol, max_steps: as in `cg`.

    Returns, raises: as `cg`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.gmres(la.Tridiagonal(jnp.ones(99), 4.0 * jnp.ones(100), -jnp.ones(99)), jnp.ones(100)).residual < 1e-4
        Array(True, dtype=bool)

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 11.4.2; the implementation is lineax's.
    """
    return _iterate("GMRES", A, b, rtol, max_steps, restart=restart)


def lsmr(A: MatrixLike, b: Entries, *, rtol: float = 1e-5, max_steps: int | None = None) -> IterativeSolution:
    """Least squares min ‖b − A x‖ for any A by LSMR, the solution of least norm where there are many.

    Args:
        A: operator or array [m, n]; a step is a product with A and one with Aᴴ.
        b, rtol, max_steps: as in `cg`.

    Returns, raises: as `cg`. The residual of a system that has no solution stays above the tolerance.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(la.lsmr(jnp.ones((3, 1)), jnp.array([1.0, 2.0, 3.0])).x.round(3))
        [2.]

    Source: Fong & Saunders, LSMR, SIAM J. Sci. Comput. 33 (2011); the implementation is lineax's.
    """
    return _iterate("LSMR", A, b, rtol, max_steps)


def _iterate(
    method: str, A: MatrixLike, b: Entries, rtol: float, max_steps: int | None, **options: Any
) -> IterativeSolution:
    A, right = as_operator(A), jnp.asarray(b)
    if method != "LSMR":
        require_square(A, method.lower())
    if right.ndim not in (1, 2) or right.shape[0] != A.shape[0]:
        m, n = A.shape
        raise DimensionMismatch(
            f"a {m}×{n} system takes a right-hand side [{m}] or [{m}, k], got shape {list(right.shape)}"
        )
    right = right.astype(compute_dtype(jnp.result_type(A.dtype, right.dtype)))
    steps = 10 * max(A.shape) if max_steps is None else max_steps

    def solved(A: LinearOperator, right: jax.Array) -> IterativeSolution:
        import lineax

        kind = lineax.positive_semidefinite_tag if method == "CG" else ()
        solver = getattr(lineax, method)(rtol, 0.0, max_steps=steps, **options)

        def column(b: jax.Array) -> IterativeSolution:
            # inner products of vectors near 1 stay in range
            unit_b = unit_of(b)
            near = over_unit(b, unit_b)
            unit = unit_of(A.H @ near)
            system = to_lineax(scale(A, 1 / unit), kind)
            solution = lineax.linear_solve(system, near, solver, throw=False)
            residual = scaled_norm(near - over_unit(A @ solution.value, unit)) / scaled_norm(near)
            x = over_unit(solution.value, unit) * unit_b
            return IterativeSolution(x, jnp.where(jnp.any(b != 0), residual, 0), solution.stats["num_steps"])

        return column(right) if right.ndim == 1 else jax.vmap(column, 1, IterativeSolution(1, 0, 0))(right)  # type: ignore[arg-type]

    return of_finite(method.lower(), (A, right), solved)
