"""NaN and infinity where a transformation hides them: NaN, False or a count of −1, and the other members stay right.

One program for a structure evaluates verbs over a batch: a finite member, which the oracle of the verbs checks, and for
each parameter a member with a NaN and one with an infinity in one of its numbers.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structure_cases import CASES, make
from verb_oracle import Reference, check_verbs

import lax_linalg as la


def without_options(names: str) -> dict[str, list[tuple]]:
    return {name: [()] for name in names.split()}


ANY_SHAPE = {
    **without_options("svdvals svd rank qr lu polar pinv diag stable_rank effective_rank opnorm_bound"),
    **without_options("issymmetric ishermitian isnormal isposdef isunitary isorthogonal istriu istril isdiag"),
    "norm": [(1,), (2,), (3.0,), (np.inf,)],
    "opnorm": [(1,), (2,), (np.inf,)],
}
SQUARE = {
    **without_options("tr eigvals eigen schur cholesky det logabsdet logdet inv exp log sqrt henrici spectral_radius"),
    **without_options("eigenvalue_condition_numbers eigenvector_condition_number"),
    "power": [(3,), (0,), (-2,), (0.3,)],
    "power_norms": [(2,)],
    "numerical_range": [(3,)],
}
UNKNOWN = {"stable_rank", "effective_rank", "spectral_radius", "henrici"}
"""Verbs that the oracle does not know; of the finite member they are what they are alone."""
NATURAL = {"diag", "tr"}
"""Verbs that take any numbers: what is not finite goes where it belongs."""


def calls(A: la.LinearOperator, rank: int) -> list[tuple[str, tuple]]:
    """Every verb with the arguments that the oracle of the verbs gives it, and some that it does not know."""
    m, n = A.shape
    b = np.cos(np.arange(2.0 * m)).reshape(m, 2)
    chosen = {**ANY_SHAPE, **(SQUARE if m == n else {})}
    chosen["cond"] = [(), (1,)] if m == n else [()]
    chosen |= {"solve": [(b,), (b[:, 0],)], "lstsq": [(b,)], "nullspace": [(("dimension", n - rank),)]}
    return [(name, args) for name, several in chosen.items() for args in several]


def call(name: str, A: Any, args: tuple) -> Any:
    options = dict(x for x in args if isinstance(x, tuple))
    return getattr(la, name)(A, *(x for x in args if not isinstance(x, tuple)), **options)


def key(name: str, args: tuple) -> str:
    return f"{name} {[x if isinstance(x, tuple) else np.shape(x) or float(x) for x in args]}"


class Found:
    """The verbs as a namespace of results that are there already."""

    def __init__(self, results: dict[str, Any]):
        self.results = results

    def __getattr__(self, name: str) -> Any:
        return lambda _, *args, **options: self.results[key(name, (*args, *options.items()))]


def poisoned(A: la.LinearOperator, seed: int = 0) -> list[la.LinearOperator]:
    """For each parameter A with a NaN and with an infinity at a place on which the matrix depends."""
    leaves, structure = jax.tree.flatten(A)
    a, members = np.asarray(la.materialize(A)), []

    def replaced(i: int, place: int, value: Any) -> la.LinearOperator:
        leaf = np.array(leaves[i])
        leaf.flat[place] = value
        return jax.tree.unflatten(structure, [*leaves[:i], jnp.asarray(leaf), *leaves[i + 1 :]])

    for i, leaf in enumerate(leaves):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        for place in np.random.default_rng(seed).permutation(leaf.size):
            if not np.array_equal(np.asarray(la.materialize(replaced(i, place, 7.25))), a):
                members += [replaced(i, place, value) for value in (np.nan, np.inf)]
                break
    return members


def is_defined(result: Any) -> bool:
    """Whether anything of a result says more than NaN, False or −1."""

    def says(x: Any) -> bool:
        x = np.asarray(x)
        if x.dtype == bool:
            return bool(x.any())
        if jnp.issubdtype(x.dtype, jnp.inexact):
            return not bool(np.isnan(x).all())
        return x.ndim == 0 and not isinstance(result, la.LinearOperator) and x != -1

    if isinstance(result, la.NumericalRange):
        result = result[1:]  # behind the angles
    return any(says(x) for x in jax.tree.leaves(result))


def wrong_answers(every: Any, members: list[Any], transformation: str = "vmap") -> tuple[list[str], dict[str, Any]]:
    """What says more than it can of the members after the first, and the results of the first."""
    if transformation == "vmap":
        together = jax.jit(jax.vmap(every))(jax.tree.map(lambda *x: jnp.stack(x), *members))
        results = [jax.tree.map(lambda x, b=b: x[b], together) for b in range(len(members))]
    else:
        results = list(map(jax.jit(every), members))
    wrong = [
        f"{name} of member {b}: {result}"
        for b, found in enumerate(results[1:])
        for name, result in found.items()
        if name.split()[0] not in NATURAL and is_defined(result)
    ]
    return wrong, results[0]


SHORT = ("dense", "lower bidiagonal")
"""The structures of the short run."""
RUNS = [pytest.param(name, "vmap", marks=() if name in SHORT else pytest.mark.slow) for name in CASES]
RUNS += [pytest.param(name, "jit", marks=pytest.mark.slow) for name in ("dense", "hermitian", "tridiagonal", "sum")]


@pytest.mark.parametrize(("name", "transformation"), RUNS)
def test_every_verb_of_every_structure(name, transformation, x64):
    A, a = make(name, 4)
    members = [A, *poisoned(A)]
    if len(members) == 1:
        pytest.skip("has integers only")
    chosen = calls(A, int(np.linalg.matrix_rank(a)))
    wrong, finite = wrong_answers(lambda A: {key(*c): call(c[0], A, c[1]) for c in chosen}, members, transformation)
    assert not wrong, "\n".join(wrong)
    check_verbs(A, (), Reference(a), Found(finite))
    for verb in UNKNOWN & {x.split()[0] for x in finite}:
        np.testing.assert_allclose(finite[key(verb, ())], call(verb, A, ()), rtol=1e-6, atol=1e-6)


ONE = {"key": jax.random.key(0), "samples": 4}
FUNCTIONS = {
    "project": lambda A: la.project(A, la.Toeplitz),
    "project onto a rank": lambda A: la.project(A, la.LowRank, rank=1),
    "svds": lambda A: la.svds(A, 2),
    "trace_estimate": lambda A: la.trace_estimate(A, **ONE),
    "trace_estimate by signs": lambda A: la.trace_estimate(A, method="hutchinson", **ONE),
    "frobenius_estimate": lambda A: la.frobenius_estimate(A, **ONE),
    "spectral_sum_estimate": lambda A: la.spectral_sum_estimate(A, jnp.exp, **ONE),
    "logdet_estimate": lambda A: la.logdet_estimate(A, **ONE),
    "log_volume_estimate": lambda A: la.log_volume_estimate(A, **ONE),
    "spectral_density": lambda A: la.spectral_density(A, grid=jnp.linspace(0, 3, 4), **ONE),
    "spectrum": lambda A: la.spectrum(A).singular_values,
    "lyapunov_exponents": lambda A: la.lyapunov_exponents(jnp.stack([A, jnp.eye(3), A])),
    "finite_time_lyapunov": lambda A: la.finite_time_lyapunov(jnp.stack([A, jnp.eye(3)]))[:3],
    "summary": lambda A: la.summary(jnp.diagonal(A) * jnp.where(jnp.isfinite(A).all(), 1, jnp.nan)),
    "Batch": lambda A: la.svdvals(la.Batch(la.Dense, A[None])),
    "Stack": lambda A: la.det(la.Stack(la.Dense, A[None])),
    "each": lambda A: la.platform.each(la.platform.svdvals, A[None]),
    "gradient": jax.grad(lambda A: la.norm(A) + la.cond(A)),
}


def test_every_other_function():
    a = np.diag(np.array([3, 2, 1], np.float32)) + np.float32(0.1)
    members = [a, a.copy(), a.copy()]
    members[1][0, 1], members[2][0, 0] = np.nan, np.inf
    wrong, finite = wrong_answers(lambda A: {name: f(A) for name, f in FUNCTIONS.items()}, members)
    assert not wrong, "\n".join(wrong)
    sigma = np.linalg.svd(a.astype(float), compute_uv=False)
    nearest, distance = finite["project"]
    means = {k: np.diagonal(a, k).mean() for k in range(-2, 3)}
    want = np.array([[means[j - i] for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(la.materialize(nearest), want, rtol=1e-5)
    np.testing.assert_allclose(distance, np.linalg.norm(a - want), rtol=1e-5)
    np.testing.assert_allclose(finite["svds"].S, sigma[:2], rtol=1e-5)
    np.testing.assert_allclose(finite["trace_estimate"].value, np.trace(a), rtol=1e-5)
    np.testing.assert_allclose(finite["spectrum"], sigma, rtol=1e-5)
    np.testing.assert_allclose(finite["lyapunov_exponents"].exponents.sum(), 2 / 3 * np.log(sigma).sum(), rtol=1e-4)
    np.testing.assert_allclose(finite["finite_time_lyapunov"][1], np.log(sigma), rtol=1e-4)
    np.testing.assert_allclose(finite["Stack"], [np.prod(sigma)], rtol=1e-5)


def test_eager_code_raises_and_vmap_alone_does_not():
    a = np.eye(3, dtype=np.float32)
    a[0, 1] = np.nan
    for f in (la.norm, jax.grad(la.norm), lambda A: la.lyapunov_exponents(A[None])):
        with pytest.raises(la.NonFiniteError, match=r"1 of 9 (parameters of the Dense matrix|numbers) are NaN"):
            f(jnp.asarray(a))
    norm, rank, symmetric = jax.vmap(lambda A: (la.norm(A), la.rank(A), la.issymmetric(A)))(np.stack([np.eye(3), a]))
    np.testing.assert_allclose(norm, [3**0.5, np.nan], rtol=1e-6)
    np.testing.assert_array_equal(rank, [3, -1])
    np.testing.assert_array_equal(symmetric, [True, False])


def test_what_overflows_on_the_way_is_nan():
    def overflowing(x):
        A = la.Product((la.Diagonal(jnp.full(3, x)), la.Dense(jnp.triu(jnp.full((3, 3), x)))))
        return la.polar(A), la.svd(A), la.eigen(A), la.norm(A), la.cond(A), la.pinv(A), la.rank(A), la.isdiag(A)

    found = jax.jit(overflowing)(jnp.float32(1e30))  # LAPACK's SVD would not return
    assert not any(map(is_defined, found))
    assert is_defined(jax.jit(overflowing)(jnp.float32(1)))


def test_instruments_that_run_on_the_host_say_so():
    for name in ("kreiss_constant", "transient_growth", "pseudospectrum", "nearest_defective", "numerical_radius"):
        with pytest.raises(la.LinearAlgebraError, match="cannot run inside jit"):
            jax.jit(getattr(la, name))(jnp.eye(2))
