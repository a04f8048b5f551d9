"""Derives every coefficient of native/include/mathematics.h and prints it, with its error.

    python tests/support/mathematics_coefficients.py            (needs mpmath; a few seconds)

Each polynomial is the minimax one (Remez's exchange: Remez, Comptes Rendus 198, 1934; as told in
Muller, Elementary Functions, 3rd edition, chapter 3), found with 40 digits and then rounded to the
precision of its type. Errors are relative to the function, after rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mpmath
from mpmath import mpf

mpmath.mp.dps = 40
Function = Callable[[mpf], mpf]

FLOAT, DOUBLE = 24, 53  # bits of the significands


def rounded(value: mpf, bits: int) -> mpf:
    exponent = mpmath.floor(mpmath.log(abs(value), 2)) + 1
    unit = mpf(2) ** (exponent - bits)
    return mpmath.nint(value / unit) * unit


def polynomial(coefficients: Sequence[mpf], x: mpf) -> mpf:
    return mpmath.polyval(coefficients[::-1], x)


def chebyshev(low: mpf, high: mpf, count: int) -> list[mpf]:
    angles = [mpmath.pi * (2 * i + 1) / (2 * count) for i in range(count)]
    return [(low + high) / 2 - (high - low) / 2 * mpmath.cos(angle) for angle in angles]


def minimax(function: Function, weight: Function, low: mpf, high: mpf, terms: int) -> list[mpf]:
    """The polynomial p of `terms` coefficients with the least largest |weight (function - p)|."""
    points = chebyshev(low, high, terms + 1)
    grid = [low, *chebyshev(low, high, 50 * terms), high]
    for _ in range(12):
        rows = [
            [weight(x) * x**power for power in range(terms)] + [(-1) ** i]
            for i, x in enumerate(points)
        ]
        right = [weight(x) * function(x) for x in points]
        solved = mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix(right))
        coefficients = list(solved)[:terms]
        errors = [weight(x) * (function(x) - polynomial(coefficients, x)) for x in grid]
        exchanged = alternating_extrema(grid, errors, terms + 1)
        if len(exchanged) <= terms or exchanged == points:
            break
        points = exchanged
    return coefficients


def alternating_extrema(grid: list[mpf], errors: list[mpf], count: int) -> list[mpf]:
    """Where |error| peaks between changes of its sign; the largest `count` in a row."""
    peaks: list[tuple[mpf, mpf]] = []
    for x, error in zip(grid, errors, strict=True):
        if peaks and peaks[-1][1] * error >= 0:
            if abs(error) > abs(peaks[-1][1]):
                peaks[-1] = (x, error)
        else:
            peaks.append((x, error))
    while len(peaks) > count:
        peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
    return [x for x, _ in peaks]


def literal(value: mpf, suffix: str = "") -> str:
    """A hexadecimal constant of C, without the zeros at its end."""
    digits, exponent = float(value).hex().split("p")
    return f"{digits.rstrip('0').rstrip('.')}p{exponent}{suffix}"


def report(name: str, bits: int, error: mpf, *rows: tuple[str, list[mpf]]) -> None:
    print(f"{name}: within 2^{float(mpmath.log(error, 2)):.1f}")
    for label, values in rows:
        suffix = "f" if bits == FLOAT else ""
        print(f"    {label} = " + ", ".join(literal(v, suffix) for v in values))


def fit(
    name: str, function: Function, weight: Function, low: mpf, high: mpf, terms: int, bits: int
) -> None:
    ideal = minimax(function, lambda x: abs(weight(x)), low, high, terms)
    coefficients = [rounded(c, bits) for c in ideal]
    grid = chebyshev(low, high, 1001)
    error = max(abs(weight(x) * (function(x) - polynomial(coefficients, x))) for x in grid)
    report(name, bits, error, ("c", coefficients))


def tanh_correction(z: mpf) -> mpf:
    """(tanh(a) / a - 1) / z with z = a^2."""
    a = mpmath.sqrt(z)
    return (mpmath.tanh(a) / a - 1) / z


def rational_tanh(limit: mpf) -> None:
    """tanh(a) = a + a z P(z) / Q(z), z = a^2, by interpolation at Chebyshev's points."""
    points = chebyshev(mpf("1e-8"), limit**2, 6)
    rows, right = [], []
    for z in points:
        value = tanh_correction(z)
        rows.append([1, z, z**2, -value, -value * z, -value * z**2])
        right.append(value * z**3)
    solved = [rounded(c, DOUBLE) for c in mpmath.lu_solve(mpmath.matrix(rows), right)]
    p, q = solved[:3], [*solved[3:], mpf(1)]

    def error_at(a: mpf) -> mpf:
        z = a**2
        missed = tanh_correction(z) - polynomial(p, z) / polynomial(q, z)
        return abs(a * z / mpmath.tanh(a) * missed)

    error = max(map(error_at, chebyshev(mpf("1e-4"), limit, 1001)))
    report("tanh, double", DOUBLE, error, ("P", p), ("Q", q))


