"""`HostOperator`: a linear operator of SciPy, applied on the host."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator, operator
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.verbs.arithmetic import conj, transpose


@operator(data=(), meta=("linear_operator",))
class HostOperator(LinearOperator):
    """A `scipy.sparse.linalg.LinearOperator`, or a sparse array of SciPy, in compiled programs: a call of the host.

    Args:
        linear_operator: what `scipy.sparse.linalg.aslinearoperator` takes.

    Raises:
        LinearAlgebraError: for another object.

    Cost: that of the operator, and a copy of the vectors to the host and back.

    Example:
        >>> import scipy.sparse, lax_linalg as la
        >>> A = la.HostOperator(scipy.sparse.diags_array([2.0, 3.0]))
        >>> print(A.T @ [1.0, 1.0])
        [2. 3.]
    """

    linear_operator: Any

    def _validate(self) -> None:
        from scipy.sparse.linalg import aslinearoperator

        try:
            object.__setattr__(self, "linear_operator", aslinearoperator(self.linear_operator))
        except TypeError as error:
            raise LinearAlgebraError(f"HostOperator takes a linear operator of SciPy: {error}") from None

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.linear_operator.shape
        return int(m), int(n)

    @property
    def dtype(self) -> jnp.dtype:
        return jax.dtypes.canonicalize_dtype(self.linear_operator.dtype)

    def _matmat(self, X: jax.Array) -> jax.Array:
        dtype = jnp.result_type(self.dtype, X.dtype)
        result = jax.ShapeDtypeStruct((self.shape[0], X.shape[1]), dtype)

        def product(_: Any, X: jax.Array) -> jax.Array:
            on_host = lambda X: np.asarray(self.linear_operator @ np.asarray(X), dtype)  # noqa: E731
            return jax.pure_callback(on_host, result, X, vmap_method="sequential")

        return jax.custom_derivatives.linear_call(product, lambda _, Y: self.T._matmat(Y), (), X.astype(dtype))

    def _describe(self) -> str:
        return f"of {type(self.linear_operator).__name__}"


@transpose.rule(HostOperator, cost="O(1)")
def _(A: HostOperator) -> HostOperator:
    """SciPy's transpose."""
    return HostOperator(A.linear_operator.T)


@conj.rule(HostOperator, cost="O(1)")
def _(A: HostOperator) -> HostOperator:
    """The transpose of SciPy's adjoint."""
    return HostOperator(A.linear_operator.H.T)


def to_scipy(A: MatrixLike) -> Any:
    """The matrix as a `scipy.sparse.linalg.LinearOperator`, for SciPy's iterative methods.

    Example:
        >>> import numpy as np, scipy.sparse.linalg, lax_linalg as la
        >>> x, _ = scipy.sparse.linalg.cg(la.to_scipy(la.SymTridiagonal([4.0, 4.0], [1.0])), np.ones(2))
        >>> print(x.round(3))
        [0.2 0.2]
    """
    import scipy.sparse.linalg

    make: Any = scipy.sparse.linalg.LinearOperator
    A = as_operator(A)
    forward, backward = jax.jit(lambda X: A @ X), jax.jit(lambda X: A.H @ X)
    return make(
        A.shape,
        matvec=lambda x: np.asarray(forward(np.ravel(x))),
        rmatvec=lambda x: np.asarray(backward(np.ravel(x))),
        matmat=lambda X: np.asarray(forward(X)),
        rmatmat=lambda X: np.asarray(backward(X)),
        dtype=np.dtype(A.dtype),
    )
