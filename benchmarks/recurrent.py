"""A training step of an orthogonal recurrent network: T = 500, batch 128, 190 units, modReLU, RMSprop, float32.

Ours computes Q = exp(S) once a step and scans over time. PyTorch's is a loop over a Linear(190, 190) under
`torch.nn.utils.parametrizations.orthogonal` (matrix exponential) inside `parametrize.cached()`, with the input product
taken for all times at once as ours does, eager as its users run it. The unconstrained network is ours with a free
matrix. Every contender makes forward pass, backward pass and update; one step each in turn.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import models
from benchmarks.harness import Row, median_seconds

TIME, BATCH, UNITS, INPUTS, CLASSES = 500, 128, 190, 10, 9


def ours(x: np.ndarray, y: np.ndarray, **options: Any) -> Callable[[], Any]:
    """One step of our network on the batch, as a call."""
    net = models.RecurrentNet(
        input_shape=x.shape[1:], num_classes=CLASSES, hidden=UNITS, outputs="every", activation="modrelu",
        rngs=nnx.Rngs(0), **options,
    )  # fmt: skip
    graphdef, params = nnx.split(net)
    params = nnx.as_pure(params)
    optimizer = optax.rmsprop(1e-4, decay=0.99)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, x, y):
        def loss(params):
            logits = nnx.merge(graphdef, params)(x)
            return jnp.mean(optax.softmax_cross_entropy(logits, jax.nn.one_hot(y, CLASSES)))

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    held = [params, optimizer.init(params)]
    data = jax.device_put((x, y))

    def step():
        held[0], held[1], value = update(*held, *data)
        return value

    return step


def pytorch(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """One step of PyTorch's on the same batch, as a call."""
    import torch
    from torch import nn
    from torch.nn.utils import parametrizations, parametrize

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.head = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, CLASSES)
            self.hidden = parametrizations.orthogonal(nn.Linear(UNITS, UNITS, bias=False), orthogonal_map="matrix_exp")
            self.bias = nn.Parameter(torch.zeros(UNITS))

        def forward(self, x):
            drive, h, states = self.input(x), torch.zeros(x.shape[0], UNITS), []
            with parametrize.cached():
                for t in range(x.shape[1]):
                    z = self.hidden(h) + drive[:, t]
                    h = torch.sign(z) * torch.relu(torch.abs(z) + self.bias)
                    states.append(h)
            return self.head(torch.stack(states, dim=1))

    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-4, alpha=0.99)
    inputs, target = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(net(inputs).reshape(-1, CLASSES), target.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def rows(repeats: int = 5) -> list[Row]:
    """The step against PyTorch's, and against our own without the constraint."""
    rng = np.random.default_rng(0)
    x = np.eye(INPUTS, dtype=np.float32)[rng.integers(INPUTS, size=(BATCH, TIME))]
    y = rng.integers(CLASSES, size=(BATCH, TIME)).astype(np.int32)
    contenders = {"orthogonal": ours(x, y), "free": ours(x, y, cell="free")}
    with contextlib.suppress(ImportError):
        contenders["pytorch"] = pytorch(x, y)
    seconds = median_seconds(contenders, repeats=repeats)
    own = f"{seconds['orthogonal']:.3g} s"
    size = f"T = {TIME}, batch {BATCH}, {UNITS} units"
    ratio = seconds["orthogonal"] / seconds["free"]
    detail = f"{own} against {seconds['free']:.3g} s; {size}"
    free = Row("orthogonal over unconstrained step", ratio, "our orthogonal time / our free time", "≤ 1.3", detail)
    if "pytorch" not in seconds:
        note = "torch is not installed; the extra `bench` brings it"
        return [free, Row("PyTorch's orthogonal over ours", float("nan"), "PyTorch time / our time", "≥ 3", note)]
    ratio = seconds["pytorch"] / seconds["orthogonal"]
    detail = f"{seconds['pytorch']:.3g} s against {own}; {size}"
    return [free, Row("PyTorch's orthogonal over ours", ratio, "PyTorch time / our time", "≥ 3", detail)]
