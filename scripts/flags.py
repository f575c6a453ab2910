"""What every script shares: flags from a dataclass, a short grouped --help, errors as one line with exit code 2."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pathlib
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from lax_linalg.errors import LinearAlgebraError
from train import plugins
from train.config import PLUGINS
from train.errors import DivergenceError, TrainError

FLAGS = flags.FLAGS
DEFINERS = {
    "int": flags.DEFINE_integer,
    "float": flags.DEFINE_float,
    "bool": flags.DEFINE_bool,
    "str": flags.DEFINE_string,
}
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}  # absl's flag types in words
GROUPS: dict[str, list[str]] = {}  # heading of the help text -> flag names, in the order of definition
NAMES: dict[str, Callable[[], Iterable[str]]] = {}  # flag -> the values that it takes, asked for by the help text
HELP = {"--help", "-h", "-help", "--helpfull", "--helpshort"}


def define(config_class: type, values: flags.FlagValues = FLAGS) -> None:
    """Define one flag for every field of a dataclass whose fields carry `help` and `group` metadata."""
    for field in dataclasses.fields(config_class):
        DEFINERS[str(field.type)](field.name, field.default, field.metadata["help"], flag_values=values)
        if names := field.metadata["names"]:
            NAMES[field.name] = functools.partial(registered, names)
        elif choices := field.metadata["choices"]:
            NAMES[field.name] = lambda choices=choices: choices
        if values is FLAGS:
            GROUPS.setdefault(field.metadata["group"], []).append(field.name)


def registered(place: str) -> Iterable[str]:
    """The names in the registry at "module:variable"."""
    module, _, variable = place.partition(":")
    return getattr(importlib.import_module(module), variable).names()


def parsed(config_class: type, values: flags.FlagValues = FLAGS) -> Any:
    """The dataclass with the values given on the command line."""
    return config_class(**{field.name: values[field.name].value for field in dataclasses.fields(config_class)})


def preset(config_class: type, path: str | pathlib.Path) -> Any:
    """The dataclass with the values of a flagfile, whatever the command line says."""
    values = flags.FlagValues()
    define(config_class, values)
    values(["", f"--flagfile={path}"])
    return parsed(config_class, values)


def help_text(summary: str) -> str:
    """The summary, then each flag under its group's heading, with the names that it takes and its default."""
    grouped = {name for names in GROUPS.values() for name in names}
    own = [flag.name for flag in FLAGS.get_key_flags_for_module(sys.argv[0]) if flag.name not in grouped]
    if "plugins" not in grouped:
        own.append("plugins")
    lines = [summary.strip(), ""]
    for group, names in [*GROUPS.items(), *([("Options", own)] if own else [])]:
        lines.append(f"{group}:")
        for name in names:
            default = FLAGS[name].default
            default = ",".join(default) if isinstance(default, list) else default
            text = ": ".join([str(FLAGS[name].help), *([", ".join(NAMES[name]())] if name in NAMES else [])])
            lines += _entry(name, text + (f" [{default}]" if default not in ("", None) else ""))
        lines.append("")
    return "\n".join([*lines, *_entry("flagfile", "read flags from a file, one per line; later flags win")])


def _entry(name: str, text: str) -> list[str]:
    indent = " " * 27
    return textwrap.wrap(text, 110, initial_indent=f"  --{name:<22} ", subsequent_indent=indent, break_long_words=False)


def _abbreviates(short: str, name: str) -> bool:
    """Whether a flag may be meant by its initials (lr for learning_rate) or the start of one of its words."""
    words = name.split("_")
    return short == "".join(word[0] for word in words if word) or any(word.startswith(short) for word in words)


def describe(error: BaseException) -> str:
    """An error as one line; the system's errors as "path: what went wrong"."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, flags.UnrecognizedFlagError) and "Did you mean" not in text:
        near = [name for name in sorted(FLAGS) if _abbreviates(error.flagname, name)]
        return f"{text}. Did you mean: {', '.join(near)} ?" if near else text
    if isinstance(error, flags.IllegalFlagValueError) and (given := re.match(r"flag --(\w+)=(.*?): ", text)):
        why = text[given.end() :]
        unreadable = why.startswith(("invalid literal", "could not convert", "('Non-boolean"))
        kind = KINDS.get(FLAGS[given[1]].flag_type(), "a value that it takes")
        return f"--{given[1]}={given[2]} is not {kind}" if unreadable else f"--{given[1]}={given[2]}: {why}"
    return text.removeprefix("ERROR:: ")


def show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    """A warning that is meant for people as one line; those of libraries about their own code are left out."""
    if issubclass(category, UserWarning):
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def run(main: Callable[[], Any]) -> None:
    """Parse the flags, call `main()`, and turn what a person can fix into one line on stderr.

    Exit codes: 0 done; 1 the training diverged; 2 bad input (nothing already written is lost); 130 stopped by Ctrl-C.
    """
    warnings.showwarning = show_warning
    if "plugins" not in FLAGS:
        flags.DEFINE_string("plugins", "", PLUGINS)
    try:
        if HELP & set(sys.argv[1:]):
            FLAGS([given for given in sys.argv if given not in HELP], known_only=True)
            plugins.load(FLAGS["plugins"].value or "")
            print(help_text(sys.modules["__main__"].__doc__ or ""))
            sys.exit(0)
        rest = FLAGS(sys.argv)[1:]
        if rest:
            raise flags.Error(f"unexpected argument {rest[0]!r}; options are written --name=value, see --help")
        plugins.load(FLAGS["plugins"].value or "")
        main()
    except (flags.Error, TrainError, LinearAlgebraError, OSError) as error:
        print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(1 if isinstance(error, DivergenceError) else 2)
    except KeyboardInterrupt:
        print("stopped; what was written stays, and the same command resumes", file=sys.stderr)
        sys.exit(130)
