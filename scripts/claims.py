"""Reference numbers of the theory, measured again: what the literature or an earlier run says, and what we measure.

A claim is a function of a random seed that gives `Row`s. A number that is sampled on either side comes with its
standard error and the degrees of freedom of that estimate. A row agrees when the two differ by no more than chance
explains at the two-sided confidence `CONFIDENCE`, by Student's distribution, and half a unit of the last digit. There
are some thirty rows with chance in them, so a true theory fails a run with all claims about once in 300 seeds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.registry import Registry

CONFIDENCE = 0.9999
"""Of each row with chance in it, two-sided."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One reference number.

    Attributes:
        what: the quantity.
        theirs: the reference value, or (low, high) for a stated range.
        ours: the value computed here.
        error: standard error of ours − theirs from sampling; 0 for numbers without chance.
        unit: half a unit of the reference's last printed digit.
        freedom: degrees of freedom of the error's estimate, inf where it is known.

    Example:
        >>> Row("π", 3.14, math.pi, unit=0.005).agrees
        True
    """

    what: str
    theirs: float | tuple[float, float]
    ours: float
    error: float = 0.0
    unit: float = 0.0
    freedom: float = math.inf

    @property
    def tolerance(self) -> float:
        """How far the two may be apart.

        Example:
            >>> [round(Row("x", 0.0, 0.0, error=1.0, freedom=f).tolerance, 2) for f in (math.inf, 19, 5)]
            [3.89, 4.9, 11.18]
        """
        if not self.error:
            return self.unit
        import scipy.stats

        return float(scipy.stats.t.isf((1 - CONFIDENCE) / 2, self.freedom)) * self.error + self.unit

    @property
    def agrees(self) -> bool:
        low, high = self.theirs if isinstance(self.theirs, tuple) else (self.theirs, self.theirs)
        return bool(low - self.tolerance <= self.ours <= high + self.tolerance)


claims: Registry[Callable[[int], list[Row]]] = Registry("claim")


def sampled(what: str, theirs: float, draws: Sequence[float], unit: float) -> Row:
    """A row that holds the mean of n draws of ours against theirs, taken as one more draw of the same.

    If all n + 1 draws are independent and normal, (mean − theirs)/(s √(1 + 1/n)) follows Student's distribution with
    n − 1 degrees of freedom exactly: the tolerance is the half-width of a prediction interval.

    Example:
        >>> row = sampled("mean", 1.0, [0.9, 1.1, 1.0], 0.05)
        >>> round(row.error, 4), row.freedom, row.agrees
        (0.1155, 2, True)
    """
    values = np.asarray(draws, np.float64)
    spread = float(values.std(ddof=1)) * math.sqrt(1 + 1 / len(values))
    return Row(what, theirs, float(values.mean()), spread, unit, len(values) - 1)


def halves(printed: str) -> tuple[float, float]:
    """A printed number and half a unit of its last digit.

    Example:
        >>> value, unit = halves("1.65e-7")
        >>> value, round(unit / 5e-10, 6)
        (1.65e-07, 1.0)
    """
    mantissa, _, exponent = printed.partition("e")
    digits = len(mantissa.partition(".")[2])
    return float(printed), 0.5 * 10.0 ** (int(exponent or 0) - digits)


@claims.register("gaussian_products")
def gaussian_products(seed: int, size: int = 600, draws: int = 20) -> list[Row]:
    """Largest squared singular value of L Gaussian factors of order 600, and the Fuss–Catalan edge for N → ∞."""
    import lax_linalg as la

    table = {1: "3.974 4.00", 2: "6.59 6.75", 4: "11.86 12.21", 8: "23.04 23.09", 32: "64.8 88.3"}
    rng = np.random.default_rng(seed)
    rows = []
    for depth, (measured, edge) in ((depth, printed.split()) for depth, printed in table.items()):
        largest = []
        for _ in range(draws):
            product = np.eye(size, dtype=np.float32)
            for _ in range(depth):
                product = rng.standard_normal((size, size), np.float32) @ product / np.float32(math.sqrt(size))
            gram = product @ product.T
            largest.append(float(np.linalg.eigvalsh(gram)[-1]))
        value, unit = halves(measured)
        rows.append(sampled(f"s_max² of {depth} factors, N = {size}", value, largest, unit))
        value, unit = halves(edge)
        rows.append(Row(f"edge of Fuss–Catalan({depth})", value, la.FussCatalan(depth).edge, unit=unit))
    return rows


@claims.register("tanh_critical_line")
def tanh_critical_line(seed: int) -> list[Row]:
    """Bias variance on the critical line of tanh, by weight variance."""
    import lax_linalg as la

    table = {1.01: "1.65e-7", 1.02: "1.31e-6", 1.05: "2.01e-5", 1.1: "1.56e-4", 1.5: "0.0158", 2.0: "0.1038"}
    return [
        Row(f"σ_b² at σ_w² = {weight}", value, la.critical_point("tanh", weight).bias_variance, unit=unit)
        for weight, (value, unit) in ((weight, halves(printed)) for weight, printed in table.items())
    ]


@claims.register("relative_variance")
def relative_variance(seed: int, size: int = 500, draws: int = 20) -> list[Row]:
    """Spread of the squared singular values of end-to-end Jacobians: theory, and random networks of width 500."""
    import lax_linalg as la

    networks = {
        "tanh 1.05, orthogonal, L = 32": (
            la.JacobianLaw.critical("tanh", "orthogonal", 32, 1.05), "0.137", "0.130", "1.35",
        ),
        "tanh 1.05, Gaussian, L = 32": (la.JacobianLaw.critical("tanh", "gaussian", 32, 1.05), "32.1", "31.7", "8.79"),
        "ReLU, orthogonal, L = 8": (la.JacobianLaw("relu", "orthogonal", 8, 2.0, length=1.0), "8.00", "7.98", ""),
        "ReLU, Gaussian, L = 8": (la.JacobianLaw("relu", "gaussian", 8, 2.0, length=1.0), "16.00", "15.98", ""),
    }  # fmt: skip
    rows = []
    for name, (law, theory, measured, largest) in networks.items():
        value, unit = halves(theory)
        rows.append(Row(f"{name}: theory", value, law.relative_variance, unit=unit))
        spectra = [np.asarray(law.spectrum(key, size)) for key in jax.random.split(jax.random.key(seed), draws)]
        value, unit = halves(measured)
        spread = [float(s.var() / s.mean() ** 2) for s in spectra]
        rows.append(sampled(f"{name}: width {size}", value, spread, unit))
        if largest:
            value, unit = halves(largest)
            rows.append(sampled(f"{name}: s_max", value, [float(np.sqrt(s.max())) for s in spectra], unit))
    return rows


@claims.register("lyapunov")
def lyapunov(seed: int, size: int = 32, depth: int = 400) -> list[Row]:
    """Lyapunov exponents of Gaussian products, QR-accumulated, against ½[log(2/N) + ψ((N − i + 1)/2)]."""
    import lax_linalg as la

    law = la.GinibreLyapunov(size)
    measured, error = law.spectrum(jax.random.key(seed), depth=depth), law.standard_error(depth)
    chosen = (0, size // 2, size - 1)
    return [Row(f"μ_{i + 1} of {size}", float(law.exponents[i]), float(measured[i]), float(error[i])) for i in chosen]


@claims.register("saxe_modes")
def saxe_modes(seed: int) -> list[Row]:
    """Gradient flow in deep linear networks: τ u' = L u^{2−2/L}(s − u): whole matrices against the mode alone."""
    rows = []
    target, start, time, steps = np.array([3.0, 2.0, 1.0]), 0.05, 2.0, 2000
    rng = np.random.default_rng(seed)
    for depth in (2, 3):
        frames = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(depth + 1)]
        balanced = start ** (1 / depth) * np.eye(3)
        weights = np.stack([frames[i + 1] @ balanced @ frames[i].T for i in range(depth)])
        goal = frames[-1] @ np.diag(target) @ frames[0].T

        def flow(weights, goal=goal):
            depth = len(weights)

            def product(factors):
                result = np.eye(3)
                for factor in factors:
                    result = factor @ result
                return result

            error = goal - product(weights)
            return np.stack([product(weights[i + 1 :]).T @ error @ product(weights[:i]).T for i in range(depth)])

        def mode(u, depth=depth):
            return depth * u ** (2 - 2 / depth) * (target - u)

        weights, u = _runge_kutta(flow, weights, time, steps), _runge_kutta(mode, np.full(3, start), time, steps)
        end = np.eye(3)
        for weight in weights:
            end = weight @ end
        strengths = np.diag(frames[-1].T @ end @ frames[0])
        rows += [
            Row(f"L = {depth}, s = {s:g}: u({time:g}τ)", float(a), float(b), unit=1e-8)
            for s, a, b in zip(target, u, strengths)
        ]
        if depth == 2:
            growth = np.exp(2 * target * time)
            closed = target * growth / (growth - 1 + target / start)
            rows += [
                Row(f"L = 2, s = {s:g}: closed form", float(a), float(b), unit=1e-8)
                for s, a, b in zip(target, closed, strengths)
            ]
    return rows


