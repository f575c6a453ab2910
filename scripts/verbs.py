"""Write docs/verbs.md, the table of algorithms and costs, from the dispatch tables.

python -m scripts.verbs
"""

from __future__ import annotations

import pathlib

from absl import flags

from lax_linalg.documentation import verb_table
from scripts.flags import run

_OUT = flags.DEFINE_string("out", "docs/verbs.md", "file to write")


def main() -> None:
    out = pathlib.Path(_OUT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(verb_table())
    print(out)


if __name__ == "__main__":
    run(main)
