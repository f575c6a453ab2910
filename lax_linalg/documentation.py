"""The table of verbs, made from the dispatch tables: which algorithm serves which structure, at what cost."""

from __future__ import annotations

from collections.abc import Iterable

import lax_linalg as la
from lax_linalg.core.dispatch import Rule, Verb, verbs

COMMAND = "python -m scripts.verbs"

_HEAD = f"""# Verbs

Made by `{COMMAND}` from the dispatch tables; a test compares it with them.

A verb works on every operator and on plain arrays. Where a structure has a rule of its own, its section below names the
algorithm and the cost; everywhere else the generic algorithm of the first table runs. What that table calls *the
materialised matrix* is formed up to `la.dense_limit`, beyond which the verb raises `DenseLimitError`; nothing is
approximated silently. m × n is the size of the operator, k the inner size of a low-rank term or the number of
reflections, and "cost of svdvals" is that of the named verb on the same operator. Factors of a Kronecker product are
m × n and p × q.
"""


def structures(cls: type = la.LinearOperator) -> list[type]:
    """Every operator class there is, in the order of definition.

    Example:
        >>> import lax_linalg as la
        >>> la.Toeplitz in structures()
        True
    """
    found = [c for s in cls.__subclasses__() for c in (s, *structures(s))]
    return [c for c in dict.fromkeys(found) if c.__module__.startswith("lax_linalg.")]


def verb_table() -> str:
    """The whole page as Markdown: the generic rules, then one table a structure, then the rules between two.

    Example:
        >>> "Kronecker" in verb_table()
        True
    """
    public = [getattr(la, name) for name in dir(la)]  # opens the rooms that are loaded on use
    classes = [c for c in public if c in structures()]
    # a verb's file by name, its verbs in the order of definition: the same whatever was imported first
    chosen = sorted((v for v in verbs.values() if v in public), key=lambda v: v.__module__)
    unary, binary = ([v for v in chosen if v.arity == arity] for arity in (1, 2))
    generic = [(f"`{v.name}`", r.algorithm, r.cost) for v in chosen for r in (_generic(v),)]
    parts = [_HEAD, "## Every operator\n", _table(("verb", "algorithm", "cost"), generic)]
    for c in classes:
        rows = [(f"`{v.name}`", r.algorithm, r.cost) for v in unary if (r := v.lookup(c)) is not _generic(v)]
        parts += [f"## {c.__name__}\n", f"{_purpose(c)}\n"]
        parts.append(_table(("verb", "algorithm", "cost"), rows) if rows else "Generic rules only.\n")
    parts.append("## Between two operators\n")
    for v in binary:
        rows = sorted((*(t.__name__ for t in r.types), r.algorithm, r.cost) for r in v.rules[1:])
        if rows:
            parts += [f"### `{v.name}`\n", _table(("left", "right", "algorithm", "cost"), _merge(rows))]
    return "\n".join(parts)


def _generic(v: Verb) -> Rule:
    v.lookup(*(la.LinearOperator,) * v.arity)  # registers the declaration itself
    return v.rules[0]


def _purpose(c: type) -> str:
    return (c.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _merge(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """One row for all right-hand structures that share the left one, the algorithm and the cost."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for left, right, algorithm, cost in rows:
        merged.setdefault((left, algorithm, cost), []).append(right)
    return [(left, ", ".join(rights), *rest) for (left, *rest), rights in merged.items()]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
