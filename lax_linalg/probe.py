"""`SpectrumProbe`: all layers' Jacobian spectra during training, without the training step waiting for a host.

A submission copies the state, dispatches one forward pass, which gives every layer its input, and returns. One worker
thread then measures the layers and brings the results to the host: all by one program where they fit the memory budget
together, else one after the other and each by its own, so that the peak memory is that of the dearest layer. At most
`max_pending` submissions are under way, and one beyond that is skipped and recorded as such. With a budget, `due` says
when the next one may start.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lax_linalg.budget import ProbeBudget
from lax_linalg.core.batch import Batch, Stack
from lax_linalg.core.operator import LinearOperator
from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian.arguments import Inputs
from lax_linalg.jacobian.layers import ByLayer, LayerJacobians, jacobians_of, patterns_of
from lax_linalg.jacobian.operator import require_bytes
from lax_linalg.jacobian.plan import (
    DENSITY_SAMPLES,
    DENSITY_STEPS,
    NORM_SAMPLES,
    PARTIAL_RESTARTS,
    PARTIAL_RTOL,
    PARTIAL_STEPS,
    How,
    probe_plan,
)
from lax_linalg.jacobian.trace import Structure, structure_of
from lax_linalg.spectra.density import spectral_density
from lax_linalg.spectra.estimates import frobenius_estimate
from lax_linalg.spectra.svds import svds
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
        spectra: path → quantity → array with a leading axis of probe inputs; of a stack of L layers ("path/depth")
            [B, L, …]. Of a layer that is measured exactly "singular_values" [B, min(m, n)], all of them, descending;
            partially "largest_singular_values" [B, k] with "residuals" [B, k], within which a singular value lies, and
            "frobenius" with "frobenius_error" [B], its estimate and standard error; as a density "density_grid",
            "density" and "density_error" [B, g].
        seconds: wall time from when the program's inputs were ready (and the probe before it done) to when its results
            lay on the host; without compilation.
        nonfinite: the layers whose spectra hold NaN or infinity, in the model's order: after the one that is at fault
            come all that see its output.
        host_seconds: time that the host spent besides, on the submission and on factorisations.
        methods: path → "exact", "partial" or "density", what the layer's numbers are.

    Example:
        >>> SpectrumRecord(0, {"stem": {"singular_values": np.ones((1, 2))}}, 0.1).nonfinite
        ()
    """

    step: int
    spectra: dict[str, dict[str, np.ndarray]]
    seconds: float
    nonfinite: tuple[str, ...] = ()
    host_seconds: float = 0.0
    methods: dict[str, str] = dataclasses.field(default_factory=dict)

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
        memory_budget: bytes that one layer may work on, in matrices and their factorisation or in vectors; where the
            examples do not fit together they are taken in parts.
        method: "exact" (all singular values), "partial" (the k largest with residuals), "density" (with error bars), or
            "auto": exact where structure or size allow within the memory budget, otherwise partial; for some layers
            only, a dict by pattern, such as {"blocks/*": "partial"}.
        k: how many values of "partial", at most min(m, n).

    Attributes:
        plan: what is done with each layer, known before any work: method, products, FLOPs, bytes and why; prints as a
            table.
        layers: the paths that are measured.
        left_out: path → reason, of the layers without a Jacobian, such as all that see integer inputs (images of bytes:
            give them as floats; tokens: probe the layers behind the embedding).
        skipped: the steps at which nothing was measured because `max_pending` programs were under way.

    Raises:
        UnknownNameError: for unknown quantities, places and patterns that match no layer.
        LinearAlgebraError: for layers asked for by name that have no Jacobian, and a budget that is no share.
        DimensionMismatch: for a max_pending that is not positive, inputs that are not a batch or that the devices of
            `mesh` cannot share evenly.

    Cost: the model is traced once for each set of shapes; layers that are equal, and architectures that are equal and
    hashable, share one compilation. `close`, or leaving a `with` block, drops what is under way; a script ends without
    waiting for it.

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
        memory_budget: int = 256 * 2**20,
        method: str | Mapping[str, str] = "auto",
        k: int = 8,
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
        on_device = names if factorise_on == "device" else None
        self._model = _Model(structure, patterns_of(layers), int(memory_budget), mesh)
        self._budget = None if budget is None else ProbeBudget(budget)
        found = _capture.eval_shape(self._model, self._template, self.inputs)
        self.plan, self.left_out = probe_plan(
            found, method=method, k=k, quantities=on_device, memory_budget=int(memory_budget)
        )
        self.left_out = found.skipped | self.left_out
        if not self.plan:
            reasons = "; ".join(f"layer {path!r} {reason}" for path, reason in self.left_out.items())
            raise LinearAlgebraError(f"no layer of the model can be measured: {reasons}")
        # small layers together are one program, which dispatches once and shares what they have in common
        fits = sum(row.bytes for row in self.plan.values()) <= int(memory_budget)
        self._together = mesh is not None or fits
        self.layers: tuple[str, ...] = tuple(self.plan)
        self.max_pending = max_pending
        self.skipped: list[int] = []
        self.submit_seconds = 0.0
        self.compile_seconds = 0.0
        self._compiled = False
        self._closed = threading.Event()
        self._futures: collections.deque[Future[SpectrumRecord]] = collections.deque()
        self._worker = _Worker()
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
        steps = tuple((path, row.how._replace(quantities=self._quantities)) for path, row in self.plan.items())
        return _measured(self._model, steps, self._complete(state), self.inputs)

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
            LinearAlgebraError: for a state of another architecture, and after `close`.

        Cost: two dispatches; `submit_seconds` adds up what the caller spent here. Programs are compiled in the worker's
        thread (`compile_seconds`), so that this does not hold up the caller either.

        Example:
            >>> import lax_linalg as la
            >>> la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2))).submit(0, [jnp.tanh]).result().step
            0
        """
        start = time.perf_counter()
        if self._closed.is_set():
            raise LinearAlgebraError("the probe is closed; make another one")
        if self.pending >= self.max_pending:
            self.skipped.append(step)
            return None
        state = self._complete(state)
        if self._state_sharding is not None:
            state = jax.device_put(state, self._state_sharding)
        snapshot = _copy(state)
        captured = self._capture(snapshot) if self._compiled else None  # the first time it is the worker's
        spent = time.perf_counter() - start
        self.submit_seconds += spent
        if self._budget is not None:
            self._budget.started(time.monotonic())
        self._futures.append(self._worker.submit(self._collect, step, snapshot, captured, spent))
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

    def close(self) -> None:
        """Drop what is under way and measure nothing more; records that have arrived can still be had by `ready`.

        Example:
            >>> import lax_linalg as la
            >>> with la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 2))) as probe:
            ...     probe.submit(0, [jnp.tanh]).result().step
            0
        """
        self._closed.set()
        while self._futures and not self._futures[-1].done() and self._futures[-1].cancel():
            self._futures.pop()
        if self._futures and not self._futures[-1].done():
            self._futures.pop()  # is stopped before its next layer

    def __enter__(self) -> SpectrumProbe:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _complete(self, state: Any) -> Any:
        return self._model.structure.complete(state, self._template)

    def _capture(self, snapshot: Any) -> Any:
        """Every layer's input; nothing where one program measures all layers."""
        return None if self._together else _capture(self._model, snapshot, self.inputs)

    def _collect(self, step: int, snapshot: Any, captured: Any, spent: float = 0.0) -> SpectrumRecord:
        """In the worker's thread: measure the layers one after the other and time them, then do the host's part."""
        try:
            jax.block_until_ready(snapshot)
            start, waited = max(time.perf_counter(), self._last_done), self.compile_seconds
            spectra: dict[str, Any] = {}
            if self._together:
                steps = tuple((path, row.how) for path, row in self.plan.items())
                self._compile(_measured, self._model, steps, snapshot, self.inputs)
                spectra = dict(jax.tree.map(np.asarray, _measured(self._model, steps, snapshot, self.inputs)))
            else:
                if captured is None:
                    self._compile(_capture, self._model, snapshot, self.inputs)
                    captured = self._capture(snapshot)
                for path, row in self.plan.items():
                    if self._closed.is_set():
                        raise CancelledError
                    self._compile(_measure, row.how, captured[path])
                    spectra[path] = jax.tree.map(np.asarray, _measure(row.how, captured.pop(path)))
            self._compiled = True
            done = self._last_done = time.perf_counter()
            waited = self.compile_seconds - waited
            for path, found in spectra.items():
                if _MATRICES in found:
                    spectra[path] = _factorised(found[_MATRICES], self._quantities)
            bad = tuple(
                path for path, found in spectra.items() if not all(np.isfinite(a).all() for a in found.values())
            )
        except CancelledError:
            raise
        except Exception as error:
            error.add_note(f"in the spectrum probe of step {step}")
            raise
        methods = {path: row.method for path, row in self.plan.items()}
        host = spent + time.perf_counter() - done
        return SpectrumRecord(step, spectra, done - start - waited, bad, host, methods)

    def _compile(self, function: Any, *arguments: Any) -> None:
        """Compile a program before its first run, which is timed without."""
        if self._compiled:
            return
        start = time.perf_counter()
        function.lower(*arguments).compile()
        self.compile_seconds += time.perf_counter() - start


