"""Modules of the user's own, whose import registers models, tasks, regularisers and whatever else has a registry."""

from __future__ import annotations

import importlib

from train.errors import ConfigError


def load(names: str) -> None:
    """Import modules by name; one that is imported already stays as it is.

    Args:
        names: as in "my_package.my_module,other".

    Raises:
        ConfigError: for a module that cannot be imported.

    Example:
        >>> load("my_package.my_module")
        Traceback (most recent call last):
        train.errors.ConfigError: --plugins=my_package.my_module cannot be imported: No module named 'my_package'
    """
    for name in filter(None, map(str.strip, names.split(","))):
        try:
            importlib.import_module(name)
        except (ImportError, TypeError) as error:  # a relative name is a TypeError
            raise ConfigError(f"--plugins={name} cannot be imported: {error}") from error