def _runge_kutta(rate: Callable, state: np.ndarray, time: float, steps: int) -> np.ndarray:
    h = time / steps
    for _ in range(steps):
        k1 = rate(state)
        k2 = rate(state + h / 2 * k1)
        k3 = rate(state + h / 2 * k2)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(state + h * k3))
    return state


@claims.register("baselines")
def baselines(seed: int, draws: int = 200_000) -> list[Row]:
    """Losses without memory: 10 log 8/(T + 20) for copying, the variance of a sum of two uniform numbers for adding."""
    from train.tasks.sequence import copying_baseline

    table = {200: "0.0945", 1000: "0.02039", 2000: "0.01029"}
    rows = [
        Row(f"copying, T = {delay}", value, copying_baseline(delay), unit=unit)
        for delay, (value, unit) in ((delay, halves(printed)) for delay, printed in table.items())
    ]
    square = np.sum(np.random.default_rng(seed).uniform(size=(draws, 2)) - 0.5, axis=1) ** 2
    return [*rows, Row("adding", 1 / 6, float(square.mean()), float(square.std()) / math.sqrt(draws))]


@claims.register("reshaped_kernel")
def reshaped_kernel(seed: int, channels: int = 16, size: int = 8, draws: int = 12) -> list[Row]:
    """True norm of a convolution over the norm of its reshaped kernel: underestimated by up to the kernel's width."""
    import lax_linalg as la

    rng = np.random.default_rng(seed)

    def gaussian(width: int) -> np.ndarray:
        return rng.standard_normal((width, width, channels, channels))

    def positive(width: int) -> np.ndarray:
        return rng.uniform(0.5, 1.0, (width, width, channels, channels))

    rows = []
    cases = (gaussian, 3, (1.5, 1.7)), (positive, 3, (2.9, 3.0)), (positive, 5, (4.8, 5.0))
    for draw, width, interval in cases:
        ratios = []
        for _ in range(draws):
            kernel = jnp.asarray(draw(width), jnp.float32)
            true = la.opnorm(la.Convolution(kernel, (size, size), padding="circular"))
            ratios.append(float(true / jnp.linalg.norm(kernel.reshape(-1, channels), 2)))
        error = float(np.std(ratios, ddof=1)) / math.sqrt(draws)
        rows.append(
            Row(
                f"{width}×{width} {draw.__name__}, {channels} channels",
                interval,
                float(np.mean(ratios)),
                error,
                freedom=draws - 1,
            )
        )
    return rows


