"""The contract: every structure × every verb × dtype, degenerate size, `jit` and derivatives; vmap: test_nonfinite.

A run is one structure under one condition, with all verbs that apply. The default run covers every structure and every
condition, each variant of a structure under another one; the whole cross is marked slow.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structure_cases import CASES, make
from verb_derivatives import check_derivatives
from verb_oracle import CHECKS, Reference, check_verbs, jitted

import lax_linalg as la
from lax_linalg import documentation
from lax_linalg.core import dispatch

EPS = {"float64": 2.0**-52, "complex128": 2.0**-52, "float32": 2.0**-23, "complex64": 2.0**-23, "bfloat16": 2.0**-23}


def eager(name: str, n: int, dtype: str, only: Collection[str] = ()) -> None:
    A, a = make(name, n, dtype)
    half = dtype == "bfloat16"
    if half and isinstance(A, la.Jacobian):  # the function itself runs in half precision
        a = np.asarray(la.materialize(A)).astype(np.float64)
    # entries of half precision are rounded, spectra are computed from the parameters
    only = set(only or CHECKS) - {"diag"} if half else only
    check_verbs(A, only, Reference(a, EPS[dtype], 2.0**-7 if half else 0.0))


def entries(name: str) -> None:
    A, a = make(name)
    assert la.size(A) == A.shape == a.shape
    assert la.eltype(A) == A.dtype
    assert repr(A).startswith(f"{A.shape[0]}×{A.shape[1]} {type(A).__name__}{{{A.dtype.name}}}")
    X, Y = (np.random.default_rng(k).standard_normal((a.shape[k], 3)) for k in (1, 0))
    for got, want in (
        (la.materialize(A), a),
        (A @ X, a @ X),
        (A @ X[:, 0], a @ X[:, 0]),
        (A.T @ Y, a.T @ Y),
        (A.H @ Y, a.conj().T @ Y),
        (Y.T @ A, Y.T @ a),
        (la.materialize(la.transpose(A)), a.T),
        (la.materialize(la.adjoint(A)), a.conj().T),
        (la.materialize(la.conj(A)), a.conj()),
        (la.materialize(la.scale(A, 2j)), 2j * a),
        (la.materialize(la.add(A, A)), 2 * a),
        (la.materialize(la.multiply(A.H, A)), a.conj().T @ a),
        (la.materialize(la.kron(A, np.ones((1, 2)))), np.kron(a, np.ones((1, 2)))),
    ):
        np.testing.assert_allclose(np.asarray(got), want, atol=1e-12)
    B = jax.jit(lambda A: A)(A)  # a pytree that keeps its structure
    assert jax.tree.structure(B) == jax.tree.structure(A)
    repr(jax.tree.map(lambda _: 0, A))


CONDITIONS = {
    "entries": lambda name: entries(name),
    "float64": lambda name, only=(): eager(name, 5, "float64", only),
    "complex128": lambda name, only=(): eager(name, 5, "complex128", only),
    "float32": lambda name, only=(): eager(name, 5, "float32", only),
    "bfloat16": lambda name, only=(): eager(name, 5, "bfloat16", only),
    "size 0": lambda name, only=(): eager(name, 0, "float64", only),
    "size 1": lambda name, only=(): eager(name, 1, "complex128", only),
    "jit": lambda name, only=(): check_verbs(make(name)[0], only, Reference(make(name)[1]), jitted),
    "grad": lambda name: check_derivatives(make(name, 4)[0], Reference(make(name, 4)[1])),
    "complex grad": lambda name: check_derivatives(
        make(name, 3, "complex128")[0], Reference(make(name, 3, complex)[1])
    ),
}


DERIVATIVES = {"grad": ("wide dense",), "complex grad": ("diagonal",)}
"""Differentiating all verbs compiles for half a minute a case: these stand for the others in the short run."""


WHOLE = ("entries", "float64", "size 0", *DERIVATIVES)
"""Under the others a case of the short run takes every third verb, in turns: each compiles programs of its own."""


def runs():
    """Every pair, those outside of the covering choice marked slow: case i runs under condition i, and its entries."""
    others = [c for c in CONDITIONS if c not in ("entries", *DERIVATIVES)]
    for i, name in enumerate(CASES):
        for condition in CONDITIONS:
            chosen = condition in ("entries", others[i % len(others)]) or name in DERIVATIVES.get(condition, ())
            if chosen and condition not in WHOLE:
                share = list(CHECKS)[i // len(others) % 3 :: 3]
                yield pytest.param(name, condition, {"only": share}, id=f"{name}-{condition}-third")
                chosen = False
            marks = () if chosen else pytest.mark.slow
            yield pytest.param(name, condition, {}, id=f"{name}-{condition}", marks=marks)


@pytest.mark.parametrize(("name", "condition", "options"), list(runs()))
def test_contract(name, condition, options, x64):
    if (
        name in ("convolution", "circular convolution", "locally connected", "strided transpose")
        and condition == "size 0"
    ):
        pytest.skip("an image has at least one pixel")
    CONDITIONS[condition](name, **options)


def test_no_structure_and_no_verb_is_forgotten(x64):
    classes = {type(make(name)[0]) for name in CASES}
    assert {c.__name__ for c in documentation.structures() if c not in classes and not c.__subclasses__()} == set()
    # verbs of other rooms have files of tests of their own
    source = "".join(path.read_text() for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")))
    for verb in dispatch.verbs.values():
        if hasattr(la, verb.name):
            assert re.search(rf"\b(v|la)\.{verb.name}\b", source), f"no test calls {verb.name}"


@pytest.mark.parametrize("verb", ["svdvals", "det", "eigvals", "solve", "materialize", "opnorm", "svd", "exp"])
def test_a_batch_maps_every_verb_over_its_members(verb, x64):
    c = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4)))
    batch = la.Batch(la.Circulant, c)
    call = getattr(la, verb)
    options = (jnp.ones(4),) if verb == "solve" else ()
    if verb == "exp":
        with pytest.raises(la.DimensionMismatch, match="use batch\\[b\\] one by one"):
            call(batch)
        return
    together = call(batch, *options)
    for b in range(3):
        for got, want in zip(jax.tree.leaves(together), jax.tree.leaves(call(la.Circulant(c[b]), *options))):
            np.testing.assert_allclose(got[b], want, atol=1e-12)


@pytest.mark.parametrize("kind", [la.Batch, la.Stack])
def test_a_batch_knows_its_size_and_dtype_under_any_transformation(kind):
    def known(c):
        batch = kind(la.Circulant, c)
        assert la.size(batch) == (3, 4, 4)
        assert la.eltype(batch) == np.float32
        return la.tr(batch)

    c = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(jax.jit(jax.vmap(known))(c), 4 * c[..., 0])
    np.testing.assert_array_equal(known(c[0]), 4 * c[0, :, 0])
