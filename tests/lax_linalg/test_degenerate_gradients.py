"""Derivatives where values repeat or vanish: a valid subgradient, or an error that says what does not exist; never NaN
unannounced.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la

IDENTITY, ZERO, ONES = np.eye(3), np.zeros((3, 3)), np.ones((3, 3))
REPEATED = np.diag([2.0, 2.0, 0.0])
CYCLE = np.eye(3)[[1, 2, 0]]
JORDAN = np.eye(3, k=1) + 2 * np.eye(3)
POINTS = {"identity": IDENTITY, "zero": ZERO, "repeated": REPEATED, "ones": ONES, "cycle": CYCLE}
CONVEX = {
    # convex functions of a matrix: a subgradient G at A has f(B) ≥ f(A) + ⟨G, B − A⟩ for every B
    "norm": la.norm,
    "norm 1": lambda a: la.norm(a, 1),
    "norm 3": lambda a: la.norm(a, 3.0),
    "norm inf": lambda a: la.norm(a, jnp.inf),
    "opnorm": la.opnorm,
    "opnorm 1": lambda a: la.opnorm(a, 1),
    "opnorm inf": lambda a: la.opnorm(a, jnp.inf),
    "nuclear norm": lambda a: jnp.sum(la.svdvals(a)),
    "nuclear norm by svd": lambda a: jnp.sum(la.svd(a).S),
    "Ky Fan norm": lambda a: jnp.sum(la.svdvals(a)[:2]),
    "largest eigenvalue": lambda a: la.eigvals(la.Symmetric(a))[-1],
    "opnorm by symmetry": lambda a: la.opnorm(la.Symmetric(a)),
}


@pytest.mark.parametrize("name", CONVEX)
def test_convex_functions_have_subgradients_everywhere(name, x64):
    f = CONVEX[name]
    others = [np.random.default_rng(k).standard_normal((3, 3)) * 10.0**-k for k in range(3)]
    value = jax.jit(f)
    gradient = jax.jit(jax.grad(f))
    for point, a in POINTS.items():
        g = np.asarray(gradient(a))
        for b in (*others, *POINTS.values()):
            for step in (b, a + b, a - b):
                slack = float(value(step)) - float(value(a)) - np.sum(g * (step - a))
                assert slack >= -1e-12 * (1 + abs(float(value(step)))), (point, slack)


STRUCTURES = {
    "diagonal": la.Diagonal,
    "circulant": la.Circulant,
    "toeplitz": la.Toeplitz,
    "bidiagonal": lambda d: la.Bidiagonal(d, 0 * d[1:]),
    "symtridiagonal": lambda d: la.SymTridiagonal(d, 0 * d[1:]),
    "low rank": lambda d: la.LowRank(d[:, None], jnp.ones((3, 1))),
    "kronecker": lambda d: la.Kronecker(la.Diagonal(d), jnp.eye(2)),
    "block diagonal": lambda d: la.BlockDiagonal((jnp.diag(d), jnp.eye(2))),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n.endswith("diagonal") else ()) for n in STRUCTURES]
)
def test_structured_norms_have_subgradients_everywhere(name, x64):

    def norms(d):
        A = STRUCTURES[name](d)
        return jnp.stack([la.norm(A), la.opnorm(A), jnp.sum(la.svdvals(A)), jnp.sum(la.svd(A).S)])

    value, gradient = jax.jit(norms), jax.jit(jax.jacrev(norms))
    for d in (np.zeros(3), np.ones(3), np.array([1.0, 0.0, 0.0])):
        at, g = np.asarray(value(d)), np.asarray(gradient(d))
        for k in range(3):
            e = d + np.random.default_rng(k).standard_normal(3)
            beyond = np.asarray(value(e))
            assert (beyond >= at + g @ (e - d) - 1e-12 * (1 + beyond)).all()


REFUSED = {
    "polar at a singular matrix": (lambda a: la.polar(a).U, REPEATED, "not of full rank"),
    "logabsdet at a singular matrix": (lambda a: la.logabsdet(a).logabs, ZERO, "la.det has"),
    "logabsdet of a diagonal": (lambda a: la.logabsdet(la.Diagonal(a[0])).logabs, ZERO, "la.det has"),
    "eigvals at a defective matrix": (la.eigvals, JORDAN, "defective"),
    "schur at repeated eigenvalues": (lambda a: la.schur(a).T, IDENTITY, "repeat"),
    "sqrt at a singular matrix": (lambda a: la.materialize(la.sqrt(a)), ONES, "singular"),
    "sqrt of a semidefinite matrix": (lambda a: la.materialize(la.sqrt(la.Symmetric(a))), REPEATED, "singular"),
    "qr of dependent columns": (lambda a: la.qr(a).R, ONES, "dependent"),
    "lu of dependent columns": (lambda a: la.lu(a).U, ONES, "dependent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_derivative_that_does_not_exist_is_refused(name, x64):
    f, a, message = REFUSED[name]
    real = lambda a: jnp.sum(jnp.real(f(a)))  # noqa: E731
    real(a)  # the value itself exists
    with pytest.raises(la.NotDifferentiableError, match=message):
        jax.grad(real)(a)
    with pytest.raises(la.NotDifferentiableError, match=message):
        jax.jvp(real, (a,), (ONES,))


@pytest.mark.parametrize("verb", ["solve", "inv", "log", "cholesky"])
def test_errors_are_raised_while_differentiating_too(verb, x64):
    def f(a):
        result = la.solve(a, jnp.ones(3)) if verb == "solve" else getattr(la, verb)(a)
        return jnp.sum(jnp.real(la.materialize(result) if isinstance(result, la.LinearOperator) else result[0]))

    error = la.NotPositiveDefiniteError if verb == "cholesky" else la.SingularError
    with pytest.raises(error) as alone:
        f(REPEATED)
    with pytest.raises(error) as differentiated:
        jax.grad(f)(REPEATED)
    assert str(alone.value) == str(differentiated.value)
    assert alone.value.index == differentiated.value.index


DEPENDENT_LAST = np.array([[2.0, 1.0, 3.0], [1.0, 3.0, 4.0], [0.0, 1.0, 1.0]])


def _entry(f):
    weights = np.arange(9.0).reshape(3, 3) - 3
    return lambda a: jnp.sum(weights * jnp.real(la.materialize(f(a))))


SMOOTH = {
    "det": (la.det, REPEATED),
    "sum of eigenvalues": (lambda a: jnp.sum(la.eigvals(a)).real, IDENTITY),
    "polar": (_entry(lambda a: la.polar(a).U), CYCLE),
    "pinv": (_entry(la.pinv), IDENTITY),
    "sqrt by symmetry": (_entry(lambda a: la.sqrt(la.Symmetric(a))), IDENTITY),
    "sqrt": (_entry(la.sqrt), IDENTITY),
    "exp": (_entry(la.exp), ZERO),
    "log": (_entry(la.log), IDENTITY),
    "log by symmetry": (_entry(lambda a: la.log(la.Symmetric(a))), IDENTITY),
    "lu": (_entry(lambda a: la.lu(a).L - la.lu(a).U), DEPENDENT_LAST),
    "lu of a wide matrix": (lambda a: jnp.sum(la.lu(jnp.hstack([a, a])).U[:, 2:]), DEPENDENT_LAST),
    "qr": (_entry(lambda a: la.qr(a).Q - la.qr(a).R), DEPENDENT_LAST),
    "qr of a row": (lambda a: jnp.sum(la.qr(a[:1]).R), ZERO),
}
SLOW = ("exp", "log", "log by symmetry", "sqrt")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in SMOOTH])
def test_derivatives_exist_where_values_repeat_but_the_function_is_smooth(name, x64):
    f, a = SMOOTH[name]
    f, h, d = jax.jit(f), 1e-4, np.random.default_rng(1).standard_normal((3, 3))
    slope = (8 * (f(a + h * d) - f(a - h * d)) - f(a + 2 * h * d) + f(a - 2 * h * d)) / (12 * h)
    np.testing.assert_allclose(np.sum(jax.grad(f)(a) * d), slope, rtol=1e-8, atol=1e-8)


COMPOSITES = {
    # name -> an operator of vectors x and y [3] with the determinant ∏ x_i, times as many powers of the y_i
    "product": lambda x, y: la.Product((la.Diagonal(x), la.Diagonal(y))),
    "kronecker": lambda x, y: la.Kronecker(la.Diagonal(x), la.Diagonal(y)),
    "blocks": lambda x, y: la.BlockDiagonal((la.Diagonal(x), la.Diagonal(y))),
    "multiple": lambda x, y: la.Scaled(y[0], la.Product((la.Diagonal(x), la.Permutation(np.array([1, 2, 0]))))),
}


def test_determinants_of_composites_leave_the_range_of_floats_only_where_their_value_does(x64):
    """And at a singular matrix their gradients are the cofactors, in a batch with regular ones, too."""

    def f(x, y):  # each of the composites has an x of its own, so that one gradient is that of all
        values = [la.det(make(own, y)) for make, own in zip(COMPOSITES.values(), x)]
        return sum(values), jnp.stack(values)

    huge, tiny, zero = np.full(3, 1e200), np.full(3, 1e-200), np.array([0.0, 1.0, 1.0])
    batch = np.stack([huge, zero, np.r_[0.0, 1e200, 1e200]]), np.stack([tiny, np.ones(3), huge])
    program = jax.jit(jax.vmap(jax.value_and_grad(f, has_aux=True)))
    (_, values), gradients = program(np.stack([batch[0]] * len(COMPOSITES), 1), batch[1])
    np.testing.assert_allclose(values, [np.ones(4), np.zeros(4), np.zeros(4)], rtol=1e-11)
    times = np.array([1, 3, 1, 1])[:, None]  # how often x_0 is a factor
    np.testing.assert_allclose(gradients[0], times * np.full(3, 1e-200), rtol=1e-11)
    np.testing.assert_allclose(gradients[1], (times == 1) * np.array([1.0, 0.0, 0.0]), atol=1e-14)
    product = lambda x: la.det(COMPOSITES["product"](x, tiny))  # noqa: E731  # where values are known
    np.testing.assert_allclose(jax.grad(product)(huge), 1e-200, rtol=1e-11)


def test_the_determinant_of_diagonal_plus_low_rank_has_cofactors_where_the_diagonal_vanishes(x64):
    u = np.array([[1.0], [2.0], [-1.0], [0.5]])
    structured = lambda d: la.det(la.Diagonal(d) + la.LowRank(u, u))  # noqa: E731
    plain = lambda d: la.det(jnp.diag(d) + u @ u.T)  # noqa: E731
    diagonals = np.array([[1.0, 2, 3, 4], [0, 2, 3, 4], [0, 0, 3, 4], [0, 0, 0, 4], [0, 0, 0, 0], [-1.0, 0.5, 2, 1]])
    diagonals[5, 0] = -1 / (1 + u[1, 0] ** 2 / 0.5 + 0.5 + 0.25)  # singular without a zero
    want, got = map(np.asarray, jax.jit(jax.vmap(lambda d: (jax.grad(plain)(d), jax.grad(structured)(d))))(diagonals))
    np.testing.assert_allclose(got, want, atol=1e-11)
    assert abs(structured(diagonals[5])) < 1e-13
    np.testing.assert_allclose(jax.grad(structured)(diagonals[2]), want[2], atol=1e-12)


def test_the_derivative_of_a_determinant_is_its_cofactors_wherever_the_zero_pivot_is(x64):
    a = np.random.default_rng(0).standard_normal((4, 4))
    matrices = np.stack([a] * 5)
    matrices[1][:, 0], matrices[2][:, 2], matrices[3], matrices[4] = 0, 0, np.eye(4, k=1), 0
    for matrix, got in zip(matrices, jax.jit(jax.vmap(jax.grad(la.det)))(matrices)):
        for i, j in np.ndindex(4, 4):
            minor = np.delete(np.delete(matrix, i, 0), j, 1)
            np.testing.assert_allclose(got[i, j], (-1) ** (i + j) * np.linalg.det(minor), atol=1e-13)
