"""Which dense algorithm runs where: the only file that knows about CPU, GPU and TPU.

XLA has the nonsymmetric eigenvalue problem and the Schur form through LAPACK on the CPU only; elsewhere the matrix goes
to the host, is factorised by NumPy or SciPy and comes back, within the same jitted program. `forced` overrides that.

On the CPU a stack of matrices is factorised by a loop, one matrix after the other. XLA's own call for a stack waits for
threads that such calls hold: as many of them at a time as there are cores wait for each other forever (jaxlib before
0.11). Loops of one program run one after the other, too; outside of `jit` a large stack is shared among the cores, a
program for each. Cholesky, LU and QR of stacks are XLA's own; where a program has several independent ones of those on
few cores, set the environment variable PJRT_NPROC=1.

| factorisation | CPU | GPU | TPU |
| --- | --- | --- | --- |
| eigvalsh, eigh | LAPACK syevd, heevd | XLA's | XLA's |
| svdvals | LAPACK gesvd, `gram_svdvals` for stacks | XLA's choice of QR, Jacobi, polar, or `svd_algorithm` | the same |
| svd | LAPACK gesdd | the same | the same |
| eigvals, eig | LAPACK geev | host, NumPy | host, NumPy |
| schur | LAPACK gees | host, SciPy | host, SciPy |
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.buffer_callback import buffer_callback

from lax_linalg.core.eager_checks import above_rounding, decided
from lax_linalg.dense.gram_svdvals import gram_svdvals, small_and_single
from lax_linalg.dense.scaling import at_unit_scale
from lax_linalg.errors import NotDifferentiableError, UnknownNameError

ROUTES = ("auto", "device", "host")
_route = jax.make_user_context("auto")  # part of the key of every program, `jit` of the caller included


def forced(route: str) -> contextlib.AbstractContextManager[None]:
    """Force the dense factorisations below onto the device or the host inside the block.

    JAX's key of a compiled function holds the route, so that a function under `jit` is compiled once for each.

    Args:
        route: "auto" (device where it has the algorithm), "device" or "host".

    Raises:
        UnknownNameError: for another route.

    Example:
        >>> import jax.numpy as jnp
        >>> with forced("host"):
        ...     print(eigvals(jnp.diag(jnp.array([1.0, 2.0]))))
        [1.+0.j 2.+0.j]
    """
    if route not in ROUTES:
        raise UnknownNameError.of("route", route, ROUTES)
    return _route(route)


SVD_ALGORITHMS = ("default", "qr", "jacobi", "polar")
_svd_algorithm = jax.make_user_context("default")


def svd_algorithm(name: str) -> contextlib.AbstractContextManager[None]:
    """Choose the accelerator's SVD algorithm inside the block, as `forced` does; the CPU has LAPACK's and keeps it.

    Polar (QDWH) is made of matrix products and fast for large matrices on TPUs; Jacobi is accurate for small singular
    values and fast for small matrices on GPUs; QR is the classical algorithm. Not every device has every one: XLA says
    so when it compiles.

    Args:
        name: "default" (XLA's choice for the device), "qr", "jacobi" or "polar".

    Raises:
        UnknownNameError: for another name.

    Example:
        >>> import jax.numpy as jnp
        >>> with svd_algorithm("qr"):
        ...     print(svdvals(jnp.eye(2)))
        [1. 1.]

    Source: Nakatsukasa & Higham, SIAM J. Sci. Comput. 35 (2013), for the polar one.
    """
    if name not in SVD_ALGORITHMS:
        raise UnknownNameError.of("SVD algorithm", name, SVD_ALGORITHMS)
    return _svd_algorithm(name)


# --- one matrix or a stack ---


@functools.cache
def _of_stacks(
    cpu: Callable[[jax.Array], Any],
    elsewhere: Callable[[jax.Array], Any],
    cpu_stack: Callable[[jax.Array], Any] | None = None,
) -> Callable[[jax.Array], Any]:
    """A function of one matrix, which `vmap` maps over a stack: by vmap, and on the CPU by a loop or as it is told.

    Of a matrix that is not finite the results are NaN. The routines see zeros in its place: some of LAPACK's never
    return from an infinity, others make plausible numbers of NaN.
    """
    looped = functools.partial(jax.lax.map, cpu) if cpu_stack is None else cpu_stack

    @jax.custom_batching.custom_vmap
    def stacked(a: jax.Array) -> Any:
        finite = jnp.isfinite(a).all((-2, -1))
        *lead, m, n = a.shape
        a = jnp.where(finite[..., None, None], a, 0)
        if not lead:
            found = jax.lax.platform_dependent(a, cpu=cpu, default=elsewhere)
        else:
            found = jax.lax.platform_dependent(a.reshape(-1, m, n), cpu=looped, default=jax.vmap(elsewhere))

        def defined(x: jax.Array) -> jax.Array:
            x = x.reshape(*lead, *x.shape[min(len(lead), 1) :])
            return jnp.where(jnp.expand_dims(finite, range(len(lead), x.ndim)), x, jnp.nan)

        return jax.tree.map(defined, found)

    @stacked.def_vmap
    def _(size: int, batched: Any, a: jax.Array) -> tuple[Any, Any]:
        result = stacked(a)
        return result, jax.tree.map(lambda _: True, result)

    return jax.jit(stacked, inline=True)  # so that `vmap` outside of `jit` compiles once


def each(function: Callable[[jax.Array], Any], a: jax.Array) -> Any:
    """A factorisation of every matrix of a stack, shared among the cores of a CPU outside of `jit`.

    Args:
        function: of one matrix, one of this module's; it is compiled once for each function and shape, so not a lambda.
        a: matrices [..., m, n].

    Returns:
        What the function gives, stacked [..., ·].

    Example:
        >>> import jax.numpy as jnp
        >>> each(svdvals, jnp.ones((4, 2, 3, 5))).shape
        (4, 2, 3)
    """
    if _worth_sharing(a):
        return _on_all_cores(function, a)
    return (_mapped if isinstance(a, Tracer) else _whole)(function, a)


def _mapped(function: Callable[[jax.Array], Any], a: jax.Array) -> Any:
    for _ in range(a.ndim - 2):
        function = jax.vmap(function)
    return function(a)


_whole = jax.jit(_mapped, static_argnums=0)
"""The function of a whole stack, so that a second call outside of `jit` compiles nothing."""


SHARED_WORK = 2**20
"""From how many multiplications on a stack outside of `jit` is shared among the cores; about a millisecond."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _worth_sharing(a: jax.Array) -> bool:
    """Whether a is a large stack in this CPU's memory, known outside of any program."""
    if isinstance(a, Tracer) or a.size * min(a.shape[-2:]) < SHARED_WORK or _cores() == 1:
        return False
    (device, *others), count = a.devices(), math.prod(a.shape[:-2])
    return device.platform == "cpu" and not others and count >= 2 * _cores() and _route.value != "host"


@functools.lru_cache(maxsize=128)
def _share(function: Callable[[jax.Array], Any], aval: jax.ShapeDtypeStruct, size: int) -> Any:
    """The program for `size` matrices of a stack; compiled, since a thread has a configuration of its own."""

    def loop(a: jax.Array, first: jax.Array) -> Any:
        stack = a.reshape(-1, *a.shape[-2:])
        return jax.vmap(function)(jax.lax.dynamic_slice_in_dim(stack, first, size))

    return jax.jit(loop).lower(aval, jax.ShapeDtypeStruct((), np.int32)).compile()


@functools.partial(jax.jit, static_argnums=0)
def _joined(lead: tuple[int, ...], shares: list[Any]) -> Any:
    """The shares' results as one stack [*lead, …]; what the last one repeats is cut off."""
    count = math.prod(lead)

    def join(*parts: jax.Array) -> jax.Array:
        repeated = sum(len(part) for part in parts) - count
        return jnp.concatenate([*parts[:-1], parts[-1][repeated:]]).reshape(*lead, *parts[0].shape[1:])

    return jax.tree.map(join, *shares)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="lax-linalg")


