"""The configuration of a run: one frozen dataclass, from which the flags, their help and config.json are made."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from lax_linalg.errors import UnknownNameError
from train import files, plugins
from train.errors import ConfigError

# Fields that a resumed run may change: as long as it goes well they move neither the parameters nor metrics.jsonl.
FREE_FIELDS = (
    "keep", "checkpoint_every", "data_dir", "data_parallel", "tensorboard", "display", "workdir", "on_nonfinite",
    "plugins"
)  # fmt: skip

TYPES = {  # annotation -> the types of value that it stands for, in words
    "int": ((int,), "a whole number"),
    "float": ((float, int), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}


PLUGINS = "modules of your own to import first, for example my_package.my_module"


def option(
    default: Any,
    text: str,
    *,
    group: str,
    low: float | None = None,
    choices: tuple[str, ...] = (),
    names: str = "",
) -> Any:
    """A dataclass field with what its flag needs: help text, group, lower bound, and the values that are allowed.

    Those are `choices`, or what the registry `names` ("module:variable") holds when the help text lists them.
    """
    metadata = {"help": text, "group": group, "low": low, "choices": choices, "names": names}
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

    task: str = option("digits", "what to learn", group="Task and model", names="train.tasks:tasks")
    model: str = option("resnet", "network to train", group="Task and model", names="models:registry")
    model_options: str = option(
        "", "options of the model, for example widths=(16,32),dropout=0.1", group="Task and model"
    )
    augment: bool = option(False, "augment each training batch as the task defines it", group="Task and model")
    data_dir: str = option(
        "", "folder with the files of MNIST, Fashion-MNIST or CIFAR-10, or a text file", group="Task and model"
    )
    validation: int = option(0, "number of training examples to hold out for validation", group="Task and model", low=0)
    split_seed: int = option(0, "random seed for choosing the held-out examples", group="Task and model", low=0)
    seed: int = option(0, "random seed for initialisation, data order and noise", group="Task and model", low=0)

    steps: int = option(1000, "number of updates", group="Optimisation", low=0)
    epochs: int = option(
        0, "number of passes over the training data; replaces --steps if positive", group="Optimisation", low=0
    )
    batch_size: int = option(64, "number of examples per update", group="Optimisation", low=1)
    optimizer: str = option("adam", "optimiser", group="Optimisation", names="train.optimizers:optimizers")
    learning_rate: float = option(1e-3, "peak learning rate", group="Optimisation", low=0)
    learning_rates: str = option(
        "",
        "factors on learning rates, for example */bias=2,recurrent/*=0.1",
        group="Optimisation",
    )
    orthogonal: str = option(
        "*", "kernels that landing and riemannian update, for example blocks/*", group="Optimisation"
    )
    schedule: str = option(
        "constant", "schedule of the learning rate", group="Optimisation", names="train.optimizers:schedules"
    )
    warmup_steps: int = option(
        0, "number of updates over which the learning rate rises to its peak", group="Optimisation", low=0
    )
    weight_decay: float = option(0.0, "weight decay, for adamw and muon", group="Optimisation", low=0)
    beta1: float = option(0.9, "decay rate of the first moment, for adam and adamw", group="Optimisation", low=0)
    momentum: float = option(0.9, "momentum, for momentum and riemannian", group="Optimisation", low=0)
    clip_norm: float = option(0.0, "clip the gradient to this norm; 0 turns clipping off", group="Optimisation", low=0)

    regularizer: str = option(
        "none", "penalty on the weights", group="Regulariser", names="train.regularizers:regularizers"
    )
    regularizer_strength: float = option(1e-2, "factor of the penalty in the loss", group="Regulariser", low=0)
    regularizer_schedule: str = option(
        "constant", "schedule of that factor", group="Regulariser", names="train.optimizers:schedules"
    )
    regularizer_layers: str = option("*", "layers to penalise, for example stem,blocks/*", group="Regulariser")
    regularizer_on: str = option(
        "kernel",
        "penalise the kernel's matrix or the layer's operator",
        group="Regulariser",
        choices=("kernel", "operator"),
    )
    regularizer_decoupled: bool = option(
        False, "apply the penalty in a step of its own, as AdamW applies weight decay", group="Regulariser"
    )

    spectrum_every: int = option(0, "updates between spectrum probes; 0 turns them off", group="Spectra", low=0)
    spectrum_budget: str = option(
        "", "share of the time that probes may take, for example 5%; probes then come less often", group="Spectra"
    )
    spectrum_layers: str = option("*", "layers to probe, for example blocks/*,end_to_end", group="Spectra")
    spectrum_inputs: int = option(4, "number of held-out inputs at which to take Jacobians", group="Spectra", low=1)
    spectrum_pending: int = option(4, "largest number of probes in progress", group="Spectra", low=1)
    spectrum_overflow: str = option(
        "wait",
        "what to do then; skip makes metrics depend on timing",
        group="Spectra",
        choices=("wait", "skip"),
    )

    dropout_every: int = option(
        0,
        "updates between comparisons of dropout's covariance with theory; 0 turns them off",
        group="Spectra",
        low=0,
    )

    workdir: str = option("", "folder of the run (required); the same command resumes the run", group="Run")
    log_every: int = option(10, "updates between lines of training metrics", group="Run", low=1)
    eval_every: int = option(
        100, "updates between evaluations; 0 evaluates at the first and last step only", group="Run", low=0
    )
    checkpoint_every: int = option(
        100, "updates between checkpoints; 0 saves the first and last step only", group="Run", low=0
    )
    keep: int = option(20, "number of recent checkpoints to keep besides the first; 0 keeps all", group="Run", low=0)
    on_nonfinite: str = option(
        "stop",
        "what to do when the loss or a gradient is NaN or infinite",
        group="Run",
        choices=("stop", "skip"),
    )
    data_parallel: bool = option(False, "split each batch across all devices", group="Run")
    tensorboard: bool = option(True, "also write TensorBoard event files", group="Run")
    display: str = option(
        "auto", "what to print while training", group="Run", choices=("auto", "live", "plain", "none")
    )
    plugins: str = option("", PLUGINS, group="Run")

    @property
    def held_out(self) -> str:
        """The examples that are measured during training: "validation", or "test" where there are none."""
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
    """Read the configuration of the run in `workdir` and import its plugins.

    Raises:
        ConfigError: when there is no run, its config.json is not one of this program's, or a plugin cannot be imported.
    """
    config = _read(workdir)
    plugins.load(config.plugins)
    return config


def _read(workdir: str | pathlib.Path) -> TrainConfig:
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
        old = dataclasses.asdict(_read(workdir))
        new = dataclasses.asdict(config)
        free = set(FREE_FIELDS)
        if config.schedule == config.regularizer_schedule == "constant":
            free |= {name for name in ("steps", "epochs") if new[name] >= old[name]}
        changed = [
            f"{name} {old[name]!r} -> {new[name]!r}" for name in new if old[name] != new[name] and name not in free
        ]
        if changed:
            raise ConfigError(f"{workdir} holds another run ({', '.join(changed)}); give a new --workdir")