def split(name: str, value: mpf, high_bits: int, low_bits: int) -> None:
    high = rounded(value, high_bits)
    print(f"{name} = {literal(high)} + {literal(rounded(value - high, low_bits))}")


def two_over_pi() -> None:
    """(2 / pi) 2^e mod 4, times 2^-e, in three parts: the first two have 29 bits at most.

    For x of 24 bits their products with x are exact in double, and multiples of 4 quadrants are
    gone where |x| >= 2^(e + 23). Each row serves |x| up to its limit, where x times the first part
    stays below 2^50.
    """
    with mpmath.workprec(400):
        for exponent, limit in (0, 50), (27, 77), (54, 103), (79, 128):
            turned = 2 / mpmath.pi * mpf(2) ** exponent
            turned -= 4 * mpmath.nint(turned / 4)
            first = mpmath.nint(turned * 2**27) / 2**27
            second = mpmath.nint((turned - first) * mpf(2) ** 56) / mpf(2) ** 56
            parts = (first, second, turned - first - second)
            scaled = ", ".join(literal(part / mpf(2) ** exponent) for part in parts)
            print(f"2/pi for |x| < 2^{limit}: {scaled}")


def main() -> None:
    half_ln2 = mpmath.log(2) / 2 * mpf("1.002")  # a little more: n = rint(x / ln 2) is rounded

    def expm1(r: mpf) -> mpf:
        return (mpmath.expm1(r) - r) / r**2

    def expm1_weight(r: mpf) -> mpf:
        return r**2 / mpmath.expm1(r)

    for bits, terms in (FLOAT, 6), (DOUBLE, 11):
        name = f"exp(r) - 1 = r + r^2 c(r), {bits} bits"
        fit(name, expm1, expm1_weight, -half_ln2, half_ln2 * mpf("1.0001"), terms, bits)

    low, high = mpmath.sqrt(mpf("0.4999")) - 1, mpmath.sqrt(mpf("2.0004")) - 1
    fit(
        "log(1 + f) = f - f^2/2 + f^3 c(f), 24 bits",
        lambda f: (mpmath.log1p(f) - f + f * f / 2) / f**3,
        lambda f: f**3 / mpmath.log1p(f),
        low,
        high,
        8,
        FLOAT,
    )
    fit(
        "2 artanh(s) = 2 s + s z c(z), z = s^2, 53 bits",
        lambda z: (2 * mpmath.atanh(mpmath.sqrt(z)) / mpmath.sqrt(z) - 2) / z,
        lambda z: z / 2,
        mpf("1e-9"),
        (high / (2 + high)) ** 2,
        7,
        DOUBLE,
    )

    # For powers of floats: 2^-38 in log2 is 2^-31 in a power of 2^128.
    fit(
        "log2(1 + f) = s c(z), s = f / (2 + f), z = s^2, 53 bits",
        lambda z: 2 * mpmath.atanh(mpmath.sqrt(z)) / mpmath.sqrt(z) / mpmath.log(2),
        lambda z: mpmath.sqrt(z) * mpmath.log(2) / 2 / mpmath.atanh(mpmath.sqrt(z)),
        mpf("1e-9"),
        (high / (2 + high)) ** 2,
        5,
        DOUBLE,
    )
    fit(
        "2^r = c(r), 53 bits",
        lambda r: mpmath.power(2, r),
        lambda r: mpmath.power(2, -r),
        mpf("-0.5"),
        mpf("0.5"),
        8,
        DOUBLE,
    )

    limit = mpf("0.55")
    fit(
        "tanh(a) = a + a z c(z), z = a^2, 24 bits",
        tanh_correction,
        lambda z: z * mpmath.sqrt(z) / mpmath.tanh(mpmath.sqrt(z)),
        mpf("1e-9"),
        limit**2,
        5,
        FLOAT,
    )
    rational_tanh(limit)

    fit(
        "erf(a) = a + a c(z), z = a^2, a < 1, 24 bits",
        lambda z: mpmath.erf(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1,
        lambda z: mpmath.sqrt(z) / mpmath.erf(mpmath.sqrt(z)),
        mpf("1e-12"),
        mpf(1),
        7,
        FLOAT,
    )
    fit(
        "erf(a) = 1 - exp(-a c(a)), a > 1, 24 bits",
        lambda a: -mpmath.log(mpmath.erfc(a)) / a,
        lambda a: a * mpmath.erfc(a) / mpmath.erf(a),
        mpf("0.999"),
        mpf("3.95"),
        6,
        FLOAT,
    )

    reach = mpf("0.9") ** 2  # the quadrant of a huge x is sure to 0.07 only
    fit(
        "sin(r) = r + r z c(z), z = r^2, 24 bits",
        lambda z: (mpmath.sin(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1) / z,
        lambda z: z * mpmath.sqrt(z) / mpmath.sin(mpmath.sqrt(z)),
        mpf("1e-9"),
        reach,
        4,
        FLOAT,
    )
    fit(
        "cos(r) = 1 - z/2 + z^2 c(z), z = r^2, 24 bits",
        lambda z: (mpmath.cos(mpmath.sqrt(z)) - 1 + z / 2) / z**2,
        lambda z: z**2 / mpmath.cos(mpmath.sqrt(z)),
        mpf("1e-9"),
        reach,
        3,
        FLOAT,
    )
    two_over_pi()
    fit(
        "tan(r) = r + r z c(z), z = r^2, 53 bits, for floats",
        lambda z: (mpmath.tan(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1) / z,
        lambda z: z * mpmath.sqrt(z) / mpmath.tan(mpmath.sqrt(z)),
        mpf("1e-9"),
        mpf("0.92") ** 2,
        9,
        DOUBLE,
    )

    ln2, ln10 = mpmath.log(2), mpmath.log(10)
    split("ln 2, float", ln2, 12, FLOAT)
    split("ln 2, float, for exp2", ln2, FLOAT, FLOAT)
    split("ln 2, double", ln2, 32, DOUBLE)
    split("ln 2, double, for exp2", ln2, DOUBLE, DOUBLE)
    split("log2 e, float", 1 / ln2, FLOAT, FLOAT)
    split("log2 e, double", 1 / ln2, DOUBLE, DOUBLE)
    split("log10 e, float", 1 / ln10, FLOAT, FLOAT)
    split("log10 e, double", 1 / ln10, DOUBLE, DOUBLE)
    split("log10 2, float", ln2 / ln10, 12, FLOAT)
    split("log10 2, double", ln2 / ln10, 32, DOUBLE)


if __name__ == "__main__":
    main()
