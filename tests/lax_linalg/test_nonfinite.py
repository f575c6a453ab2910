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

PREDICATES = "issymmetric ishermitian isnormal isposdef isunitary isorthogonal istriu istril isdiag"
ANY_SHAPE = {
    **{name: [()] for name in "svdvals svd rank qr lu polar pinv stable_rank effective_rank".split()},
    **{name: [()] for name in [*PREDICATES.split(), "diag", "opnorm_bound"]},
    "norm": [(1,), (2,), (3.0,), (np.inf,)],
    "opnorm": [(1,), (2,), (np.inf,)],
}
SQUARE = {
    **{name: [()] for name in "tr eigvals eigen schur cholesky det logabsdet logdet inv exp log sqrt henrici".split()},
    **{name: [()] for name in "spectral_radius eigenvalue_condition_numbers eigenvector_condition_number".split()},
    "power": [(3,), (0,), (-2,), (0.3,)],
    "power_norms": [(2,)],
}
UNKNOWN = {"stable_rank", "effective_rank", "spectral_radius", "henrici", "eigenvalue_condition_numbers"}
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


def defined(result: Any) -> bool:
    """Whether anything of a result says more than NaN, False or −1."""

    def says(x: Any) -> bool:
        x = np.asarray(x)
        if x.dtype == bool:
            return bool(x.any())
        if jnp.issubdtype(x.dtype, jnp.inexact):
            return not bool(np.isnan(x).all())
        return x.ndim == 0 and not isinstance(result, la.LinearOperator) and x != -1

    return any(says(x) for x in jax.tree.leaves(result))


def sweep(name: str, transformation: str) -> None:
    A, a = make(name, 4, "float64" if transformation == "vmap" else "float32")
    members = [A, *poisoned(A)]
    chosen = calls(A, int(np.linalg.matrix_rank(a)))

    def every(A: Any) -> dict[str, Any]:
        return {key(*c): call(c[0], A, c[1]) for c in chosen}

    if transformation == "vmap":
        together = jax.jit(jax.vmap(every))(jax.tree.map(lambda *x: jnp.stack(x), *members))
        results = [jax.tree.map(lambda x, b=b: x[b], together) for b in range(len(members))]
    else:
        results = list(map(jax.jit(every), members))
    wrong = [
        f"{verb} of member {b}: {np.asarray(jax.tree.leaves(result)[0])}"
        for b, found in enumerate(results[1:])
        for verb, result in found.items()
        if verb.split()[0] not in NATURAL and defined(result)
    ]
    print(name, transformation, len(results[0]) * (len(members) - 1), "swept,", len(wrong), "wrong")
    assert not wrong, "\n".join(wrong)
    reference = Reference(a, float(np.finfo(a.dtype if transformation == "vmap" else np.float32).eps))
    check_verbs(A, (), reference, Found(results[0]))
    for verb in UNKNOWN & {x.split()[0] for x in results[0]}:
        np.testing.assert_allclose(results[0][key(verb, ())], call(verb, A, ()), rtol=1e-4, atol=1e-4)
