"""Steps that keep matrices orthogonal, as Optax transformations: Riemannian gradient descent and the landing flow.

A kernel [..., m', n] is the matrix W [m, n] with its leading axes flattened; a wide one counts as its transpose, so
that WᵀW = I throughout: W lies on the Stiefel manifold. Of more than four axes, those in front of the last four index
kernels: the layers of a stack, the positions of a locally connected layer. Both steps need the parameters in `update`
and give updates W₊ − W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Factor = Callable[[str], float]


class RiemannianState(NamedTuple):
    """Updates done, and the velocity of each matrix in its tangent space."""

    count: jax.Array
    velocity: Any


class LandingState(NamedTuple):
    """Updates done."""

    count: jax.Array


def riemannian(
    learning_rate: optax.Schedule, momentum: float = 0.0, factor: Factor = lambda name: 1.0
) -> optax.GradientTransformation:
    """Riemannian gradient descent: W₊ = qf(W − η V) with V ← βV + P_W(G) and P_W(G) = G − W sym(WᵀG).

    qf is the Q of the QR factorisation with positive diagonal of R, so W₊ is orthonormal to rounding whatever W was: a
    matrix that starts off the manifold is on it after one step. The velocity is brought along by the projection onto
    the tangent space at W.

    Args:
        learning_rate: schedule of η.
        momentum: β in [0, 1).
        factor: parameter path -> factor on η.

    Returns:
        An Optax transformation whose update needs the parameters.

    Cost: O(mn²) a matrix and step, with the constant of one QR factorisation.

    Example:
        >>> step = riemannian(optax.constant_schedule(0.1))
        >>> W = jnp.eye(3, 2)
        >>> update, _ = step.update(jnp.ones((3, 2)), step.init(W), W)
        >>> Q = W + update
        >>> bool(jnp.allclose(Q.T @ Q, jnp.eye(2), atol=1e-6))
        True

    Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), section 4.1 and
    examples 3.6.2 and 4.1.3.
    """

    def init(params: Any) -> RiemannianState:
        return RiemannianState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params) if momentum else ())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, RiemannianState]:
        rate = learning_rate(state.count)

        def velocity(G: jax.Array, W: jax.Array, V: jax.Array | None) -> jax.Array:
            X, back = tall(W)
            moved = tall(G)[0] if V is None else momentum * tall(V)[0] + tall(G)[0]
            return back(tangent(X, moved))

        def step(path: Any, W: jax.Array, V: jax.Array) -> jax.Array:
            eta = rate * factor(jax.tree_util.keystr(path, simple=True, separator="/"))

            def one(W: jax.Array, V: jax.Array) -> jax.Array:
                X, back = tall(W)
                return back(orthonormalise(X - eta * tall(V)[0]) - X)

            return each_kernel(one, W, V)

        if momentum:
            V = jax.tree.map(lambda *leaves: each_kernel(velocity, *leaves), updates, params, state.velocity)
        else:
            V = jax.tree.map(lambda G, W: each_kernel(lambda g, w: velocity(g, w, None), G, W), updates, params)
        return (
            jax.tree_util.tree_map_with_path(step, params, V),
            RiemannianState(state.count + 1, V if momentum else ()),
        )

    return optax.GradientTransformation(init, update)


def landing(
    learning_rate: optax.Schedule,
    attraction: float = 1.0,
    radius: float = 0.5,
    factor: Factor = lambda name: 1.0,
) -> optax.GradientTransformation:
    """The landing flow: W₊ = W − η Λ, Λ = ½(GWᵀ − WGᵀ)W + λ W(WᵀW − I), without any factorisation.

    The first term turns W along the gradient, the second, orthogonal to it, pulls W to the manifold. With S = WᵀW and
    d = ‖S − I‖_F the new distance is at most d − 2ηλ d(1 − d) + η²‖Λ‖_F² while ηλ ≤ 1/(2(1 + d)); η is lowered where
    needed so that this bound stays below `radius`. A matrix that is further away to begin with is first put on the
    manifold by its QR factorisation.

    Args:
        learning_rate: schedule of η.
        attraction: λ > 0.
        radius: how far from the manifold the iterates may be, ‖WᵀW − I‖_F ≤ radius < 1.
        factor: parameter path -> factor on η.

    Returns:
        An Optax transformation whose update needs the parameters.

    Cost: 8 mn² FLOPs a matrix and step.

    Example:
        >>> step = landing(optax.constant_schedule(100.0))
        >>> W = jnp.eye(3, 2)
        >>> update, _ = step.update(jnp.ones((3, 2)), step.init(W), W)
        >>> Q = W + update
        >>> bool(jnp.linalg.norm(Q.T @ Q - jnp.eye(2)) <= 0.5)
        True

    Source: Ablin and Peyré, arXiv:2102.07432; safe step for the Stiefel manifold: Ablin, Vary, Gao and Absil,
    arXiv:2303.16510.
    """

    def init(params: Any) -> LandingState:
        return LandingState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, LandingState]:
        rate = learning_rate(state.count)

        def step(path: Any, G: jax.Array, W: jax.Array) -> jax.Array:
            wanted = rate * factor(jax.tree_util.keystr(path, simple=True, separator="/"))

            def one(G: jax.Array, W: jax.Array) -> jax.Array:
                (X, back), (D, _) = tall(W), tall(G)
                S = X.T @ X
                off = S - jnp.eye(len(S), dtype=S.dtype)
                d = jnp.linalg.norm(off)
                field = 0.5 * (D @ S - X @ (D.T @ X)) + attraction * (X @ off)
                g2 = jnp.maximum(jnp.sum(jnp.square(field)), jnp.finfo(X.dtype).tiny)
                pull = attraction * d * (1 - d)
                safe = (pull + jnp.sqrt(jnp.maximum(pull**2 + g2 * (radius - d), 0))) / g2
                eta = jnp.minimum(jnp.minimum(wanted, safe), 1 / (2 * attraction * (1 + d)))
                return back(jax.lax.cond(d > radius, lambda: orthonormalise(X) - X, lambda: -eta * field))

            return each_kernel(one, G, W)

        return jax.tree_util.tree_map_with_path(step, updates, params), LandingState(state.count + 1)

    return optax.GradientTransformation(init, update)


def each_kernel(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """A function of kernels of at most four axes, for every kernel of arrays with more.

    Example:
        >>> float(each_kernel(lambda kernel: kernel / jnp.sum(kernel), jnp.ones((5, 2, 2, 1, 1)))[0, 0, 0, 0, 0])
        0.25
    """
    shape = arrays[0].shape
    if len(shape) <= 4:
        return function(*arrays)
    return jax.vmap(function)(*(array.reshape(-1, *shape[-4:]) for array in arrays)).reshape(shape)


def tall(kernel: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """A kernel as a matrix with at least as many rows as columns, in single precision or better, and the way back.

    Example:
        >>> matrix, back = tall(jnp.ones((2, 6)))
        >>> matrix.shape, back(matrix).shape
        ((6, 2), (2, 6))
    """
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.promote_types(kernel.dtype, jnp.float32))
    wide = matrix.shape[0] < matrix.shape[1]

    def back(result: jax.Array) -> jax.Array:
        return (result.T if wide else result).reshape(kernel.shape).astype(kernel.dtype)

    return matrix.T if wide else matrix, back


def tangent(X: jax.Array, G: jax.Array) -> jax.Array:
    """The projection of G onto the tangent space at X, G − X sym(XᵀG).

    Example:
        >>> X = jnp.eye(3, 2)
        >>> V = tangent(X, jnp.arange(6.0).reshape(3, 2))
        >>> float(jnp.abs(X.T @ V + V.T @ X).max())
        0.0
    """
    K = X.T @ G
    return G - X @ (K + K.T) / 2


def orthonormalise(X: jax.Array) -> jax.Array:
    """The Q of the QR factorisation of a tall matrix, with positive diagonal of R.

    Example:
        >>> print(jnp.diagonal(orthonormalise(jnp.diag(jnp.array([2.0, -3.0])))))
        [ 1. -1.]
    """
    Q, R = jnp.linalg.qr(X)
    diagonal = jnp.diagonal(R)
    return Q * jnp.where(diagonal < 0, -1, 1).astype(Q.dtype)