class _Worker:
    """Runs functions one after the other in a thread that the end of the script does not wait for."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future, Callable[..., Any], tuple]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._left = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """The future of function(*arguments)."""
        future: Future = Future()
        self._jobs.put((future, function, arguments))
        with self._lock:
            self._left += 1
            if self._left == 1:
                threading.Thread(target=self._run, name="spectrum-probe", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            future, function, arguments = self._jobs.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)
            del future, function, arguments  # a model's arrays
            with self._lock:
                self._left -= 1
                if not self._left:
                    return


@dataclasses.dataclass(frozen=True)
class _Model:
    """What is measured; static and hashable, so that equal models share their compiled programs."""

    structure: Structure
    patterns: tuple[str, ...] | None
    memory_budget: int
    mesh: Mesh | None = None

    def jacobians(self, state: Any, inputs: Inputs) -> LayerJacobians:
        """Every layer's Jacobians, the layers' inputs being what was computed."""
        return jacobians_of(self.structure, state, inputs, self.patterns, self.memory_budget)


_Steps = tuple[tuple[str, How], ...]


@functools.partial(jax.jit, static_argnums=0)
def _capture(model: _Model, state: Any, inputs: Inputs) -> LayerJacobians:
    return model.jacobians(state, inputs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(model: _Model, steps: _Steps, state: Any, inputs: Inputs) -> ByLayer[dict[str, jax.Array]]:
    """All layers in one program, shared by the devices of a mesh if there is one."""

    def local(state: Any, inputs: Inputs) -> ByLayer[dict[str, jax.Array]]:
        jacobians = model.jacobians(state, inputs)
        return ByLayer({path: _measure(how, jacobians[path]) for path, how in steps})

    if model.mesh is None:
        return local(state, inputs)
    shared = PartitionSpec(model.mesh.axis_names)
    specs: Any = (PartitionSpec(), Inputs(shared, PartitionSpec()))  # type: ignore[arg-type]
    return jax.shard_map(local, mesh=model.mesh, in_specs=specs, out_specs=shared, check_vma=False)(state, inputs)


@functools.partial(jax.jit, static_argnums=0)
def _measure(how: How, J: Batch) -> dict[str, jax.Array]:
    """One layer's numbers, with the probe inputs in front."""
    if isinstance(J, Stack):  # [L, B, …]
        found = J._map(functools.partial(_of_batch, how))
        return {name: jnp.moveaxis(value, 0, 1) for name, value in found.items()}
    return _of_batch(how, J)


