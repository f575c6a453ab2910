"""Orthogonal matrices as smooth functions of free parameters, so that any optimiser keeps them orthogonal.

`OrthogonalMatrix` is the module; the maps from raw parameters to Q are in the registry `parametrizations`. All start
from the same matrix: rotations by given angles in the planes of neighbouring coordinates.

Source: Lezcano-Casado and Martínez-Rubio, arXiv:1901.08428 (expm); Helfrich, Willmott and Ye, arXiv:1707.09520 (scaled
Cayley); Mhammedi et al., arXiv:1612.00188 (Householder products); Björck and Bowie, SIAM J. Numer. Anal. 8 (1971);
Lezcano-Casado, arXiv:1909.09501 (static and dynamic trivialisations).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from models.checks import positive

BJORCK_STEPS = 25  # brings singular values above σ₁/100 to 1 within rounding
TRIVIALIZATIONS = ("static", "dynamic")


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """A map from raw parameters onto orthogonal matrices.

    Attributes:
        start: (angles [planes], size n) -> raw parameters of the rotations by those angles.
        matrix: raw -> Q [n, n] of raw's dtype, differentiable. It is computed in at least single precision: half
            precision has no solver, and its products would leave Q orthogonal to a few rounding errors only.
        skew: whether raw [n, n] counts by its skew part S and 0 gives the identity: then it can be trivialised.

    Example:
        >>> expm = parametrizations["expm"]
        >>> Q = expm.matrix(expm.start(jnp.array([0.5]), 2))
        >>> bool(jnp.allclose(Q[0, 0], jnp.cos(0.5)))
        True
    """

    start: Callable[[jax.Array, int], jax.Array]
    matrix: Callable[[jax.Array], jax.Array]
    skew: bool = False

    def __post_init__(self):
        exact = self.matrix
        object.__setattr__(
            self, "matrix", lambda raw: exact(raw.astype(jnp.promote_types(raw.dtype, jnp.float32))).astype(raw.dtype)
        )


parametrizations: Registry[Parametrization] = Registry("parametrisation")
angles: Registry[Callable[[jax.Array, int], jax.Array]] = Registry("initial angles")

angles.register("henaff")(lambda key, count: jax.random.uniform(key, (count,), minval=-jnp.pi, maxval=jnp.pi))
angles.register("cayley")(lambda key, count: jax.random.uniform(key, (count,), maxval=jnp.pi / 2))
angles.register("identity")(lambda key, count: jnp.zeros((count,)))


def rotations(theta: jax.Array, n: int) -> jax.Array:
    """The matrix [n, n] that rotates the planes (0, 1), (2, 3), … by the angles θ [≤ n/2] and keeps the rest.

    Example:
        >>> print(jnp.round(rotations(jnp.array([jnp.pi / 4]), 3), 2))
        [[ 0.71 -0.71  0.  ]
         [ 0.71  0.71  0.  ]
         [ 0.    0.    1.  ]]
    """
    even = 2 * jnp.arange(len(theta))
    Q = jnp.eye(n).at[even, even].set(jnp.cos(theta)).at[even + 1, even + 1].set(jnp.cos(theta))
    return Q.at[even, even + 1].set(-jnp.sin(theta)).at[even + 1, even].set(jnp.sin(theta))


def skew(raw: jax.Array) -> jax.Array:
    """The skew-symmetric matrix with the strictly lower triangle of `raw` [n, n].

    Example:
        >>> print(skew(jnp.ones((2, 2))))
        [[ 0. -1.]
         [ 1.  0.]]
    """
    lower = jnp.tril(raw, -1)
    return lower - lower.T


def _below_diagonal(values: jax.Array, n: int) -> jax.Array:
    even = 2 * jnp.arange(len(values))
    return jnp.zeros((n, n)).at[even + 1, even].set(values)


def expm(raw: jax.Array) -> jax.Array:
    """Q = exp(S), S skew: all rotations. About 20 products of n × n matrices.

    Example:
        >>> print(expm(jnp.zeros((2, 2))))
        [[1. 0.]
         [0. 1.]]
    """
    return la.materialize(la.exp(la.Dense(skew(raw))))


def cayley(raw: jax.Array) -> jax.Array:
    """Q = (I − S)⁻¹(I + S), S skew: the rotations without eigenvalue −1. One solve.

    Example:
        >>> bool(jnp.allclose(cayley(jnp.ones((2, 2))), jnp.array([[0.0, -1.0], [1.0, 0.0]]), atol=1e-6))
        True
    """
    S, eye = skew(raw), jnp.eye(len(raw), dtype=raw.dtype)
    return jnp.linalg.solve(eye - S, eye + S)


def householder(raw: jax.Array) -> jax.Array:
    """Q = H₁ ⋯ H_k for the columns of raw [n, k], k even, by the compact WY form; k ≥ n − 1 gives all rotations.

    Example:
        >>> bool(jnp.allclose(householder(jnp.eye(2)), -jnp.eye(2)))  # two reflections
        True
    """
    return la.materialize(la.HouseholderProduct(raw))


def _reflectors(theta: jax.Array, n: int) -> jax.Array:
    """Rotation by θ in a plane = the product of two reflections whose normals are θ/2 apart."""
    plane = jnp.arange(len(theta))
    V = jnp.zeros((n, 2 * len(theta))).at[2 * plane, 2 * plane + 1].set(1.0)
    return V.at[2 * plane, 2 * plane].set(jnp.cos(theta / 2)).at[2 * plane + 1, 2 * plane].set(jnp.sin(theta / 2))


def bjorck(raw: jax.Array) -> jax.Array:
    """The polar factor of raw [n, n] by 25 steps X ← X(3I − XᵀX)/2 from X = raw/√(‖raw‖₁‖raw‖_∞).

    Orthogonal to rounding for condition numbers up to 100, beyond that not; `polar` has no such bound.

    Example:
        >>> print(jnp.round(bjorck(jnp.array([[3.0, 0.0], [0.0, -0.5]])), 4))
        [[ 1.  0.]
         [ 0. -1.]]
    """
    bound = jnp.sqrt(jnp.linalg.norm(raw, 1) * jnp.linalg.norm(raw, jnp.inf))  # ≥ σ₁, so no step overshoots
    X = raw / jax.lax.stop_gradient(jnp.maximum(bound, jnp.finfo(raw.dtype).tiny))
    return jax.lax.fori_loop(0, BJORCK_STEPS, lambda _, X: 1.5 * X - 0.5 * X @ (X.T @ X), X)


def polar(raw: jax.Array) -> jax.Array:
    """The polar factor U Vᵀ of raw [n, n]: the orthogonal matrix nearest to it. One SVD.

    Example:
        >>> print(jnp.abs(jnp.round(polar(jnp.array([[3.0, 0.0], [0.0, 0.5]])))))
        [[1. 0.]
         [0. 1.]]
    """
    return la.polar(la.Dense(raw)).U


parametrizations.register("expm")(Parametrization(_below_diagonal, expm, skew=True))
parametrizations.register("cayley")(
    Parametrization(lambda theta, n: _below_diagonal(jnp.tan(theta / 2), n), cayley, skew=True)
)
parametrizations.register("householder")(Parametrization(_reflectors, householder))
parametrizations.register("bjorck")(Parametrization(rotations, bjorck))
parametrizations.register("polar")(Parametrization(rotations, polar))


class Anchor(nnx.Variable):
    """What a dynamic trivialisation carries from step to step; no parameter."""


class OrthogonalMatrix(nnx.Module):
    """An orthogonal matrix Q [n, n] as a function of the parameter `raw`; calling it computes Q.

    With "dynamic" trivialisation Q = B φ(raw − A): in training every `rebase_every`-th call moves the base B to the
    present Q and the anchor A to raw, so that φ is only used near the identity, where it distorts distances least, and
    raw with its optimiser's state stays as it is. B is orthogonalised by a Newton–Schulz step each time, so that
    rounding does not pile up.

    Args:
        size: n ≥ 1.
        parametrization: "expm", "cayley", "householder", "bjorck" or "polar".
        trivialization: "static" or "dynamic"; the latter for expm and cayley.
        rebase_every: calls in training between two moves of the base, ≥ 1.
        init: angles of the initial rotations: "henaff" (uniform on the circle), "cayley" (uniform on [0, π/2]),
            "identity".
        reflections: number of Householder vectors k, even, 2 ≤ k ≤ n; all n (n − 1 for odd n) unless given.
        negative: how many columns "cayley" multiplies by −1 (scaled Cayley: every rotation or reflection is reached
            for some choice); n // 2 unless given.
        param_dtype: of `raw`, and of Q.
        rngs: source of the angles.

    Raises:
        UnknownNameError: for an unknown parametrisation, trivialisation or init.
        DimensionMismatch: for sizes < 1, or an odd or too large number of reflections.
        LinearAlgebraError: for a dynamic trivialisation of a map that has none.

    Cost: O(n³), once a call.

    Example:
        >>> Q = OrthogonalMatrix(6, rngs=nnx.Rngs(0))
        >>> bool(la.isorthogonal(Q()))
        True
    """

    def __init__(
        self,
        size: int,
        *,
        parametrization: str = "expm",
        trivialization: str = "static",
        rebase_every: int = 100,
        init: str = "henaff",
        reflections: int | None = None,
        negative: int | None = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        n = self.size = positive("size", size)
        self.parametrization = parametrization
        chosen = parametrizations[parametrization]
        if trivialization not in TRIVIALIZATIONS:
            raise UnknownNameError.of("trivialisation", trivialization, TRIVIALIZATIONS)
        if trivialization == "dynamic" and not chosen.skew:
            raise LinearAlgebraError(
                f"{parametrization} has no dynamic trivialisation; use expm or cayley, or trivialization='static'"
            )
        planes = n // 2
        if parametrization == "householder":
            count = 2 * planes if reflections is None else positive("reflections", reflections)
            if count % 2 or count > n:
                raise DimensionMismatch(
                    f"reflections must be an even number between 2 and {n} (an odd one makes det Q = −1), got {count}"
                )
            planes = count // 2
        flipped = (n // 2 if parametrization == "cayley" else 0) if negative is None else negative
        self.flipped = positive("negative", flipped, minimum=0)
        if self.flipped > n:
            raise DimensionMismatch(f"negative must be at most the size {n}, got {self.flipped}")
        self.rebase_every = positive("rebase_every", rebase_every)
        self.deterministic = False
        raw = chosen.start(angles[init](rngs.params(), planes), n).astype(param_dtype)
        self.base: Any = nnx.data(None)
        self.anchor: Any = nnx.data(None)
        self.calls: Any = nnx.data(None)
        if trivialization == "dynamic":
            self.base, self.anchor = Anchor(self._signs(chosen.matrix(raw))), Anchor(jnp.zeros_like(raw))
            self.calls = Anchor(jnp.zeros((), jnp.int32))
            raw = jnp.zeros_like(raw)
        self.raw = nnx.Param(raw)

    def _signs(self, Q: jax.Array) -> jax.Array:
        return Q * jnp.where(jnp.arange(self.size) < self.flipped, -1.0, 1.0).astype(Q.dtype) if self.flipped else Q

    def __call__(self) -> jax.Array:
        matrix, raw = parametrizations[self.parametrization].matrix, self.raw[...]
        if self.base is None:
            return self._signs(matrix(raw))
        base, anchor = jax.lax.stop_gradient((self.base[...], self.anchor[...]))
        if not self.deterministic:
            calls = self.calls[...]
            base, anchor = jax.lax.cond(
                (calls > 0) & (calls % self.rebase_every == 0), _rebased(matrix), lambda *same: same[:2], base, anchor,
                jax.lax.stop_gradient(raw),
            )  # fmt: skip
            self.base[...], self.anchor[...], self.calls[...] = base, anchor, calls + 1
        return base @ matrix(raw - anchor)

    def operator(self, input_shape: Any = None) -> la.LinearOperator:
        """Q as an operator: of its reflectors for a Householder product, else dense.

        Returns:
            An n × n operator.

        Example:
            >>> OrthogonalMatrix(4, parametrization="householder", rngs=nnx.Rngs(0)).operator()
            4×4 HouseholderProduct{float32} of 4 reflectors
        """
        if self.parametrization == "householder" and not self.flipped:
            return la.HouseholderProduct(self.raw[...])
        return la.Dense(self())


def _rebased(matrix: Callable[[jax.Array], jax.Array]) -> Callable:
    def move(base: jax.Array, anchor: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        Q = base @ matrix(raw - anchor)
        return 1.5 * Q - 0.5 * Q @ (Q.T @ Q), raw

    return move
