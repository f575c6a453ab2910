"""Claims without chance: certificates of Kreiss constants around closed forms, and moments of laws against theirs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from scripts.claims import Row, claims

KREISS = 1e-3
MOMENTS = 1e-8


@claims.register("kreiss_constants")
def kreiss_constants(seed: int) -> list[Row]:
    """Kreiss constants of closed form to three digits, the certificate's lower and upper end on either side.

    (λ b; 0 λ) at the distance g from instability has (r + 1/r)/2, r = b/2g ≥ 1; so has a matrix of square 0 and norm b
    for g = 1, and a direct sum has the largest of its parts.
    """
    import lax_linalg as la

    def closed(coupling: float, gap: float) -> float:
        r = coupling / (2 * gap)
        return (r + 1 / r) / 2 if r > 1 else 1.0

    def block(value: float, coupling: float) -> np.ndarray:
        return np.array([[value, coupling], [0.0, value]])

    rng = np.random.default_rng(seed)
    x, y = np.linalg.qr(rng.standard_normal((20, 2)))[0].T
    q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    summed = np.zeros((6, 6))
    parts = ((0.5, 3.0), (0.0, 4.0), (0.9, 0.1))
    for i, part in enumerate(parts):
        summed[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block(*part)
    normal = q @ np.diag([0.99, -0.5, 0.3, 0.0, 0.9, -1.0]) @ q.T
    cases = (
        ("(0 8; 0 0)", block(0.0, 8.0), False, 17 / 8),
        ("(0 100; 0 0)", block(0.0, 100.0), False, closed(100.0, 1.0)),
        ("(0.9 2; 0 0.9)", block(0.9, 2.0), False, closed(2.0, 0.1)),
        ("(−1 20; 0 −1), continuous", block(-1.0, 20.0), True, closed(20.0, 1.0)),
        ("6 x yᵀ, x ⟂ y, order 20", 6 * np.outer(x, y), False, closed(6.0, 1.0)),
        ("direct sum, order 6", q @ summed @ q.T, False, max(closed(b, 1 - value) for value, b in parts)),
        ("normal, order 6", normal, False, 1.0),
    )
    rows = []
    for name, A, continuous, want in cases:
        K = la.kreiss_constant(A, continuous=continuous, rtol=KREISS)
        rounding = 1e-9 * want
        rows.append(Row(f"{name}: lower", (want / (1 + KREISS), want), K.lower, unit=rounding))
        rows.append(Row(f"{name}: upper", (want, want * (1 + KREISS)), K.upper, unit=rounding))
    return rows


@claims.register("moments")
def moments(seed: int) -> list[Row]:
    """Moments 1 to 5 of the laws by their quadrature against closed forms: the largest relative deviation."""
    import lax_linalg as la

    def catalan(n: int, k: int) -> float:
        return math.comb(n * k + k, k) / (n * k + 1)

    def narayana(ratio: float, k: int) -> float:
        return sum(ratio**r / (r + 1) * math.comb(k, r) * math.comb(k - 1, r) for r in range(k))

    def laguerre(c: float, k: int) -> float:
        import scipy.special

        return math.exp(c * k) / k * float(scipy.special.genlaguerre(k - 1, 1)(-2 * c * k))

    def arcsine_layers(k: int) -> float:
        return 2.0 * 4 ** (k - 1) * math.comb(2 * k, k) / 4**k

    two = la.JacobianLaw("relu", "orthogonal", 2, 2.0, length=1.0)
    laws: tuple[tuple[str, la.Law, Callable[[int], float]], ...] = (
        ("Marchenko–Pastur, ratio 1/4", la.MarchenkoPastur(0.25, 2.0), lambda k: 2**k * narayana(0.25, k)),
        ("Marchenko–Pastur, ratio 4", la.MarchenkoPastur(4.0), lambda k: narayana(4.0, k)),
        ("Fuss–Catalan, 3 factors", la.FussCatalan(3), lambda k: catalan(3, k)),
        ("Fuss–Catalan, 32 factors", la.FussCatalan(32), lambda k: catalan(32, k)),
        ("semicircle", la.Semicircle(2.0), lambda k: 0.0 if k % 2 else 2.0 ** (k // 2) * catalan(1, k // 2)),
        ("arcsine", la.Arcsine(), lambda k: 0.0 if k % 2 else float(math.comb(k, k // 2))),
        ("Wachter, two halves", la.Wachter(0.5, 0.5), lambda k: math.comb(2 * k, k) / 4**k),
        ("residual network, c = 0.3", la.ResidualJacobian(0.3), lambda k: laguerre(0.3, k)),
        ("free product of two Gaussian", la.FreeProduct((la.MarchenkoPastur(),) * 2), lambda k: catalan(2, k)),
        ("two orthogonal ReLU layers", two, arcsine_layers),
    )
    rows = []
    for name, law, closed in laws:
        nodes, weights = law.quadrature()
        found = [float(np.sum(weights * nodes**k)) for k in range(1, 6)]
        exact = [closed(k) for k in range(1, 6)]
        worst = max(abs(a - b) / max(abs(b), 1.0) for a, b in zip(found, exact))
        rows.append(Row(name, (0.0, MOMENTS), worst))
    return rows
