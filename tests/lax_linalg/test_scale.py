"""Every verb at any scale: f(cA) = cᵈ f(A) for the verb's degree d, and so its first and second derivatives.

A power of two times A has the digits of A, so that results differ by what scaling does to an algorithm alone. Values at
c = 1 are those that the contract checks. Derivatives are taken with respect to cA, whatever c is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structure_cases import CASES, make
from verb_derivatives import always, definite, distinct, leading, off_the_cut, one_radius, one_sum, regular, separated
from verb_oracle import Reference, arrays

import lax_linalg as la
from lax_linalg.core import dispatch
from lax_linalg.dense.scaling import moduli


def _right(A: Any) -> jax.Array:
    return jnp.cos(jnp.arange(1.0, 1 + A.shape[0])).astype(jnp.finfo(A.dtype).dtype)


def never(r: Reference) -> bool:
    return False


def _order(k: int, dtype: Any) -> jax.Array:
    return jnp.arange(1.0, 1 + k).astype(jnp.finfo(dtype).dtype)


def _svd(A):
    U, S, Vt = la.svd(A)
    return (U * _order(S.size, S.dtype)) @ Vt


def _eigen(A):
    w, V = la.eigen(A)
    return (V * _order(w.size, w.dtype)) @ jnp.linalg.inv(V)


def _qr(A):  # LAPACK's phases of the columns jump where a column has nothing to eliminate
    return moduli(la.qr(A).Q) ** 2


def _nullspace(A):
    N = la.nullspace(A, dimension=1)
    return N @ N.conj().T


def _svds(A, which):
    U, S, Vt, _ = la.svds(A, 2, which)
    return (U * _order(2, S.dtype)) @ Vt


Function = Callable[[Any], Any]
FUNCTIONS: dict[str, tuple[float, Callable[[Reference], bool], Function]] = {
    # name -> (degree, where it is differentiable, the function); square or not is up to the condition
    "norm": (1, always, lambda A: [la.norm(A, p) for p in (1, 2, 3.0)]),
    "opnorm": (1, distinct, la.opnorm),
    "sums": (1, one_sum, lambda A: [la.opnorm(A, p) for p in (1, np.inf)]),
    "opnorm_bound": (1, distinct, lambda A: la.opnorm_bound(A, iterations=4)),
    "svdvals": (1, distinct, la.svdvals),
    "svd": (0, distinct, _svd),
    "polar U": (0, regular, lambda A: la.polar(A).U),
    "polar P": (1, regular, lambda A: la.polar(A).P),
    "cond": (0, lambda r: regular(r) and distinct(r), la.cond),
    "stable_rank": (0, distinct, la.stable_rank),
    "effective_rank": (0, distinct, la.effective_rank),
    "nullspace": (0, never, _nullspace),
    "pivoted_qr": (1, never, lambda A: moduli(la.pivoted_qr(A).R)),
    "qr Q": (0, leading, _qr),
    "qr R": (1, leading, lambda A: moduli(la.qr(A).R)),
    "lu L": (0, leading, lambda A: la.lu(A).L),
    "lu U": (1, leading, lambda A: la.lu(A).U),
    "pinv": (-1, regular, la.pinv),
    "lstsq": (-1, regular, lambda A: la.lstsq(A, _right(A))),
    "frobenius_estimate": (1, always, lambda A: la.frobenius_estimate(A, key=jax.random.key(0))[:2]),
    "log_volume_estimate": (
        0,
        never,
        lambda A: la.log_volume_estimate(A, key=jax.random.key(0)).value - min(A.shape) * jnp.log(_size(A)),
    ),
}
SQUARE: dict[str, tuple[float, Callable[[Reference], bool], Function]] = {
    "distance": (1, always, lambda A: la.project(A, la.Diagonal).distance),
    "tr": (1, always, la.tr),
    "det": (np.nan, regular, la.det),  # n
    "logabsdet": (0, regular, lambda A: la.logabsdet(A).logabs - A.shape[0] * jnp.log(_size(A))),
    "sign": (0, regular, lambda A: la.logabsdet(A).sign),
    "solve": (-1, regular, lambda A: la.solve(A, _right(A))),
    "sylvester": (-1, never, lambda A: la.sylvester(A, 2 * A, jnp.outer(_right(A), _right(A)))),
    "inv": (-1, regular, la.inv),
    "cond 1": (0, lambda r: regular(r) and one_sum(r), lambda A: la.cond(A, 1)),
    "cholesky": (0.5, definite, lambda A: la.cholesky(A).L),
    "eigvals": (1, separated, la.eigvals),
    "spectral_radius": (1, one_radius, la.spectral_radius),
    "eigen": (0, separated, _eigen),
    "schur Z": (0, separated, lambda A: moduli(la.schur(A).Z) ** 2),
    "schur T": (1, separated, lambda A: la.schur(A).values),
    "henrici": (1, separated, la.henrici),
    "eigenvalue_condition_numbers": (0, never, la.eigenvalue_condition_numbers),
    "eigenvector_condition_number": (0, never, la.eigenvector_condition_number),
    "numerical_range": (1, never, lambda A: la.numerical_range(A, 8)[1:]),
    "sqrt": (0.5, off_the_cut, la.sqrt),
    "log": (0, off_the_cut, lambda A: la.materialize(la.log(A)) - jnp.log(_size(A)) * jnp.eye(A.shape[0])),
    "power": (3, always, lambda A: la.power(A, 3)),
    "inverse power": (-2, regular, lambda A: la.power(A, -2)),
    "fractional power": (1.5, off_the_cut, lambda A: la.power(A, 1.5)),
    "real power": (0.3, off_the_cut, lambda A: la.power(A, 0.3)),
}
ANSWERS: dict[str, Function] = {
    name: getattr(la, name)
    for name in ["rank", "issymmetric", "ishermitian", "isposdef", "isnormal", "isdiag", "istriu", "istril"]
}


def _size(A: Any) -> jax.Array:
    """The scale of A, as a constant."""
    return jax.lax.stop_gradient(la.norm(A, np.inf))


def _numbers(result: Any) -> jax.Array:
    leaves = jax.tree.leaves(jax.tree.map(arrays, result, is_leaf=lambda x: isinstance(x, la.LinearOperator)))
    return jnp.concatenate([p.ravel() for x in leaves for p in ((x.real, x.imag) if jnp.iscomplexobj(x) else (x,))])


VERBS = {
    "sums": "opnorm",
    "cond 1": "cond",
    "sign": "logabsdet",
    "inverse power": "power",
    "fractional power": "power",
    "real power": "power",
}


def has_rule(name: str, A: la.LinearOperator) -> bool:
    """Whether A's structure has an algorithm of its own for the verb of a function or an answer."""
    verb = getattr(la, VERBS.get(name, name.split()[0]), None)
    return isinstance(verb, dispatch.Verb) and verb.lookup(type(A)) is not verb.lookup(la.LinearOperator)


