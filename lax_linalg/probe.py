"""`SpectrumProbe`: all layers' Jacobian spectra during training, without the training step waiting for a host.

A submission dispatches one compiled program (layers × probe inputs × quantities) to the device and returns. One worker
thread waits for the result, copies it to the host and does there what was asked of it; at most `max_pending`
submissions are under way, and one beyond that is skipped and recorded as such. With a budget, `due` says when the next
one may start.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lax_linalg.budget import ProbeBudget
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from lax_linalg.jacobian.arguments import Inputs
from lax_linalg.jacobian.layers import ByLayer, jacobians_of, patterns_of
from lax_linalg.jacobian.operator import DEFAULT_MEMORY_BUDGET, require_bytes
from lax_linalg.jacobian.trace import Structure, structure_of
from lax_linalg.operators.batch import Batch, Stack
from lax_linalg.registry import Registry
from lax_linalg.verbs.basic import materialize
from lax_linalg.verbs.eigen import eigvals
from lax_linalg.verbs.svd import svdvals

FACTORISE_ON = ("device", "host")

probe_quantities: Registry[Callable[[Batch], jax.Array | None]] = Registry("probe quantity")


@probe_quantities.register("singular_values")
def singular_values(J: Batch) -> jax.Array:
    """All singular values of each Jacobian, descending, [B, min(m, n)]. O(B mn min(m, n)).

    Args:
        J: a layer's Jacobians.

    Returns:
        Real array [B, k].

    Example:
        >>> import lax_linalg as la
        >>> print(singular_values(la.layer_jacobians([jnp.tanh], jnp.zeros((1, 2)))["0"]))
        [[1. 1.]]
    """
    return J.map_verb(svdvals)


@probe_quantities.register("eigenvalues")
def eigenvalues(J: Batch) -> jax.Array | None:
    """All eigenvalues of each Jacobian, [B, n] complex; None for layers whose input and output sizes differ. O(B n³).

    Args:
        J: a layer's Jacobians.

    Returns:
        Complex array [B, n] or None.

    Example:
        >>> import lax_linalg as la
        >>> print(eigenvalues(la.layer_jacobians([jnp.tanh], jnp.zeros((1, 2)))["0"]))
        [[1.+0.j 1.+0.j]]
    """
    *_, m, n = J.shape
    return J.map_verb(eigvals) if m == n else None


@dataclasses.dataclass(frozen=True)
class SpectrumRecord:
    """The spectra at one training step.

    Attributes:
        step: as given to `submit`.
        spectra: path → quantity → array with a leading axis of probe inputs; "singular_values" [B, k] descends. Of a
            stack of L layers ("path/depth") [B, L, k].
        seconds: wall time from when the program's inputs were ready (and the probe before it done) to when its results
            lay on the host; without compilation.
        nonfinite: the layers whose spectra hold NaN or infinity, in the model's order.
        host_seconds: time that the host spent besides, on the submission and on factorisations.

    Example:
        >>> SpectrumRecord(0, {"stem": {"singular_values": np.ones((1, 2))}}, 0.1).nonfinite
        ()
    """

    step: int
    spectra: dict[str, dict[str, np.ndarray]]
    seconds: float
    nonfinite: tuple[str, ...] = ()
    host_seconds: float = 0.0

    @property
    def cost(self) -> float:
        """Seconds that a budget is charged with: on the device and on the host, as if nothing ran beside it.

        Example:
            >>> SpectrumRecord(0, {}, 0.25, host_seconds=0.25).cost
            0.5
        """
        return self.seconds + self.host_seconds


class SpectrumProbe:
    """Measures the Jacobian spectra of a model's layers every time a training loop submits its state.

    Args:
        model: an `nnx.Module` (measured in evaluation mode, whatever mode it is in), a (Linen module, variables) pair,
            or plain functions; see `la.layer_jacobians`. Only its architecture is kept.
        inputs: probe inputs [B, …], or several, as for `la.layer_jacobians`.
        layers: names or patterns of layers; all with parameters, and "end_to_end", unless given.
        quantities: names out of "singular_values" and "eigenvalues".
        max_pending: submissions that may be under way before more are skipped.
        budget: share of the wall-clock time that probes may take, such as 0.05; see `due`.
        mesh: devices that share the probe inputs; their number must divide B. The state is wanted on all of them.
        factorise_on: "device", or "host": then the device only forms the Jacobians and the worker thread factorises
            them in double precision, for devices whose factorisations are slower than the host's.
        call_kwargs, input, output: as for `la.layer_jacobians`.
        memory_budget: bytes that the chunks of tangents of one layer may take.

    Attributes:
        layers: the paths that are measured.
        left_out: path → reason, of the layers without a Jacobian, such as all that see integer inputs (images of bytes:
            give them as floats; tokens: probe the layers behind the embedding).
        skipped: the steps at which nothing was measured because `max_pending` programs were under way.

    Raises:
        UnknownNameError: for unknown quantities, places and patterns that match no layer.
        LinearAlgebraError: for layers asked for by name that have no Jacobian, and a budget that is no share.
        DimensionMismatch: for a max_pending that is not positive, inputs that are not a batch or that the devices of
            `mesh` cannot share evenly.

    Cost: the model is traced once for each set of shapes; architectures that are equal and hashable share one
    compilation. A quantity that calls back to the host (eigenvalues under `la.platform.forced("host")`) makes `submit`
    wait on the CPU, where JAX runs such programs synchronously; `submit_seconds` counts that.

    Example:
        >>> import lax_linalg as la
        >>> scale = lambda s: {"scale": jax.tree_util.Partial(jnp.multiply, s * jnp.ones(3))}
        >>> probe = la.SpectrumProbe(scale(2.0), jnp.ones((1, 3)))
        >>> record = probe.submit(0, scale(5.0)).result()  # later: the loop goes on meanwhile
        >>> print(record.step, record.spectra["scale"]["singular_values"])
        0 [[5. 5. 5.]]
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        layers: Iterable[str] | str | None = None,
        quantities: Iterable[str] = ("singular_values",),
        max_pending: int = 4,
        *,
        budget: float | None = None,
        mesh: Mesh | None = None,
        factorise_on: str = "device",
        call_kwargs: Mapping[str, Any] | None = None,
        input: str | None = None,
        output: str | Mapping[str, str] | None = None,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
    ):
        if max_pending < 1:
            raise DimensionMismatch(f"max_pending must be ≥ 1, got {max_pending}")
        require_bytes(memory_budget)
        structure, state, self.inputs = structure_of(model, inputs, call_kwargs, input, output)
        structure = structure.evaluation(state)
        self._template = structure.template(state)
        names = (quantities,) if isinstance(quantities, str) else tuple(quantities)
        for name in names:
            probe_quantities[name]  # raises for an unknown name
            if factorise_on == "host" and name not in _ON_HOST:
                raise UnknownNameError.of("probe quantity on the host", name, _ON_HOST)
        if factorise_on not in FACTORISE_ON:
            raise UnknownNameError.of("place to factorise", factorise_on, FACTORISE_ON)
        self._state_sharding = None
        if mesh is not None:
            if self.inputs.size % mesh.size:
                raise DimensionMismatch(
                    f"{self.inputs.size} probe inputs cannot be shared by the {mesh.size} devices of the mesh; "
                    f"give a multiple of {mesh.size}"
                )
            self._state_sharding = NamedSharding(mesh, PartitionSpec())
            split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
            self.inputs = Inputs(
                jax.device_put(self.inputs.x, split), jax.device_put(self.inputs.shared, self._state_sharding)
            )
        self._quantities = names
        self._plan = _Plan(
            structure, patterns_of(layers), names if factorise_on == "device" else None, int(memory_budget), mesh
        )
        self._budget = None if budget is None else ProbeBudget(budget)
        shapes = _measure.eval_shape(self._plan, self._template, self.inputs)
        self.layers: tuple[str, ...] = tuple(shapes)
        self.left_out: dict[str, str] = shapes.skipped
        self.max_pending = max_pending
        self.skipped: list[int] = []
        self.submit_seconds = 0.0
        self.compile_seconds = 0.0
        self._compiled: Future[None] | None = None
        self._futures: collections.deque[Future[SpectrumRecord]] = collections.deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spectrum-probe")
        self._last_done = 0.0

    @property
    def pending(self) -> int:
        """How many submissions are under way."""
        return sum(not future.done() for future in self._futures)

    def due(self, now: float | None = None) -> bool:
        """Whether the budget allows a probe now; always without a budget.

        A probe that took c seconds (`SpectrumRecord.cost`, without compilation) is followed by c/budget seconds without
        one. Costs become known when `ready` or `wait` hands out the records.

        Args:
            now: seconds of `time.monotonic()`, which is asked unless given.

        Example:
            >>> import lax_linalg as la
            >>> probe = la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2)), budget=0.05)
            >>> future = probe.submit(0, [jnp.tanh]) if probe.due() else None
            >>> probe.due()  # the first one is still under way
            False
        """
        return self._budget is None or self._budget.allows(time.monotonic() if now is None else now)

    def measure(self, state: Any) -> dict[str, dict[str, jax.Array]]:
        """The spectra as a pure function of the state, for use inside a program of your own.

        Args:
            state: the model's state: `nnx.state(model)` (random streams may be missing), Linen variables, or the
                functions.

        Returns:
            path → quantity → array with a leading axis of probe inputs.

        Raises:
            LinearAlgebraError: for a state of another architecture.

        Example:
            >>> import lax_linalg as la
            >>> probe = la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2)), layers="end_to_end")
            >>> print(probe.measure([jnp.tanh])["end_to_end"]["singular_values"])
            [[1. 1.]]
        """
        return dataclasses.replace(self._plan, quantities=self._quantities)(self._complete(state), self.inputs)

    def submit(self, step: int, state: Any) -> Future[SpectrumRecord] | None:
        """Start measuring a state and return without waiting for the result.

        The state is copied on the device first, so that the caller may donate its buffers right away.

        Args:
            step: number under which the record comes back.
            state: as for `measure`, or a whole model.

        Returns:
            The future of the record, which `ready` and `wait` hand out as well. None if `max_pending` programs are
            under way already: then nothing is measured and the step is appended to `skipped`.

        Raises:
            LinearAlgebraError: for a state of another architecture.

        Cost: two dispatches; `submit_seconds` adds up what the caller spent here. The first submission compiles in the
        worker's thread (`compile_seconds`), so that it does not hold up the caller either.

        Example:
            >>> import lax_linalg as la
            >>> la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2))).submit(0, [jnp.tanh]).result().step
            0
        """
        start = time.perf_counter()
        if self.pending >= self.max_pending:
            self.skipped.append(step)
            return None
        state = self._complete(state)
        if self._state_sharding is not None:
            state = jax.device_put(state, self._state_sharding)
        snapshot = _copy(state)
        if self._compiled is None:  # the first time, compiling is the worker's too
            self._compiled = self._worker.submit(self._compile, snapshot)
        result = self._start(snapshot) if self._compiled.done() and not self._compiled.exception() else None
        spent = time.perf_counter() - start
        self.submit_seconds += spent
        if self._budget is not None:
            self._budget.started(time.monotonic())
        self._futures.append(self._worker.submit(self._collect, step, snapshot, result, spent))
        return self._futures[-1]

    def ready(self) -> list[SpectrumRecord]:
        """The records that have arrived since the last call, in the order of submission; never blocks.

        Raises:
            Exception: whatever a submission's program raised, with the step in its notes; the records behind it stay.

        Example:
            >>> import lax_linalg as la
            >>> la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2))).ready()
            []
        """
        records = []
        while self._futures and self._futures[0].done():
            if records and self._futures[0].exception():
                break  # hand out what is good; the next call raises
            future = self._futures.popleft()
            if self._budget is not None:
                self._budget.spent(0.0 if future.exception() else future.result().cost)
            records.append(future.result())
        return records

    def wait(self) -> list[SpectrumRecord]:
        """All records that are outstanding, blocking until the last of them is done; raises as `ready` does.

        Example:
            >>> import lax_linalg as la
            >>> la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2))).wait()
            []
        """
        wait(self._futures)
        return self.ready()

    def _complete(self, state: Any) -> Any:
        return self._plan.structure.complete(state, self._template)

    def _compile(self, snapshot: Any) -> None:
        """In the worker's thread: compile by running once, the result of which is not needed."""
        start = time.perf_counter()
        jax.block_until_ready(_measure(self._plan, snapshot, self.inputs))
        self.compile_seconds = time.perf_counter() - start

    def _start(self, snapshot: Any) -> Any:
        """Put the program on the device and its results on their way."""
        result = _measure(self._plan, snapshot, self.inputs)
        for leaf in jax.tree.leaves(result):
            leaf.copy_to_host_async()
        return result

    def _collect(self, step: int, snapshot: Any, result: Any, spent: float = 0.0) -> SpectrumRecord:
        """In the worker's thread: wait for one program and time it, then do the host's part."""
        try:
            jax.block_until_ready(snapshot)
            start = max(time.perf_counter(), self._last_done)
            result = self._start(snapshot) if result is None else result
            spectra = dict(jax.tree.map(np.asarray, result))
            done = self._last_done = time.perf_counter()
            if self._plan.quantities is None:
                spectra = {path: _factorised(found[_MATRICES], self._quantities) for path, found in spectra.items()}
            bad = tuple(
                path for path, found in spectra.items() if not all(np.isfinite(a).all() for a in found.values())
            )
        except Exception as error:
            error.add_note(f"in the spectrum probe of step {step}")
            raise
        return SpectrumRecord(step, spectra, done - start, bad, spent + time.perf_counter() - done)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is measured; static and hashable, so that equal plans share one compiled program."""

    structure: Structure
    patterns: tuple[str, ...] | None
    quantities: tuple[str, ...] | None  # None: the matrices themselves, for the host
    memory_budget: int
    mesh: Mesh | None = None

    def __call__(self, state: Any, inputs: Inputs) -> ByLayer[dict[str, jax.Array]]:
        if self.mesh is None:
            return self._local(state, inputs)
        shared = PartitionSpec(self.mesh.axis_names)
        return jax.shard_map(
            self._local,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), Inputs(shared, PartitionSpec())),  # type: ignore[arg-type]
            out_specs=shared,
            check_vma=False,
        )(state, inputs)

    def _local(self, state: Any, inputs: Inputs) -> ByLayer[dict[str, jax.Array]]:
        jacobians = jacobians_of(self.structure, state, inputs, self.patterns, self.memory_budget)
        measured: ByLayer[dict[str, jax.Array]] = ByLayer((), jacobians.skipped)
        for path, J in jacobians.items():
            if self.quantities is None:
                found: dict[str, Any] = {_MATRICES: materialize(J)}  # type: ignore[arg-type]  # verbs map batches
            else:
                found = {name: probe_quantities[name](J) for name in self.quantities}
            depth_first = isinstance(J, Stack)  # [L, B, …], and the probe inputs shall lead
            measured[path] = {
                name: jnp.moveaxis(value, 0, 1) if depth_first else value
                for name, value in found.items()
                if value is not None
            }
        return measured


_MATRICES = "matrices"


def _host_singular_values(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrices, compute_uv=False)


_ON_HOST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "singular_values": _host_singular_values,
    "eigenvalues": np.linalg.eigvals,
}


def _factorised(matrices: np.ndarray, quantities: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The host's factorisations of matrices [..., m, n], in double precision; NaN for NaN."""
    single = matrices.dtype not in (np.float64, np.complex128)
    finite = np.asarray(np.isfinite(matrices).all(axis=(-2, -1)))
    work = np.where(finite[..., None, None], matrices, 0).astype(np.result_type(matrices.dtype, np.float64))
    found = {}
    for name in quantities:
        if name == "eigenvalues" and matrices.shape[-2] != matrices.shape[-1]:
            continue
        values = _ON_HOST[name](work)
        if name == "eigenvalues":
            values = values.astype(np.complex128)  # NumPy gives real ones where all are real
        values[~finite] = np.nan
        found[name] = values.astype({"f": np.float32, "c": np.complex64}[values.dtype.kind]) if single else values
    return found


@functools.partial(jax.jit, static_argnums=0)
def _measure(plan: _Plan, state: Any, inputs: Inputs) -> ByLayer[dict[str, jax.Array]]:
    return plan(state, inputs)


@jax.jit
def _copy(state: Any) -> Any:
    return jax.tree.map(jnp.copy, state)
