"""The table of verbs is the dispatch tables'."""

from __future__ import annotations

import pathlib

import lax_linalg as la
from lax_linalg import documentation
from lax_linalg.core import dispatch

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "verbs.md"


def test_the_table_is_not_stale():
    assert PAGE.read_text() == documentation.verb_table(), f"docs/verbs.md is stale: run {documentation.COMMAND}"


def test_the_table_names_every_verb_and_every_structure():
    page = documentation.verb_table()
    for verb in dispatch.verbs.values():
        assert f"| `{verb.name}` |" in page
    for cls in documentation.structures():
        assert not hasattr(la, cls.__name__) or f"## {cls.__name__}\n" in page


def test_every_structure_is_public():
    # a base that several share may be private
    concrete = [c for c in documentation.structures() if not c.__subclasses__()]
    assert [c.__name__ for c in concrete if not hasattr(la, c.__name__)] == []