def functions_of(A: la.LinearOperator, r: Reference, own: bool) -> dict[str, tuple[float, bool, Function]]:
    found = {}
    for name, (degree, smooth, f) in (FUNCTIONS | (SQUARE if r.square else {})).items():
        if (own and not has_rule(name, A)) or (smooth in (definite, off_the_cut) and not smooth(r)):
            continue
        found[name] = (A.shape[0] if degree != degree else degree, smooth(r), f)
    return found


def program(A: la.LinearOperator, functions: dict[str, tuple[float, bool, Function]]) -> Callable:
    """(c) -> answers, and for each function its value, gradient and the gradient's derivative along a direction / c."""
    leaves, tree = jax.tree.flatten(A)
    inexact = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    parameters = [x for x, yes in zip(leaves, inexact) if yes]
    generator = np.random.default_rng(7)

    def draw(x: Any) -> jax.Array:
        y = generator.standard_normal(x.shape)
        return jnp.asarray(y + 1j * generator.standard_normal(x.shape) if jnp.iscomplexobj(x) else y, x.dtype)

    direction = [draw(x) for x in parameters]

    def scaled(c: jax.Array, values: list[jax.Array]) -> la.LinearOperator:
        rest = iter(values)
        return c * jax.tree.unflatten(tree, [next(rest) if yes else x for x, yes in zip(leaves, inexact)])

    def run(c: jax.Array, values: list[jax.Array]) -> tuple[Any, Any]:
        B = scaled(c, values)
        answers = {name: f(B) for name, f in ANSWERS.items()}
        results = {}
        for name, (_, smooth, f) in functions.items():

            def total(values: list[jax.Array], f: Function = f) -> tuple[jax.Array, jax.Array]:
                y = _numbers(f(scaled(c, values)))
                weights = np.random.default_rng(1).standard_normal(y.shape)
                return jnp.sum(y * jnp.asarray(weights, y.dtype)), y

            if not smooth or not values:
                results[name] = (total(values)[1],)
                continue
            gradient = jax.grad(total, has_aux=True)
            g, h, y = jax.jvp(gradient, (values,), ([d / c for d in direction],), has_aux=True)
            results[name] = (y, g, h)
        return answers, results

    compiled = jax.jit(run, compiler_options=OPTIONS)
    return lambda c: compiled(jnp.asarray(c, jnp.finfo(A.dtype).dtype), parameters)


OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
EXPONENTS = {"float32": (66, 50, 34, 16), "float64": (566, 400, 300, 120)}
"""Of c = 2^±e, up to 1e±20 and 1e±170; the smaller ones for what leaves the range there."""


def _flat(results: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(np.ravel(x) for x in jax.tree.leaves(results))])


