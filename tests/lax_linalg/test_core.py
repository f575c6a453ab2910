"""The operator protocol: arithmetic against dense matrices, pytrees and transformations, dispatch and its errors."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import lax_linalg as la
from lax_linalg.core import dispatch
from lax_linalg.core.registry import Registry
from lax_linalg.operators.lazy import Product, Sum


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def operators(n: int = 4) -> dict[str, la.LinearOperator]:
    dense, diagonal = la.Dense(random(0, n, n)), la.Diagonal(random(1, n))
    return {
        "dense": dense,
        "diagonal": diagonal,
        "scaling": la.UniformScaling(1.5, n),
        "sum": Sum((diagonal, la.Convolution(random(2, 3, 1, 1), n))),
        "product": Product((diagonal, la.Convolution(random(3, 3, 1, 1), n))),
        "scaled": la.Scaled(jnp.asarray(2.0), la.Convolution(random(4, 3, 1, 1), n)),
        "transpose": la.Transpose(la.Convolution(random(5, 3, 1, 1), n)),
        "complex": la.Dense(random(6, n, n) + np.complex64(1j) * random(7, n, n)),
    }


@pytest.mark.parametrize("name", operators())
def test_arithmetic_agrees_with_dense_matrices(name):
    A = operators()[name]
    b, x, X = random(8, 4, 4), random(9, 4), random(10, 4, 3)

    @jax.jit
    def results(A, b, x, X):
        matrices = (
            *(A.T, A.H, A + b, b - A, A + 2 * la.I, la.I - A, -A / 2),
            *(A @ la.Dense(b), la.I @ A, A.H @ A),
        )
        return A @ x, A @ X, x @ A, X.T @ A, la.diag(A), la.tr(A), *map(la.materialize, matrices), la.materialize(A)

    *found, a = map(np.asarray, results(A, b, x, X))
    eye = np.eye(4)
    wanted = (
        *(a @ x, a @ X, x @ a, X.T @ a, np.diag(a), np.trace(a)),
        *(a.T, a.conj().T, a + b, b - a, a + 2 * eye, eye - a, -a / 2, a @ b, a, a.conj().T @ a),
    )
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert la.size(A) == (4, 4)
    assert la.eltype(A) == a.dtype


@pytest.mark.parametrize("name", operators())
def test_spectra_agree_with_the_materialised_matrix(name):
    A = operators()[name]

    @jax.jit
    def results(A):
        norms = la.opnorm(A), la.opnorm(A, 1), la.opnorm(A, np.inf), la.norm(A), la.norm(A, 1), la.spectral_radius(A)
        return la.svdvals(A), norms, la.cond(A), la.rank(A), la.svd(A), la.eigvals(A), la.materialize(A)

    svdvals, norms, cond, rank, (U, S, Vt), ours, a = jax.tree.map(np.asarray, results(A))
    s, w = np.linalg.svd(a, compute_uv=False), np.linalg.eigvals(a)
    np.testing.assert_allclose(svdvals, s, rtol=2e-5, atol=1e-5)
    sums = np.linalg.norm(a, 1), np.linalg.norm(a, np.inf), np.linalg.norm(a), np.abs(a).sum()
    np.testing.assert_allclose(norms, (s[0], *sums, np.abs(w).max()), rtol=2e-5)
    np.testing.assert_allclose(cond, s[0] / s[-1], rtol=1e-3)
    assert int(rank) == 4
    np.testing.assert_allclose((U * S) @ Vt, a, atol=2e-5)
    assert max(np.abs(ours - z).min() for z in w) < 1e-5
    assert max(np.abs(w - z).min() for z in ours) < 1e-5


@pytest.mark.parametrize("name", operators())
def test_transformations(name):
    A = operators()[name]
    x = random(11, 4)
    s = la.svdvals(A)
    product, values = jax.jit(lambda A, x: (A @ x, la.svdvals(A)))(A, x)
    np.testing.assert_allclose(product, A @ x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values, s, rtol=1e-5, atol=1e-6)
    batch = jax.tree.map(lambda p: np.stack([p, 2 * np.asarray(p)]), A)
    both = jax.jit(jax.vmap(la.svdvals))(batch)
    np.testing.assert_allclose(both[0], s, rtol=1e-5, atol=1e-6)
    leaves, tree = jax.tree.flatten(A)
    norm = jax.jit(lambda *p: la.opnorm(jax.tree.unflatten(tree, p)))
    check_grads(norm, leaves, order=1, modes=["rev"], atol=2e-2, rtol=2e-2)
    check_grads(jax.jit(lambda *p: jax.tree.unflatten(tree, p) @ x), leaves, order=1, atol=2e-2, rtol=2e-2)
    assert jax.tree.structure(jax.tree.map(lambda p: None, A)) is not None
    assert type(A).__name__ in repr(A) and "4×4" in repr(A)
    repr(jax.tree.map(lambda _: 0, A))  # a pytree of axes must print too


@jax.jit
def _values_and_norms(a):
    return la.svdvals(a), la.opnorm(a), la.norm(a), la.rank(a), la.svd(a, full=True).Vt


@hypothesis.given(m=st.sampled_from((0, 1, 2, 5)), n=st.sampled_from((0, 1, 2, 5)))
@hypothesis.settings(max_examples=15, deadline=None)
def test_dense_of_any_size(m, n):
    a = np.random.default_rng(m + 7 * n).standard_normal((m, n)).astype("f4")
    k = min(m, n)
    s = np.linalg.svd(a, compute_uv=False) if k else np.zeros(0)
    svdvals, opnorm, norm, rank, Vt = _values_and_norms(a)
    np.testing.assert_allclose(svdvals, s, atol=1e-5)
    assert jax.eval_shape(la.svd, a).U.shape == (m, k)
    assert Vt.shape == (n, n)
    np.testing.assert_allclose(opnorm, s[0] if k else 0, atol=1e-5)
    np.testing.assert_allclose(norm, np.linalg.norm(a), rtol=1e-5)
    assert int(rank) == k


def test_half_precision_and_integers_are_computed_in_a_float():
    for a in (jnp.eye(3, dtype=jnp.bfloat16), jnp.eye(3, dtype=jnp.float16), jnp.eye(3, dtype=jnp.int32)):
        assert la.svdvals(a).dtype == jnp.float32
        np.testing.assert_allclose(la.svdvals(a), 1)
        np.testing.assert_allclose(la.eigvals(a), 1)


def test_double_precision(x64):
    a = np.random.default_rng(0).standard_normal((6, 6))
    assert la.svdvals(a).dtype == jnp.float64
    np.testing.assert_allclose(la.svdvals(a), np.linalg.svd(a, compute_uv=False), rtol=1e-13)


def test_gradient_at_repeated_and_zero_singular_values_is_a_subgradient():
    f = jax.jit(lambda a: (jax.grad(lambda a: la.svdvals(a)[0])(a), la.opnorm(a), jax.grad(la.norm)(a)))
    for a in np.eye(3, dtype="f4"), np.zeros((3, 3), "f4"), np.diag(np.array([2.0, 2.0, 0.0], "f4")):
        g, largest, of_norm = map(np.asarray, f(a))
        # a subgradient of σ₁ at A has nuclear norm 1 and inner product σ₁ with A
        np.testing.assert_allclose(np.linalg.svd(g, compute_uv=False).sum(), 1, rtol=1e-5)
        np.testing.assert_allclose(np.sum(g * a), largest, atol=1e-5)
        assert np.isfinite(of_norm).all()


def test_norm_neither_over_nor_underflows():
    for scale in (1e30, 1e-30):
        np.testing.assert_allclose(
            la.norm(np.array([[3.0, 0.0], [0.0, 4.0]], "f4") * np.float32(scale)), 5 * scale, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: la.Dense(np.ones(3)), "a matrix has 2 axes, got an array of shape [3]"),
        (lambda: la.Diagonal(np.ones((2, 2))), "a diagonal has 1 axis"),
        (lambda: la.eigvals(np.ones((2, 3))), "eigvals needs a square matrix, got 2×3"),
        (lambda: la.svdvals(np.array([[np.nan, np.inf]])), "svdvals needs finite numbers, but 2 of 2"),
        (lambda: la.Dense(np.ones((2, 3))) @ np.ones(2), "applies to [3] or [3, k]"),
        (lambda: la.Dense(np.ones((2, 3))) @ la.Dense(np.ones((2, 3))), "cannot multiply 2×3 by 2×3"),
        (lambda: la.Diagonal([1.0]) + la.Diagonal([1.0, 2.0]), "cannot add 1×1 and 2×2"),
        (lambda: la.Diagonal([1.0]) + 1, "write A + 1 * I"),
        (lambda: la.Diagonal([1.0]) * np.ones(2), "the matrix product is @"),
        (lambda: la.Dense(np.ones((2, 3))) + la.I, "A + λI needs a square matrix, got 2×3"),
        (lambda: la.I.shape, "I has no size of its own"),
        (lambda: la.opnorm(np.eye(2), 3), "unknown operator norm p = '3'"),
        (lambda: la.norm(np.eye(2), -1), "p must be positive or inf"),
        (lambda: la.svdvals("matrix"), "expected a matrix or a linear operator, got a str"),
        (lambda: la.Convolution(np.ones((5, 1, 1)), 3, padding="valid"), "a kernel that spans 5 does not fit"),
        (lambda: la.Convolution(np.ones((3, 1, 1)), 3, padding="cirular"), "did you mean 'circular'"),
        (lambda: la.Convolution(np.ones((3, 1, 3)), 3, groups=2), "2 groups do not divide"),
        (lambda: la.Convolution(np.ones((3, 1, 3)), 3, stride=0), "stride takes a positive integer"),
        (lambda: la.Convolution(np.ones((3, 3, 1, 1)), (4, 4), padding=((1, 1), (1,))), "2 (front, behind) pairs"),
        (lambda: la.Convolution(np.ones((3, 1, 3)), 3, groups=1.5), "groups is a whole number ≥ 1, got 1.5"),
        (lambda: la.JordanBlock(1.0, -1), "the size n is a whole number ≥ 0, got -1"),
        (lambda: la.I(2.5), "the size n is a whole number ≥ 0, got 2.5"),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(call, message):
    with pytest.raises(la.LinearAlgebraError) as caught:
        call()
    assert message in str(caught.value)


def test_sizes_may_be_integers_of_numpy():
    three, two = np.int64(3), np.int32(2)
    A = la.Convolution(np.ones((3, 3, 1, 1)), np.array([4, 4]), stride=two, padding=np.ones((2, 2), int))
    for got, want in (
        (A, la.Convolution(np.ones((3, 3, 1, 1)), (4, 4), stride=2, padding=1)),
        (la.JordanBlock(0.5, three), la.JordanBlock(0.5, 3)),
        (la.TridiagonalToeplitz(1.0, 2.0, 3.0, three), la.TridiagonalToeplitz(1.0, 2.0, 3.0, 3)),
        (la.I(three), la.I(3)),
    ):
        assert jax.tree.structure(got) == jax.tree.structure(want) and repr(got) == repr(want)


def test_lazy_algebra_takes_plain_arrays():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = np.ones(2)
    for A, want in (
        (la.Product((a, la.I(2), a)), a @ a),
        (la.Sum((la.I(2), a)), a + np.eye(2)),
        (la.Scaled(2.0, a), 2 * a),
        (la.Transpose(a), a.T),
    ):
        np.testing.assert_allclose(A @ x, want @ x, rtol=1e-6)
        assert "2×2" in repr(A)


def test_multiples_of_a_permutation_hold_whole_numbers():
    P = la.Permutation([1, 2, 0])
    np.testing.assert_array_equal(la.materialize(200 * P - 300 * P), -100 * np.eye(3)[[1, 2, 0]])


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("trace", "'tr'"),
        ("slogdet", "'logabsdet'"),
        ("matrix_rank", "'rank'"),
        ("matrix_norm", "'norm' or 'opnorm'"),
        ("expm", "'exp'"),
        ("null_space", "'nullspace'"),
        ("eigh", r"'eigen\(Hermitian\(A\)\)'"),
    ],
)
def test_names_of_other_libraries_are_met_with_the_name_here(there, here):
    with pytest.raises(AttributeError, match=rf"did you mean {here}\?"):
        getattr(la, there)


def test_what_is_named_instead_of_other_libraries_names_exists():
    for here, names in la._ELSEWHERE.items():
        assert not any(name in dir(la) for name in names.split())
        for name in re.findall(r"[A-Za-z_]{3,}", here.replace("column", "").replace("row", "")):
            assert hasattr(la, name), here
    assert re.fullmatch(r"\d+\.\d+\.\d+", la.__version__)


def test_unknown_names_are_met_with_the_nearest():
    with pytest.raises(AttributeError, match="did you mean 'svdvals'"):
        la.svdval  # noqa: B018
    with pytest.raises(la.UnknownNameError, match="did you mean 'resnet'"):
        registry = Registry("model")
        registry.register("resnet")(object())
        registry["resnt"]
    with pytest.raises(la.LinearAlgebraError, match="registered twice"):
        registry.register("resnet")(object())


def test_the_identity_outlives_the_traced_function_that_uses_it_first():
    vars(la).pop("I", None)
    shifted = lambda a: la.norm(a + la.I)  # noqa: E731
    f, gradient = jax.jit(shifted), jax.jit(jax.grad(shifted))
    for call in (f, gradient, f, gradient):
        assert np.isfinite(call(np.eye(2))).all()


def test_dense_limit_holds_under_jit():
    with la.dense_limit(100), pytest.raises(la.DenseLimitError, match="la.dense_limit"):
        jax.jit(la.svdvals)(la.Convolution(np.ones((3, 1, 1)), 50))


def test_dense_limit_counts_all_matrices_of_a_batch():
    stack = np.ones((8, 5), np.float32)
    form = lambda c: la.materialize(la.Toeplitz(c, c))  # noqa: E731
    formed = {
        "batch": lambda: la.svdvals(la.Batch(la.Toeplitz, stack)),
        "jacobians": lambda: la.svdvals(la.layer_jacobians([lambda x: x * x.sum()], stack)["end_to_end"]),
        "stack": lambda: la.materialize(la.Stack(la.Diagonal, stack)),
        "vmap": lambda: jax.vmap(form)(stack),
        "of jit": lambda: jax.vmap(jax.jit(form))(stack),
        "twice": lambda: jax.vmap(jax.vmap(form))(stack.reshape(2, 4, 5)),
        "of grad": lambda: jax.vmap(jax.grad(lambda c: form(c).sum()))(stack),
    }
    for name, run in formed.items():
        with la.dense_limit(800):
            jax.eval_shape(run)
        with la.dense_limit(799), pytest.raises(la.DenseLimitError, match="8 dense 5×5 .* 800 B.* 799 B"):
            jax.eval_shape(run)
            pytest.fail(name)
    with la.dense_limit(100):
        jax.eval_shape(lambda: la.svdvals(la.Stack(la.Toeplitz, stack)))  # one by one, and only the values are kept


def test_a_dense_limit_is_no_part_of_programs_compiled_before():
    A = la.BlockDiagonal((la.Toeplitz([2.0, 1.0]), la.Toeplitz([3.0, 1.0])))
    np.testing.assert_allclose(la.svdvals(A), [4, 3, 2, 1], rtol=1e-5)
    entries = jax.jit(la.materialize)
    entries(A)
    for verb in (la.svdvals, entries):
        with la.dense_limit(15), pytest.raises(la.DenseLimitError, match="2×2|4×4"):
            verb(A)


def test_every_rule_names_its_algorithm_and_cost():
    for verb in dispatch.verbs.values():
        verb.lookup(*(la.Dense,) * verb.arity)  # resolves the generic rule too
        assert verb.rules[0].function is verb.__wrapped__
        for rule in verb.rules:
            assert rule.algorithm.endswith("."), (verb.name, rule)
            assert rule.cost, (verb.name, rule)


def concrete(cls: type = la.LinearOperator) -> list[type]:
    return [c for s in cls.__subclasses__() for c in (s, *concrete(s))]


def test_no_two_rules_are_ambiguous():
    classes = concrete()
    for verb in dispatch.verbs.values():
        for types in itertools.product(classes, repeat=verb.arity):
            verb.lookup(*types)  # plum raises on an ambiguity


def test_every_public_name_has_a_docstring_with_an_example():
    missing = []
    for name in dir(la):
        value = getattr(la, name)
        doc = value.__doc__ or ""
        if name != "I" and not hasattr(value, "__path__") and ">>> " not in doc:
            missing.append(name)
    assert not missing


def test_a_second_call_compiles_nothing():
    f = jax.jit(chex.assert_max_traces(lambda A: la.svdvals(A), n=1))
    for seed in range(3):
        f(la.Convolution(random(seed, 3, 3, 2, 2), (4, 4)))


@pytest.mark.slow
def test_import_is_fast():
    code = "import time, jax; t = time.perf_counter(); import lax_linalg; print(time.perf_counter() - t)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, lax_linalg; print([m for m in sys.modules if '.' not in m])"],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    for heavy in ("flax", "matplotlib", "lineax", "matfree", "asdex"):
        assert repr(heavy) not in modules.stdout
    assert float(out.stdout) > 0


def test_rank_and_null_space_take_an_absolute_threshold():
    values = [3.0, 2.0, 0.5]
    for A in (np.diag(values), la.Diagonal(values), la.Hermitian(np.diag(values))):
        assert [int(la.rank(A, atol=atol)) for atol in (0, 0.4, 0.6, 2.0, 9.0)] == [3, 3, 2, 1, 0]  # above, not equal
        assert int(la.rank(A, atol=0.6, rtol=0.9)) == 1
        N = la.nullspace(A, atol=0.6)
        np.testing.assert_allclose(np.abs(N), [[0], [0], [1]], atol=1e-6)
        assert la.nullspace(A, atol=2.5).shape == (3, 2)
    assert int(jax.jit(la.rank)(np.diag(values), atol=0.6)) == 2


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((3, 0), "row 3 is outside of the 3 rows"),
        ((0, -4), "column -4 is outside of the 3 columns"),
        ((0, 1, 2), "a matrix has 2 axes, got 3 indices"),
        ((0.5,), "a row index is an integer"),
        (([True, False],), "a row index is an integer"),
    ],
)
def test_an_index_outside_of_the_matrix_is_an_index_error(key, message):
    with pytest.raises(IndexError, match=message):
        la.I(3)[key]


def test_rows_picked_by_traced_numbers_and_masks():
    A = la.Toeplitz([1.0, 2.0, 3.0], [1.0, 4.0, 5.0])
    a = np.asarray(A)
    np.testing.assert_array_equal(jax.jit(lambda i, j: A[i, j])(-1, 1), a[-1, 1])
    np.testing.assert_array_equal(jax.vmap(lambda i: A[i])(jnp.arange(3)), a)
    np.testing.assert_array_equal(np.asarray(A[[True, False, True]]), a[[0, 2]])
    np.testing.assert_array_equal(np.stack(list(A)), a)
