"""What the training loop costs over a bare Optax loop of the same model, data order, batch size and optimiser.

Both loops live in one process and take turns of `BLOCK` steps, each turn blocked on at its end. Ours runs as
`scripts.train` does when its output goes to a file: metrics every 10 steps, TensorBoard, the guard against NaN, no
probes. The bare one is a jitted step with donated state that gathers its batch on the device and returns the loss.
"""

from __future__ import annotations

import statistics
import tempfile
import time

import jax
import optax
from flax import nnx

from benchmarks.harness import Row
from train.config import TrainConfig
from train.loop import build_model, train_and_evaluate
from train.sharding import data_mesh
from train.step import make_order
from train.tasks import tasks

BLOCK = 50


class BareLoop:
    """The loop one would write by hand; `run(n)` does n more steps and returns when they are done."""

    def __init__(self, config: TrainConfig):
        self.task = tasks[config.task]
        data = self.task.data(config).train
        self.data = jax.device_put(data)
        self.order = make_order(config, len(data["label"]), data_mesh(False, config.batch_size))
        self.batch_size, self.batches = config.batch_size, len(data["label"]) // config.batch_size
        graphdef, variables = nnx.split(build_model(config))
        leaves, treedef = jax.tree.flatten(variables)  # a list is the cheapest pytree to dispatch
        optimizer = optax.adam(config.learning_rate)
        self.state = (jax.numpy.array(0), leaves, optimizer.init(leaves))
        self.step = 0

        def update(state, data, order):
            step, leaves, opt_state = state
            start = step % self.batches * self.batch_size
            index = jax.lax.dynamic_slice(order, (start,), (self.batch_size,))
            batch = self.task.prepare({name: array[index] for name, array in data.items()})

            def loss(leaves):
                logits = nnx.merge(graphdef, jax.tree.unflatten(treedef, leaves))(batch["input"])
                return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

            value, gradient = jax.value_and_grad(loss)(leaves)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (step + 1, optax.apply_updates(leaves, updates), opt_state), value

        self.update = jax.jit(update, donate_argnums=0)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.state, _ = self.update(self.state, self.data, self.order(self.step))
            self.step += 1
        jax.block_until_ready(self.state)


def measure(model: str = "resnet", turns: int = 21) -> dict[str, float]:
    """Median milliseconds a step of both loops, and the median over the turns of their ratio."""
    config = TrainConfig(
        model=model, steps=BLOCK * (turns + 1), eval_every=0, checkpoint_every=0, display="none", workdir="unused"
    )
    bare = BareLoop(config)
    ours_seconds: list[float] = []
    bare_seconds: list[float] = []
    began = time.perf_counter()

    def take_turns(step: int, state) -> None:
        nonlocal began
        if step % BLOCK:
            return
        jax.block_until_ready(state)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        bare.run(BLOCK)
        if step > BLOCK:  # the first turn compiles
            ours_seconds.append(ours)
            bare_seconds.append(time.perf_counter() - began)
        began = time.perf_counter()

    with tempfile.TemporaryDirectory() as workdir:
        train_and_evaluate(config, workdir, take_turns)
    return {
        "ours_ms": 1e3 * statistics.median(ours_seconds) / BLOCK,
        "bare_ms": 1e3 * statistics.median(bare_seconds) / BLOCK,
        "ratio": statistics.median(ours / bare for ours, bare in zip(ours_seconds, bare_seconds)),
    }


def rows() -> list[Row]:
    """The ratio for the demonstration's network."""
    result = measure()
    detail = f"ResNet on digits, batch 64: {result['ours_ms']:.2f} against {result['bare_ms']:.2f} ms a step"
    return [Row("training-loop overhead", result["ratio"], "our step / bare Optax step", "≤ 1.03", detail)]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.name}: ratio {row.ratio:.4f} {row.detail} (target {row.target})")