def check_scale(A: la.LinearOperator, r: Reference, only: Collection[str] = (), own: bool = False) -> None:
    """Compare f(cA)/cᵈ, f'(cA)/cᵈ⁻¹ and f''(cA)/cᵈ⁻² with f, f' and f'' at A wherever all of them are in range."""
    real = jnp.finfo(A.dtype)
    functions = {k: v for k, v in functions_of(A, r, own).items() if not only or k in only}
    of = program(A, functions)
    answers, reference = jax.device_get(of(1.0))
    low, high = float(real.tiny) * 1e3, float(real.max) / 1e3
    wrong = []
    for exponent in (e * sign for e in EXPONENTS[real.dtype.name] for sign in (1, -1)):
        c = np.longdouble(2) ** exponent
        own_answers, results = jax.device_get(of(float(c)))
        wrong += [f"{name} at {c:.0e}: {own_answers[name]}" for name in answers if own_answers[name] != answers[name]]
        for name, orders in reference.items():
            degree = functions[name][0]
            for order, (got, want) in enumerate(zip(map(_flat, results[name]), map(_flat, orders))):
                size = float(np.abs(want).max(initial=1e-3))
                if not (np.isfinite(size) or functions[name][1]):
                    continue  # of a singular matrix
                assert np.isfinite(size), f"{name}, derivative {order}, is not finite at A itself"
                # of the results by the chain rule, and of those that a user sees, who differentiates by cA
                factors = [c ** (degree - j) for j in range(order + 1)]
                if not all(low < size * f < high for f in factors):
                    continue
                factor = factors[max(order - 1, 0)]
                error = float(np.abs(got / factor - want).max(initial=0)) / size
                if not error < 1e3 * 10**order * float(real.eps):
                    wrong.append(f"{name}, derivative {order}, at {c:.0e}: error {error:.1e}")
    assert not wrong, "\n".join(wrong)


def test_the_verbs_whose_algorithms_square_something():
    """Those of plain matrices that were wrong at some scale: the sample of the sweep below."""
    A, a = make("dense", 3, "float32")
    names = ("svdvals", "svd", "cond", "effective_rank", "stable_rank", "polar P", "pinv", "henrici", "eigvals")
    check_scale(A, Reference(a, 2.0**-23), names)


def test_partial_singular_values_at_any_scale():
    a = np.random.default_rng(0).standard_normal((5, 4))
    want = np.linalg.svd(a, compute_uv=False)[:2]
    for c in (1e-20, 1.0, 1e20):
        np.testing.assert_allclose(la.svds(np.asarray(c * a, np.float32), 2).S / c, want, rtol=1e-5)


def test_second_derivatives_by_forward_mode_twice():
    a = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)

    @jax.jit
    def curvature(x):
        first = lambda x: jax.jvp(lambda x: jnp.sum(la.svdvals(x)) + la.norm(x), (x,), (a.T,))[1]  # noqa: E731
        return jax.jvp(first, (x,), (a.T,))[1]

    np.testing.assert_allclose(curvature(a * 2.0**-66) * 2.0**-66, curvature(a), rtol=1e-5)


NONNORMAL: dict[str, tuple[float, Callable[[Any, float], Any]]] = {
    # name -> (degree, the function of cA and c), all in double precision on the host
    "numerical_radius": (1, lambda A, c: la.numerical_radius(A)[:2]),
    "numerical_range": (1, lambda A, c: la.numerical_range(A, 8).support),
    "kreiss_constant": (0, lambda A, c: la.kreiss_constant(A - 20 * c * np.eye(4), continuous=True)[:2]),
    "pseudospectrum": (1, lambda A, c: la.pseudospectrum(A, 5).sigma_min),
    "pseudospectral_radius": (1, lambda A, c: la.pseudospectral_radius(A, 0.1 * c)[:2]),
    "pseudospectral_abscissa": (1, lambda A, c: la.pseudospectral_abscissa(A, 0.1 * c)[:2]),
    "nearest_defective": (1, lambda A, c: la.nearest_defective(A)[:2]),
    "arnoldi": (1, lambda A, c: la.arnoldi(A, 3)),
    "spectral_density": (-1, lambda A, c: la.spectral_density(A, key=jax.random.key(0), steps=4, grid=9).density),
    "svds": (1, lambda A, c: la.svds(A, 2).S),
}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("complex128", marks=pytest.mark.slow)])
def test_measures_of_non_normality_at_any_scale(dtype):
    with jax.enable_x64(dtype == "complex128"):
        _, a = make("dense", 4, dtype)
        wrong = []
        for name, (degree, f) in NONNORMAL.items():
            want = np.asarray(f(a, 1.0))
            for c in (2.0**-66, 2.0**66) if dtype == "float32" else (2.0**-300, 2.0**300):
                got = np.asarray(f(a * np.asarray(c, a.real.dtype), c)) / c**degree
                if not np.allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max()):
                    wrong.append(f"{name} at {c:.0e}: {got.ravel()[:3]} instead of {want.ravel()[:3]}")
        assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [*EXPONENTS, "complex64", "complex128"])
@pytest.mark.parametrize("name", CASES)
def test_every_verb_at_any_scale(name, dtype):
    """All verbs of plain matrices, and those for which a structure has an algorithm of its own."""
    with jax.enable_x64(dtype in ("float64", "complex128")):
        A, a = make(name, 4, dtype)
        if jnp.issubdtype(A.dtype, jnp.inexact) and (dtype == A.dtype or dtype in EXPONENTS):
            check_scale(A, Reference(a, float(jnp.finfo(dtype).eps)), own=name != "dense")
