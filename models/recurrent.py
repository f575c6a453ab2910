"""Recurrent cells whose hidden map is a module of its own, computed once a pass and not once a time step.

h_t = φ(W h_{t−1} + U x_t + b), with W orthogonal by construction, near the identity, or free. A cell's carry is the
pair (h, W): `initialize_carry`, which `nnx.RNN` calls outside its scan, computes W, and the scan passes it on
unchanged, which JAX recognises and keeps out of the loop. `nnx.RNN` takes the first axis of everything in a carry for
the batch, so W stands there as [1, n, n], a batch of one that every sequence shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lax_linalg as la
from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from models.activations import Activation, activation
from models.catalog import OPEN, options_of, registry
from models.checks import positive
from models.dense import Dense
from models.initializers import Initializer, initializer
from models.parametrizations import OrthogonalMatrix

_activation = activation  # the constructors' argument of that name hides the function

OUTPUTS = ("last", "every")


class ModReLU(nnx.Module):
    """modReLU of real numbers, sign(z) max(|z| + b, 0) with a learned b for each unit: keeps the sign, as tanh does.

    A bias acts at every step, up to T b in all, so that over thousands of steps the usual range of initial values
    forgets: there start from `bias` = 0, and let b learn at a rate that falls as 1/T.

    Args:
        features: number of units.
        bias: the initial b are uniform on [−bias, bias]; ≥ 0.
        param_dtype: of b; the result has the dtype of z.
        rngs: their source.

    Raises:
        LinearAlgebraError: for a negative bias.

    Example:
        >>> phi = ModReLU(2, rngs=nnx.Rngs(0))
        >>> bool(jnp.allclose(phi(jnp.array([-1.0, 2.0])), jnp.array([-1.0, 2.0]), atol=0.02))
        True

    Source: Arjovsky, Shah and Bengio, arXiv:1511.06464, eq. 8; for real units Helfrich et al., arXiv:1707.09520.
    """

    def __init__(self, features: int, *, bias: float = 0.01, param_dtype: Any = jnp.float32, rngs: nnx.Rngs):
        if not bias >= 0:
            raise LinearAlgebraError(f"the range of modReLU's initial biases must be ≥ 0, got {bias!r}")
        self.bias = nnx.Param(jax.random.uniform(rngs.params(), (features,), param_dtype, -bias, bias))

    def __call__(self, z: jax.Array) -> jax.Array:
        b = self.bias[...].astype(z.dtype)
        # s is locally constant, so that it is all the loop over time has to keep for the derivative
        s = jax.lax.stop_gradient(jnp.where(jnp.abs(z) + b > 0, jnp.sign(z), 0))
        return s * (s * z + b)


class FreeMatrix(nnx.Module):
    """A matrix [n, n] without constraints.

    Args:
        size: n.
        kernel_init: initializer or its name.
        param_dtype: of the matrix.
        rngs: source of the initial values.

    Example:
        >>> FreeMatrix(3, rngs=nnx.Rngs(0))().shape
        (3, 3)
    """

    def __init__(
        self,
        size: int,
        *,
        kernel_init: str | Initializer = "lecun",
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        n = self.size = positive("size", size)
        self.kernel = nnx.Param(initializer(kernel_init)(rngs.params(), (n, n), param_dtype))

    def __call__(self) -> jax.Array:
        return self.kernel[...]


class NearIdentity(nnx.Module):
    """W = I + εA, A free or skew-symmetric: an Euler step of h' = A h, eigenvalues 1 + ελ(A).

    Args:
        size: n.
        epsilon: ε > 0.
        antisymmetric: take A = (K − Kᵀ)/√2, so that all |λ(W)| = 1 + O(ε²).
        param_dtype: of A.
        rngs: source of the initial A, Gaussian of variance 1/n.

    Raises:
        LinearAlgebraError: for ε that is not positive.

    Example:
        >>> W = NearIdentity(3, epsilon=0.01, rngs=nnx.Rngs(0))()
        >>> bool(jnp.max(jnp.abs(W - jnp.eye(3))) < 0.05)
        True

    Source: Chang, Chen, Haber and Chi, arXiv:1902.09689 (AntisymmetricRNN).
    """

    def __init__(
        self,
        size: int,
        *,
        epsilon: float = 0.01,
        antisymmetric: bool = False,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        n = self.size = positive("size", size)
        if not epsilon > 0:
            raise LinearAlgebraError(f"epsilon must be positive, got {epsilon!r}")
        self.epsilon, self.antisymmetric = float(epsilon), bool(antisymmetric)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (n, n), param_dtype) / n**0.5)

    def __call__(self) -> jax.Array:
        A = self.kernel[...]
        if self.antisymmetric:
            A = (A - A.T) / 2**0.5
        return jnp.eye(len(A), dtype=A.dtype) + self.epsilon * A


class RecurrentCell(nnx.RNNCellBase):
    """h' = φ(W h + U x + b) with a hidden map W that is computed once, by `initialize_carry`.

    The carry is (h, W), W [1, n, n]; a bare h is taken too, and then W is computed in that step. With `seq_lengths`
    and `return_carry`, `nnx.RNN` keeps the carry of every step until it has chosen each sequence's last one: T n²
    numbers for W.

    Args:
        in_features: size of x.
        hidden: module with a `size` n whose call gives W [n, n]: `OrthogonalMatrix`, `NearIdentity`, `FreeMatrix`.
        activation: "modrelu", or a name or function φ.
        kernel_init: initializer of U, or its name.
        modrelu_bias: range of modReLU's initial biases.
        dtype: of the computation and the states, into which inputs and parameters are cast; that of U unless given.
        param_dtype: of U, b and modReLU's biases.
        rngs: source of the initial weights.

    Raises:
        UnknownNameError: for an unknown activation or initializer.
        DimensionMismatch: for inputs of another size.
        LinearAlgebraError: for a negative range.

    Cost: 2(n² + n in_features) FLOPs an example and step.

    Example:
        >>> cell = RecurrentCell(3, NearIdentity(4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
        >>> nnx.RNN(cell)(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)
    """

    def __init__(
        self,
        in_features: int,
        hidden: Any,
        *,
        activation: str | Activation = "tanh",
        kernel_init: str | Initializer = "he",
        modrelu_bias: float = 0.01,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.hidden, self.dtype = hidden, dtype
        self.in_features = positive("in_features", in_features)
        self.features = hidden.size
        weights: Any = {"param_dtype": param_dtype, "rngs": rngs}
        self.input = Dense(in_features, self.features, kernel_init=kernel_init, dtype=dtype, **weights)
        self.activation: Any = (
            ModReLU(self.features, bias=modrelu_bias, **weights) if activation == "modrelu" else _activation(activation)
        )

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Callable | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(h₀, W): zeros [..., n] unless `carry_init` draws them, and the hidden map, computed here and only here."""
        shape = (*input_shape[:-1], self.features)
        W = self.hidden_map()
        if carry_init is None:
            return jnp.zeros(shape, W.dtype), W[None]
        key = rngs.carry() if isinstance(rngs, nnx.Rngs) else rngs() if callable(rngs) else jax.random.key(0)
        return carry_init(key, shape, W.dtype), W[None]

    def __call__(self, carry: Any, inputs: jax.Array) -> tuple[Any, jax.Array]:
        h, *shared = carry if isinstance(carry, tuple) else (carry,)
        h = self.advance(h, shared[0][0] if shared else self.hidden_map(), self.drive(inputs))
        return ((h, *shared) if shared else h), h

    def hidden_map(self) -> jax.Array:
        """W [n, n] in the dtype of the computation."""
        return self.hidden().astype(self.dtype or self.input.kernel[...].dtype)

    def drive(self, x: jax.Array) -> jax.Array:
        """U x + b [..., n] of inputs [..., in_features], in the dtype of the computation."""
        return self.input(jnp.asarray(x, self.dtype or self.input.kernel[...].dtype))

    def advance(self, h: jax.Array, W: jax.Array, u: jax.Array) -> jax.Array:
        """φ(W h + u) for states [..., n] and driven inputs u = U x + b [..., n]."""
        return self.activation(h @ W.T + u)

    def state_jacobian(self, h: jax.Array, x: jax.Array) -> la.LinearOperator:
        """∂h'/∂h = 𝒟(φ') W at one state [n] and input [in_features].

        Returns:
            An n × n operator.

        Example:
            >>> cell = OrthogonalRNNCell(2, 3, activation="identity", rngs=nnx.Rngs(0))
            >>> bool(la.isorthogonal(cell.state_jacobian(jnp.zeros(3), jnp.ones(2))))
            True
        """
        W, u = self.hidden_map(), self.drive(x)
        z = W @ h + u
        _, slope = jax.jvp(self.activation, (z,), (jnp.ones_like(z),))
        return la.Diagonal(slope) @ la.Dense(W)

    @property
    def num_feature_axes(self) -> int:
        """1: states are vectors."""
        return 1


class OrthogonalRNNCell(RecurrentCell):
    """A recurrent cell with an orthogonal hidden map: gradients through time neither explode nor, but for φ', vanish.

    Args:
        in_features: size of x.
        hidden_features: n.
        activation: "modrelu", or a name or function φ.
        kernel_init: initializer of U, or its name.
        modrelu_bias: range of modReLU's initial biases.
        dtype, param_dtype: see `RecurrentCell`.
        rngs: source of the initial weights.
        **options: of `OrthogonalMatrix`: parametrization, trivialization, rebase_every, init, reflections, negative.

    Raises:
        UnknownNameError, DimensionMismatch, LinearAlgebraError: as `OrthogonalMatrix`.

    Cost: as `RecurrentCell`, and the hidden map once a pass.

    Example:
        >>> cell = OrthogonalRNNCell(3, 4, parametrization="cayley", rngs=nnx.Rngs(0))
        >>> nnx.RNN(cell)(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)

    Source: Lezcano-Casado and Martínez-Rubio, arXiv:1901.08428.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        activation: str | Activation = "modrelu",
        kernel_init: str | Initializer = "he",
        modrelu_bias: float = 0.01,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        hidden = OrthogonalMatrix(hidden_features, param_dtype=param_dtype, rngs=rngs, **options)
        outer: Any = {"activation": activation, "kernel_init": kernel_init, "modrelu_bias": modrelu_bias}
        super().__init__(in_features, hidden, dtype=dtype, param_dtype=param_dtype, rngs=rngs, **outer)


hidden_maps: Registry[Callable[..., Any]] = Registry("cell")
"""Name of a cell -> its hidden map, a module of a size, of options, of `param_dtype` and `rngs`."""

hidden_maps.register("orthogonal")(OrthogonalMatrix)
hidden_maps.register("near_identity")(NearIdentity)


@hidden_maps.register("free")
def _free(size: int, *, hidden_init: str | Initializer = "lecun", param_dtype: Any, rngs: nnx.Rngs) -> FreeMatrix:
    return FreeMatrix(size, kernel_init=hidden_init, param_dtype=param_dtype, rngs=rngs)


@hidden_maps.register("irnn")
def _irnn(size: int, *, hidden_init: str | Initializer | None = None, **options: Any) -> FreeMatrix:
    start = _identity if hidden_init is None else hidden_init
    return FreeMatrix(size, kernel_init=start, **options)


def make_cell(
    kind: str,
    in_features: int,
    hidden_features: int,
    *,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> RecurrentCell:
    """A cell by name.

    Args:
        kind: "orthogonal"; "near_identity" (I + εA); "irnn" (starts at the identity, ReLU); "free" (Gaussian of
            variance 1/n unless `hidden_init` says otherwise).
        in_features, hidden_features: sizes.
        param_dtype: of all parameters.
        rngs: source of the initial weights.
        **options: those of `RecurrentCell`, and those of the hidden map: of `OrthogonalMatrix` or `NearIdentity`, or
            `hidden_init` of the irnn and free cells.

    Raises:
        UnknownNameError: for another kind, or an option that the cell does not have.

    Example:
        >>> make_cell("irnn", 2, 3, rngs=nnx.Rngs(0)).hidden()[0]
        Array([1., 0., 0.], dtype=float32)

    Source: Le, Jaitly and Hinton, arXiv:1504.00941 (IRNN).
    """
    weights: dict[str, Any] = {"param_dtype": param_dtype, "rngs": rngs}
    of_cell, of_hidden = (
        options_of(build, "in_features", "hidden", "size") for build in (RecurrentCell, hidden_maps[kind])
    )
    known = [name for name in (*of_cell, *of_hidden) if name != OPEN]
    for name in options:
        if name not in known:
            raise UnknownNameError.of(f"option of the cell {kind!r}:", name, known)
    if kind == "orthogonal":
        return OrthogonalRNNCell(in_features, hidden_features, **weights, **options)
    if kind == "irnn":
        options = {"activation": "relu", **options}
    own = {name: options.pop(name) for name in of_hidden if name in options}
    return RecurrentCell(in_features, hidden_maps[kind](hidden_features, **own, **weights), **options, **weights)


def _identity(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return jnp.eye(shape[0], dtype=dtype)


@registry.register("rnn")
class RecurrentNet(nnx.Module):
    """A recurrent network on sequences [B, T, d]: a cell, driven by one scan, and a dense head.

    U x_t + b of all times is one matrix product in front of the scan, and W is computed once; a step of the scan is
    φ(W h + u_t).

    Args:
        input_shape: (T, d) of one sequence; more axes are flattened into T single numbers, as pixels are.
        num_classes: outputs of the head.
        hidden: number of units n.
        cell: "orthogonal", "near_identity", "irnn" or "free".
        outputs: "last" (logits [B, C] from the last state) or "every" (logits [B, T, C]).
        head_init: initializer of the head, or its name; "zeros" starts from equal logits.
        dtype, param_dtype: of cell and head; see `RecurrentCell`.
        rngs: source of the initial weights.
        **options: of the cell; see `make_cell`.

    Raises:
        UnknownNameError: for unknown names, or an option that the cell does not have.
        DimensionMismatch: for sizes < 1.

    Cost: 2 T (n² + n d) FLOPs a sequence, and O(n³) for W.

    Example:
        >>> net = RecurrentNet(input_shape=(7, 3), num_classes=2, hidden=8, rngs=nnx.Rngs(0))
        >>> net(jnp.ones((5, 7, 3))).shape
        (5, 2)
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        hidden: int = 128,
        cell: str = "orthogonal",
        outputs: str = "last",
        head_init: str | Initializer = "he",
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        if outputs not in OUTPUTS:
            raise UnknownNameError.of("outputs", outputs, OUTPUTS)
        self.outputs = outputs
        self.pixels = len(input_shape) != 2
        weights: Any = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.cell = make_cell(cell, 1 if self.pixels else input_shape[1], hidden, **weights, **options)
        self.head = Dense(self.cell.features, num_classes, kernel_init=head_init, **weights)

    def states(self, x: jax.Array) -> jax.Array:
        """All states [T, B, n] of sequences [B, T, d]."""
        return self._run(x)[0]

    def _run(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(States, driven inputs [T, B, n], W [n, n]) of sequences [B, T, d]."""
        W = self.cell.hidden_map()
        drive = self.cell.drive(jnp.swapaxes(x, 0, 1))  # the inputs are turned to time-major, not the larger product

        def step(h: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = self.cell.advance(h, W, u)
            return h, h

        return jax.lax.scan(step, jnp.zeros_like(drive[0]), drive)[1], drive, W

    def __call__(self, x: jax.Array) -> jax.Array:
        states = self.states(self.sequences(x))
        if self.outputs == "last":
            return self.head(states[-1])
        return jnp.swapaxes(self.head(states), 0, 1)

    def sequences(self, x: jax.Array) -> jax.Array:
        """The inputs as sequences [B, T, d]."""
        if self.pixels:
            return x.reshape(x.shape[0], -1, 1)
        if x.ndim != 3 or x.shape[-1] != self.cell.in_features:
            raise DimensionMismatch(f"rnn takes sequences [B, T, {self.cell.in_features}], got shape {list(x.shape)}")
        return x

    def state_samples(self, x: jax.Array, count: int = 8) -> tuple[jax.Array, jax.Array, jax.Array]:
        """States and inputs at evenly spaced times, at which `la.layer_jacobians` and probes show ∂h'/∂h as "time".

        Args:
            x: inputs as the network takes them.
            count: how many times at most, the last one among them.

        Returns:
            (states h [count, B, n] before these times, driven inputs u [count, B, n], W [n, n]).

        Example:
            >>> net = RecurrentNet(input_shape=(7, 3), num_classes=2, hidden=4, rngs=nnx.Rngs(0))
            >>> [array.shape for array in net.state_samples(jnp.ones((5, 7, 3)))]
            [(7, 5, 4), (7, 5, 4), (4, 4)]
        """
        states, drive, W = self._run(self.sequences(x))
        states, T = jnp.concatenate([jnp.zeros_like(states[:1]), states]), len(drive)
        times = np.linspace(0, T - 1, min(count, T)).round().astype(int)
        return states[times], drive[times], W

    def state_step(self, h: jax.Array, u: jax.Array, W: jax.Array) -> jax.Array:
        """One step of the state, φ(W h + u).

        Example:
            >>> net = RecurrentNet(input_shape=(7, 3), num_classes=2, hidden=4, rngs=nnx.Rngs(0))
            >>> net.state_step(jnp.ones(4), jnp.ones(4), jnp.eye(4)).shape
            (4,)
        """
        return self.cell.advance(h, W, u)

    def state_jacobians(self, x: jax.Array) -> la.Batch:
        """J_t = ∂h_t/∂h_{t−1} along one sequence, for `la.svdvals`, `la.lyapunov_exponents` and the like.

        Args:
            x: one input, as one example of a batch.

        Returns:
            The Jacobians over time, [T, n, n] when materialised.

        Example:
            >>> net = RecurrentNet(input_shape=(7, 3), num_classes=2, hidden=4, activation="identity", rngs=nnx.Rngs(0))
            >>> J = net.state_jacobians(jnp.ones((7, 3)))
            >>> print(jnp.round(jnp.abs(la.lyapunov_exponents(J).exponents), 4))
            [0. 0. 0. 0.]
        """
        W, drive = self.cell.hidden_map(), self.cell.drive(self.sequences(x[None])[0])
        return la.recurrent_jacobians(lambda h, u: self.cell.advance(h, W, u), jnp.zeros_like(drive[0]), drive)