def _of_batch(how: How, J: Batch) -> dict[str, jax.Array]:
    """The numbers of all examples, as many at a time as fit the memory."""
    if not how.examples or how.examples >= len(J):
        return _numbers(how, J)

    def one(x: Any) -> dict[str, jax.Array]:
        found = _numbers(how, Batch(J.make, jax.tree.map(lambda a: a[None], x), J.args))
        return {name: value[0] for name, value in found.items()}

    return jax.lax.map(one, J.x, batch_size=how.examples)


def _numbers(how: How, J: Batch) -> dict[str, jax.Array]:
    if how.method == "partial":
        return J._map(functools.partial(_partial, how.k))
    if how.method == "density":
        law = spectral_density(J, key=jax.random.key(0), samples=DENSITY_SAMPLES, steps=DENSITY_STEPS)
        return {"density_grid": law.grid, "density": law.density, "density_error": law.density_error}
    if how.quantities is None:
        return {_MATRICES: J.map_verb(materialize)}
    found = {name: probe_quantities[name](J) for name in how.quantities}
    return {name: value for name, value in found.items() if value is not None}


def _partial(k: int, A: LinearOperator) -> dict[str, jax.Array]:
    """The k largest singular values with residuals, and the Frobenius norm with its error, of one operator."""
    steps = max(PARTIAL_STEPS, 2 * k + 20)
    top = svds(A, k, steps=steps, restarts=PARTIAL_RESTARTS, rtol=PARTIAL_RTOL, key=jax.random.key(0))
    norm = frobenius_estimate(A, key=jax.random.key(1), samples=NORM_SAMPLES)
    return {
        "largest_singular_values": top.S,
        "residuals": top.residuals,
        "frobenius": jnp.asarray(norm.value),
        "frobenius_error": jnp.asarray(norm.error),
    }


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


@jax.jit
def _copy(state: Any) -> Any:
    return jax.tree.map(jnp.copy, state)