@claims.register("rank_collapse")
def rank_collapse(seed: int, size: int = 64, draws: int = 12) -> list[Row]:
    """Distance from rank one, ‖X − 1x̄ᵀ‖/‖X‖, after softmax attention with Gaussian weights of variance 1/d."""
    depth, rng = 8, np.random.default_rng(seed)
    plain, skips = np.zeros((draws, depth + 1)), np.zeros((draws, depth + 1))
    for draw in range(draws):
        x = rng.standard_normal((size, size))
        for residuals, skip in ((plain, 0.0), (skips, 1.0)):
            y = x
            residuals[draw, 0] = _rank_one_residual(y)
            for layer in range(depth):
                query, key, value = rng.standard_normal((3, size, size)) / math.sqrt(size)
                scores = y @ query @ (y @ key).T / math.sqrt(size)
                attention = np.exp(scores - scores.max(axis=1, keepdims=True))
                y = skip * y + attention / attention.sum(axis=1, keepdims=True) @ y @ value
                residuals[draw, layer + 1] = _rank_one_residual(y)
    rows = []
    for layer, printed in enumerate(("0.99", "0.85", "0.018", "6e-8")):
        value, unit = halves(printed)
        # residuals multiply from layer to layer, so chance is in the exponent
        logs = np.log10(plain[:, layer])
        width = unit / value / math.log(10)
        rows.append(sampled(f"log₁₀ residual, layer {layer}", math.log10(value), list(logs), width))
    value, unit = halves("0.57")
    return [*rows, sampled("residual with skips, layer 8", value, list(skips[:, 8]), unit)]


def _rank_one_residual(x: np.ndarray) -> float:
    return float(np.linalg.norm(x - x.mean(axis=0)) / np.linalg.norm(x))


@claims.register("dropout")
def dropout(seed: int) -> list[Row]:
    """Moments after an affine layer and dropout, sampled: largest deviation in standard errors, 99.9 % confidence."""
    import lax_linalg as la

    mean_key, root_key, layer_key, key = jax.random.split(jax.random.key(seed), 4)
    mean, root = jax.random.normal(mean_key, (6,)), jax.random.normal(root_key, (6, 6))
    layer = la.Affine(jax.random.normal(layer_key, (8, 6)), jnp.ones(8))
    rows = []
    for p, inverted in ((0.1, False), (0.5, True)):
        check = la.check_pushforward(key, [layer, la.Dropout(p, inverted=inverted)], mean, root @ root.T)
        form = "inverted" if inverted else "unscaled"
        rows.append(Row(f"p = {p}, {form}: mean", (0.0, check.bound), check.mean_deviation))
        rows.append(Row(f"p = {p}, {form}: covariance", (0.0, check.bound), check.covariance_deviation))
    return rows
