"""The configuration of a run: one frozen dataclass, from which the flags, their help and config.json are made."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from lax_linalg.errors import UnknownNameError
from train import files
from train.errors import ConfigError

# Fields that a resumed run may change: as long as it goes well they move neither the parameters nor metrics.jsonl.
FREE_FIELDS = (
    "keep", "checkpoint_every", "data_dir", "data_parallel", "tensorboard", "display", "workdir", "on_nonfinite"
)  # fmt: skip

TYPES = {  # annotation -> the types of value that it stands for, in words
    "int": ((int,), "a whole number"),
    "float": ((float, int), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}


def option(default: Any, text: str, *, group: str, low: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with what its flag needs: help text, group, lower bound and allowed values."""
    metadata = {"help": text, "group": group, "low": low, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run; `seed` and these fields give every number in metrics.jsonl.

    Raises:
        ConfigError: when a value is of the wrong type or below its bound.
        UnknownNameError: when a choice is not one of the allowed names.

    Example:
        >>> TrainConfig(steps=-1)
        Traceback (most recent call last):
        train.errors.ConfigError: --steps=-1 must be at least 0
    """

    task: str = option(
        "digits", "what to learn, as digits, copying_200; a wrong name lists all", group="Task and model"
    )
    model: str = option("resnet", "network, as resnet, mlp, rnn", group="Task and model")
    model_options: str = option("", "options of the model, as in widths=(16,32),dropout=0.1", group="Task and model")
    augment: bool = option(False, "the task's own light augmentation, on the device", group="Task and model")
    data_dir: str = option("", "folder of MNIST, Fashion-MNIST or CIFAR-10; a text", group="Task and model")
    validation: int = option(0, "training examples set aside to choose by", group="Task and model", low=0)
    split_seed: int = option(0, "of the choice of held-out examples", group="Task and model", low=0)
    seed: int = option(0, "of initialisation, data order and noise", group="Task and model", low=0)

    steps: int = option(1000, "updates in all", group="Optimisation", low=0)
    epochs: int = option(0, "passes over the data; when positive, instead of --steps", group="Optimisation", low=0)
    batch_size: int = option(64, "examples an update", group="Optimisation", low=1)
    optimizer: str = option(
        "adam", "adam, adamw, sgd, momentum, rmsprop, muon, landing, riemannian", group="Optimisation"
    )
    learning_rate: float = option(1e-3, "its peak value", group="Optimisation", low=0)
    learning_rates: str = option("", "factors on it, as in */bias=2,recurrent/*=0.1", group="Optimisation")
    orthogonal: str = option("*", "kernels of landing and riemannian, as in blocks/*", group="Optimisation")
    schedule: str = option("constant", "of the learning rate: constant, cosine, linear", group="Optimisation")
    warmup_steps: int = option(0, "linear rise of the learning rate", group="Optimisation", low=0)
    weight_decay: float = option(0.0, "of adamw and muon", group="Optimisation", low=0)
    beta1: float = option(0.9, "decay of adam's first moment", group="Optimisation", low=0)
    momentum: float = option(0.9, "of momentum and riemannian", group="Optimisation", low=0)
    clip_norm: float = option(0.0, "bound on the gradient's norm; 0: none", group="Optimisation", low=0)

    regularizer: str = option("none", "none, so, dso, mc, srip, ocnn, sigma_max, sigma_min, cond", group="Regulariser")
    regularizer_strength: float = option(1e-2, "its factor in the loss", group="Regulariser", low=0)
    regularizer_schedule: str = option("constant", "of the factor: constant, cosine, linear", group="Regulariser")
    regularizer_layers: str = option("*", "layers it acts on, as in stem,blocks/*", group="Regulariser")
    regularizer_on: str = option(
        "kernel",
        "kernel: its matrix; operator: the layer's linear map",
        group="Regulariser",
        choices=("kernel", "operator"),
    )
    regularizer_decoupled: bool = option(
        False, "a gradient step of its own after each update, as AdamW's decay", group="Regulariser"
    )

    spectrum_every: int = option(0, "steps between spectrum probes; 0: none", group="Spectra", low=0)
    spectrum_budget: str = option(
        "", "share of the time that probes may take, as in 5%; they are then further apart", group="Spectra"
    )
    spectrum_layers: str = option("*", "layers probed, as in blocks/*,end_to_end", group="Spectra")
    spectrum_inputs: int = option(4, "held-out inputs whose Jacobians are taken", group="Spectra", low=1)
    spectrum_pending: int = option(4, "probes under way at most", group="Spectra", low=1)
    spectrum_overflow: str = option(
        "wait",
        "when so many are under way: wait (same metrics each time) or skip",
        group="Spectra",
        choices=("wait", "skip"),
    )

    dropout_every: int = option(
        0, "steps between checks of dropout's covariance against its prediction; 0: none", group="Spectra", low=0
    )

    workdir: str = option("", "folder of the run (required); the same command resumes it", group="Run")
    log_every: int = option(10, "steps between lines of metrics.jsonl", group="Run", low=1)
    eval_every: int = option(100, "steps between evaluations; 0: first and last only", group="Run", low=0)
    checkpoint_every: int = option(100, "steps between checkpoints; 0: first and last only", group="Run", low=0)
    keep: int = option(20, "newest checkpoints kept, beside the first; 0: all", group="Run", low=0)
    on_nonfinite: str = option(
        "stop", "NaN or infinity in loss or gradient: stop or skip", group="Run", choices=("stop", "skip")
    )
    data_parallel: bool = option(False, "split each batch over all devices", group="Run")
    tensorboard: bool = option(True, "write TensorBoard event files too", group="Run")
    display: str = option("auto", "auto, live, plain or none", group="Run", choices=("auto", "live", "plain", "none"))

    @property
    def held_out(self) -> str:
        """The examples that are measured while training goes on: "validation", or "test" where there are none."""
        return "validation" if self.validation else "test"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, low, choices = getattr(self, field.name), field.metadata["low"], field.metadata["choices"]
            allowed, words = TYPES[str(field.type)]
            if type(value) not in allowed:
                raise ConfigError(f"--{field.name}={value!r} must be {words}")
            if low is not None and not value >= low:  # also refuses NaN
                raise ConfigError(f"--{field.name}={value} must be at least {low}")
            if choices and value not in choices:
                raise UnknownNameError.of(f"--{field.name}", value, choices)


def due(step: int, every: int, last: int) -> bool:
    """Whether something done every `every` steps (0: never), at the first and at the last one is due at `step`.

    Example:
        >>> [step for step in range(8) if due(step, every=3, last=7)]
        [0, 3, 6, 7]
    """
    return step in (0, last) or (every > 0 and step % every == 0)


def save(config: TrainConfig, workdir: str | pathlib.Path) -> None:
    """Write `config` to workdir/config.json."""
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    files.write_atomically(pathlib.Path(workdir) / "config.json", text.encode())


def load(workdir: str | pathlib.Path) -> TrainConfig:
    """Read the configuration of the run in `workdir`.

    Raises:
        ConfigError: when there is no run, or its config.json is not one of this program's.
    """
    path = pathlib.Path(workdir) / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run in {workdir}: {path} is missing")
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no names with values")
        return TrainConfig(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not the configuration of a run: {error}") from error


def check_same_run(config: TrainConfig, workdir: str | pathlib.Path) -> None:
    """Check that `workdir` holds no other run: it is new, or of the same run.

    Fields named in FREE_FIELDS may differ, and `steps` and `epochs` may grow while no schedule depends on them.

    Raises:
        ConfigError: when the workdir holds a run of another configuration; names the differing fields.
    """
    if (pathlib.Path(workdir) / "config.json").exists():
        old = dataclasses.asdict(load(workdir))
        new = dataclasses.asdict(config)
        free = set(FREE_FIELDS)
        if config.schedule == config.regularizer_schedule == "constant":
            free |= {name for name in ("steps", "epochs") if new[name] >= old[name]}
        changed = [
            f"{name} {old[name]!r} -> {new[name]!r}" for name in new if old[name] != new[name] and name not in free
        ]
        if changed:
            raise ConfigError(f"{workdir} holds another run ({', '.join(changed)}); give a new --workdir")
