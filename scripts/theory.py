"""Measure the reference numbers of the theory again and hold them against the stated ones.

python -m scripts.theory --claim=all                     every claim
python -m scripts.theory --claim=tanh_critical_line      one of them, or several separated by commas
"""

from __future__ import annotations

import sys
import time

from absl import flags

from scripts.flags import NAMES, run

_CLAIM = flags.DEFINE_list("claim", ["all"], "claims to check, or all")
_SEED = flags.DEFINE_integer("seed", 0, "random seed for the matrices", lower_bound=0)


def known() -> tuple[str, ...]:
    """The claims there are."""
    import scripts.closed_forms  # noqa: F401  registers its claims
    from scripts.claims import claims

    return claims.names()


NAMES["claim"] = known


def number(value: float | tuple[float, float]) -> str:
    """A number, or a range, for the table."""
    return " to ".join(f"{v:.5g}" for v in value) if isinstance(value, tuple) else f"{value:.5g}"


def main() -> None:
    from scripts.claims import CONFIDENCE, claims

    names = known() if _CLAIM.value == ["all"] else _CLAIM.value
    checks = {name: claims[name] for name in names}  # an unknown name is an error before anything is measured
    outside = 0
    for name, check in checks.items():
        start = time.perf_counter()
        rows = check(_SEED.value)
        print(f"{name}: {' '.join((check.__doc__ or '').split())}")
        print(f"  {'quantity':<44} {'reference':>14} {'ours':>12} {f'± {100 * CONFIDENCE:g} %':>12}")
        for row in rows:
            outside += not row.agrees
            verdict = "" if row.agrees else "   OUTSIDE"
            print(f"  {row.what:<44} {number(row.theirs):>14} {number(row.ours):>12} {row.tolerance:>12.2g}{verdict}")
        print(f"  {time.perf_counter() - start:.1f} s\n", flush=True)
    if outside:
        print(f"{outside} number(s) outside the sampling error at {100 * CONFIDENCE:g} % confidence", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