def _on_all_cores(function: Callable[[jax.Array], Any], a: jax.Array) -> Any:
    """The function of every matrix of a stack [..., m, n]: loops over shares of it, of which each core takes the next.

    There are several shares for each core, so that none waits long for another that came late or is slow.
    """
    *lead, _, _ = a.shape
    count, cores = math.prod(lead), _cores()
    size = -(-count // (4 * cores))
    loop = _share(function, jax.ShapeDtypeStruct(a.shape, a.dtype), size)
    starts = [np.int32(min(first, count - size)) for first in range(0, count, size)]
    shares: list[Any] = [None] * len(starts)
    left = deque(range(len(starts)))
    a.block_until_ready()  # a program whose input is at hand runs in the thread that calls it

    def work() -> None:
        while True:
            try:
                share = left.popleft()
            except IndexError:  # the others took the rest
                return
            shares[share] = loop(a, starts[share])

    others = [_threads().submit(work) for _ in range(cores - 1)]
    work()
    for other in others:
        if not other.cancel():
            other.result()
    return _joined(tuple(lead), shares)


def _choose(cpu: Callable[[jax.Array], Any], host: Callable[[jax.Array], Any], a: jax.Array) -> Any:
    """The factorisation where the route says, for what no other device has."""
    route = _route.value
    return host(a) if route == "host" else _of_stacks(cpu, host if route == "auto" else cpu)(a)


def _complex(dtype: Any) -> Any:
    return jnp.result_type(dtype, jnp.complex64)


def _callback(function: Callable[[np.ndarray], Any], result: Any, a: jax.Array) -> Any:
    """The function of one matrix on the host, as part of a program; `result` gives shapes and dtypes for one matrix."""

    def of_stack(stack: np.ndarray) -> list[np.ndarray]:
        """Matrix by matrix on all cores; NumPy and SciPy let go of the interpreter while LAPACK works."""
        matrices = stack.reshape(-1, *stack.shape[-2:])
        avals = jax.tree.leaves(result)

        def one(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
            if not np.isfinite(matrix).all():  # NumPy raises where XLA gives NaN
                return tuple(np.full(aval.shape, np.nan, aval.dtype) for aval in avals)
            found = function(matrix)
            parts = found if isinstance(found, tuple) else (found,)
            return tuple(np.asarray(part, aval.dtype) for part, aval in zip(parts, avals))

        if len(matrices) == 1:
            columns = [[part] for part in one(matrices[0])]
        else:
            with ThreadPoolExecutor(min(len(matrices), os.cpu_count() or 1)) as pool:
                columns = list(zip(*pool.map(one, matrices)))
        return [np.stack(column).reshape(*stack.shape[:-2], *aval.shape) for column, aval in zip(columns, avals)]

    def in_place(_: Any, out: Any, stack: Any) -> None:
        for buffer, values in zip(jax.tree.leaves(out), of_stack(np.asarray(stack))):
            np.asarray(buffer)[...] = values

    def returned(stack: Any) -> Any:
        return jax.tree.unflatten(jax.tree.structure(result), of_stack(np.asarray(stack)))

    # pure_callback makes JAX arrays of its arguments, a copy that waits for the CPU's threads, of which this call holds
    # one: on few cores it waits forever (https://github.com/jax-ml/jax/issues/24255). Buffers are read where they are.
    return jax.lax.platform_dependent(
        a,
        cpu=buffer_callback(in_place, result, vmap_method="expand_dims"),
        default=lambda a: jax.pure_callback(returned, result, a, vmap_method="expand_dims"),
    )


# --- singular values: every platform has them; the host route exists for devices where LAPACK is faster ---


@functools.cache
def _svd_routines(full_matrices: bool | None, name: str) -> Callable[[jax.Array], Any]:
    """The device's SVD by an algorithm of `SVD_ALGORITHMS`; values only where `full_matrices` is None."""
    options: Any = {"compute_uv": False} if full_matrices is None else {"full_matrices": full_matrices}
    # without vectors gesvd ends in dqds, faster than gesdd's way and no less accurate
    lapack = jax.lax.linalg.SvdAlgorithm.QR if full_matrices is None else None
    chosen = None if name == "default" else getattr(jax.lax.linalg.SvdAlgorithm, name.upper())

    def by(algorithm: Any) -> Callable[[jax.Array], Any]:
        def routine(a: jax.Array) -> Any:
            found = jax.lax.linalg.svd(a, algorithm=algorithm, **options)
            return found if full_matrices is None else tuple(found)

        return routine

    if full_matrices is not None:
        return _of_stacks(by(lapack), by(chosen))

    def stack(a: jax.Array) -> jax.Array:
        return gram_svdvals(a) if takes_gram(min(a.shape[-2:]), a.dtype) else jax.lax.map(by(lapack), a)

    return _of_stacks(by(lapack), by(chosen), stack)


def takes_gram(side: int, dtype: jnp.dtype) -> bool:
    """Whether values of stacks of matrices with this smaller side come from Gram matrices in what is traced now.

    Example:
        >>> import jax.numpy as jnp
        >>> with forced("host"):
        ...     takes_gram(16, jnp.dtype("float32"))
        False
    """
    return _route.value != "host" and small_and_single(side, dtype)


def svdvals(a: jax.Array) -> jax.Array:
    """Singular values of [m, n], descending, without vectors. LAPACK gesvd on the CPU. O(mn min(m, n)).

    Example:
        >>> import jax.numpy as jnp
        >>> print(svdvals(jnp.diag(jnp.array([1.0, 2.0]))))
        [2. 1.]
    """
    if 0 in a.shape:
        return jnp.zeros((min(a.shape),), jnp.finfo(a.dtype).dtype)
    return _SVDVALS(a)


@jax.custom_jvp
def _svdvals(a: jax.Array) -> jax.Array:
    if _route.value != "host":
        return _svd_routines(None, _svd_algorithm.value)(a)
    shape = jax.ShapeDtypeStruct((min(a.shape),), jnp.finfo(a.dtype).dtype)
    return _callback(lambda y: np.linalg.svd(y, compute_uv=False), shape, a)


@_svdvals.defjvp
def _svdvals_jvp(primals, tangents):
    # dσ_i = Re u_iᴴ dA v_i (Magnus & Neudecker); where values repeat, any orthonormal choice gives a valid subgradient
    (a,), (da,) = primals, tangents
    u, s, vt = _svd(False, a)
    return s, jnp.real(jnp.einsum("ik,ij,kj->k", u.conj(), da, vt.conj()))


_SVDVALS = at_unit_scale(_svdvals, 1)


def full_svd(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`svd` with square U [m, m] and Vᴴ [n, n], as a function for `each`.

    Example:
        >>> import jax.numpy as jnp
        >>> [part.shape for part in full_svd(jnp.ones((2, 3)))]
        [(2, 2), (2,), (3, 3)]
    """
    return svd(a, full_matrices=True)


def svd(a: jax.Array, full_matrices: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U [m, k], σ [k] descending, Vᴴ [k, n] with A = U diag(σ) Vᴴ. O(mn min(m, n)).

    Example:
        >>> import jax.numpy as jnp
        >>> u, s, vt = svd(jnp.ones((2, 3)))
        >>> u.shape, s.shape, vt.shape
        ((2, 2), (2,), (2, 3))
    """
    m, n = a.shape
    if 0 in a.shape:
        k, l = (m, n) if full_matrices else (0, 0)
        real = jnp.finfo(a.dtype).dtype
        return jnp.eye(m, k, dtype=a.dtype), jnp.zeros((0,), real), jnp.eye(l, n, dtype=a.dtype)
    return _SVD[full_matrices](a)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _svd(full_matrices: bool, a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    if _route.value != "host":
        return _svd_routines(full_matrices, _svd_algorithm.value)(a)
    m, n = a.shape
    k = min(m, n)
    left, right = (m, n) if full_matrices else (k, k)
    shapes = ((m, left), a.dtype), ((k,), jnp.finfo(a.dtype).dtype), ((right, n), a.dtype)
    result = tuple(jax.ShapeDtypeStruct(*shape) for shape in shapes)
    return _callback(lambda y: tuple(np.linalg.svd(y, full_matrices=full_matrices)), result, a)


@_svd.defjvp
def _svd_jvp(full_matrices, primals, tangents):
    # Uᴴ dU and Vᴴ dV from the off-diagonal of P = Uᴴ dA V, the rest from what lies outside of their ranges
    (a,), (da,) = primals, tangents
    m, n = a.shape
    u, s, vt = _svd(full_matrices, a)
    if full_matrices and m != n:
        raise NotImplementedError("the derivative of a complete SVD exists for square matrices only; use full=False")
    v = vt.conj().T
    p = u.conj().T @ da @ v
    gaps = (s[None, :] - s[:, None]) * (s[None, :] + s[:, None])
    f = jnp.where(gaps == 0, 0, 1 / jnp.where(gaps == 0, 1, gaps))
    inverse = jnp.where(s == 0, 0, 1 / jnp.where(s == 0, 1, s))
    ps, sp = p * s[None, :], p * s[:, None]
    turn = 0.5 * jnp.diag((jnp.diagonal(p) - jnp.diagonal(p).conj()) * inverse)
    du = u @ (f * (ps + ps.conj().T) + turn)
    dv = v @ (f * (sp + sp.conj().T))
    if m > n:
        rest = da @ v
        du = du + (rest - u @ (u.conj().T @ rest)) * inverse
    if n > m:
        rest = da.conj().T @ u
        dv = dv + (rest - v @ (v.conj().T @ rest)) * inverse
    return (u, s, vt), (du, jnp.real(jnp.diagonal(p)), dv.conj().T)


_SVD = {full: at_unit_scale(functools.partial(_svd, full), 0, 1, 0) for full in (False, True)}


# --- Hermitian eigenproblem ---


def eigvalsh(a: jax.Array) -> jax.Array:
    """Eigenvalues of a Hermitian [n, n], ascending, from its lower triangle. LAPACK syevd on the CPU.

    Cost: O(9n³), like `eigh`: XLA's call of LAPACK forms the vectors, too.

    Example:
        >>> import jax.numpy as jnp
        >>> print(eigvalsh(jnp.diag(jnp.array([2.0, 1.0]))))
        [1. 2.]
    """
    return _EIGVALSH(a) if a.size else jnp.zeros((0,), jnp.finfo(a.dtype).dtype)


@jax.custom_jvp
def _eigvalsh(a: jax.Array) -> jax.Array:
    return _of_stacks(_xla_eigvalsh, _xla_eigvalsh)(a)


def _xla_eigvalsh(a: jax.Array) -> jax.Array:
    return jnp.linalg.eigvalsh(a, symmetrize_input=False)


@_eigvalsh.defjvp
def _eigvalsh_jvp(primals, tangents):
    # dλ_i = v_iᴴ dA v_i; where values repeat, any orthonormal choice gives a valid subgradient
    (a,), (da,) = primals, tangents
    w, v = _eigh(a)
    return w, jnp.real(jnp.einsum("ik,ij,jk->k", v.conj(), da, v))


_EIGVALSH = at_unit_scale(_eigvalsh, 1)


def eigh(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues [n], ascending, and orthonormal eigenvectors [n, n] of a Hermitian matrix. O(9n³).

    Example:
        >>> import jax.numpy as jnp
        >>> w, v = eigh(jnp.eye(2))
        >>> v.shape
        (2, 2)
    """
    return _EIGH(a) if a.size else (jnp.zeros((0,), jnp.finfo(a.dtype).dtype), a)


@jax.custom_jvp
def _eigh(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _of_stacks(_xla_eigh, _xla_eigh)(a)


def _xla_eigh(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    w, v = jnp.linalg.eigh(a, symmetrize_input=False)
    return w, v


@_eigh.defjvp
def _eigh_jvp(primals, tangents):
    # Vᴴ dV = F ∘ (Vᴴ dA V) with F_ij = 1/(λ_j − λ_i), undefined where eigenvalues repeat
    (a,), (da,) = primals, tangents
    w, v = _eigh(a)
    p = v.conj().T @ da @ v
    diagonal = jnp.eye(w.shape[0], dtype=bool)
    gaps = jnp.where(diagonal, 1, w[None, :] - w[:, None])
    return (w, v), (jnp.real(jnp.diagonal(p)), v @ jnp.where(diagonal, 0, p / gaps))


_EIGH = at_unit_scale(_eigh, 1, 0)


# --- nonsymmetric eigenproblem ---


def eigvals(a: jax.Array) -> jax.Array:
    """Eigenvalues of [n, n], complex, unsorted. LAPACK geev on the CPU, on the host elsewhere. O(10 n³).

    Example:
        >>> import jax.numpy as jnp
        >>> print(eigvals(jnp.eye(1)))
        [1.+0.j]
    """
    if a.shape[-1] == 0:
        return jnp.zeros((0,), _complex(a.dtype))
    return _EIGVALS(a)


@jax.custom_jvp
def _eigvals(a: jax.Array) -> jax.Array:
    return _choose(jnp.linalg.eigvals, _host_eigvals, a)


def _host_eigvals(a: jax.Array) -> jax.Array:
    return _callback(np.linalg.eigvals, jax.ShapeDtypeStruct(a.shape[:1], _complex(a.dtype)), a)


@_eigvals.defjvp
def _eigvals_jvp(primals, tangents):
    # dλ_i = (V⁻¹ dA V)_ii; grows with the eigenvalue's condition number and is undefined at a defective matrix
    (a,), (da,) = primals, tangents
    w, v = _eig(a)
    independent = above_rounding(svdvals(v), v.shape[0])
    if decided(independent) is False:
        raise NotDifferentiableError("eigenvalues have no derivative at a defective matrix")
    return w, jnp.where(independent, jnp.diagonal(jnp.linalg.solve(v, da.astype(v.dtype) @ v)), jnp.nan)


_EIGVALS = at_unit_scale(_eigvals, 1)
"""LAPACK's geev, too, scales what is near the end of the range; XLA's call hands back eigenvalues of that matrix."""


def eig(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues [n] and unit right eigenvectors as columns [n, n], complex. O(25 n³).

    Example:
        >>> import jax.numpy as jnp
        >>> w, v = eig(jnp.eye(2))
        >>> v.shape
        (2, 2)
    """
    n, dtype = a.shape[-1], _complex(a.dtype)
    if n == 0:
        return jnp.zeros((0,), dtype), jnp.zeros((0, 0), dtype)
    return _EIG(a)


@jax.custom_jvp
def _eig(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _choose(_xla_eig, _host_eig, a)


def _xla_eig(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    w, v = jnp.linalg.eig(a)
    return w, v


def _host_eig(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    n, dtype = a.shape[-1], _complex(a.dtype)
    shapes = (jax.ShapeDtypeStruct((n,), dtype), jax.ShapeDtypeStruct((n, n), dtype))
    return _callback(lambda y: tuple(np.linalg.eig(y)), shapes, a)


@_eig.defjvp
def _eig_jvp(primals, tangents):
    # V⁻¹ dV = F ∘ (V⁻¹ dA V) with F_ij = 1/(λ_j − λ_i), undefined where eigenvalues repeat; the multiple of v_j that is
    # left free keeps LAPACK's normalisation: unit 2-norm, largest component real
    (a,), (da,) = primals, tangents
    w, v = _eig(a)
    m = jnp.linalg.solve(v, da.astype(v.dtype) @ v)
    diagonal = jnp.eye(w.shape[0], dtype=bool)
    gaps = jnp.where(diagonal, 1, w[None, :] - w[:, None])
    dv = v @ jnp.where(diagonal, 0, m / gaps)
    pivot = jnp.argmax(jnp.abs(v), axis=0)[None, :]
    turn = jnp.take_along_axis(dv, pivot, 0) / jnp.take_along_axis(v, pivot, 0)
    stretch = jnp.real(jnp.sum(v.conj() * dv, axis=0))
    return (w, v), (jnp.diagonal(m), dv - v * (stretch + 1j * jnp.imag(turn)))


_EIG = at_unit_scale(_eig, 1, 0)


def schur(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Complex Schur form: T upper triangular, Z unitary, A = Z T Zᴴ; LAPACK gees, on the host off the CPU. O(25 n³).

    Example:
        >>> import jax.numpy as jnp
        >>> t, z = schur(jnp.array([[0.0, 1.0], [-1.0, 0.0]]))
        >>> bool(jnp.allclose(z @ t @ z.conj().T, jnp.array([[0, 1], [-1, 0]]), atol=1e-6))
        True
    """
    n, dtype = a.shape[-1], _complex(a.dtype)
    if n == 0:
        return jnp.zeros((0, 0), dtype), jnp.zeros((0, 0), dtype)
    return _SCHUR(a.astype(dtype))


def _lapack_schur(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    t, z = jax.lax.linalg.schur(a)
    return t, z


def _host_schur(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _callback(_scipy_schur, (jax.ShapeDtypeStruct(a.shape, a.dtype),) * 2, a)


def _scipy_schur(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import scipy.linalg

    t, z = scipy.linalg.schur(a, output="complex")  # type: ignore[misc]
    return t, z


_SCHUR = at_unit_scale(functools.partial(_choose, _lapack_schur, _host_schur), 1, 0)
