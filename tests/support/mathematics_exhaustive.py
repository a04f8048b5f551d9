"""Measures the largest error of each function of mathematics.h and trigonometry.h, and its speed.

    nice -n 19 python tests/support/mathematics_exhaustive.py               all floats: ten minutes
    nice -n 19 python tests/support/mathematics_exhaustive.py --every 1009  a second
    python tests/support/mathematics_exhaustive.py tanhf log --doubles 400000000

Floats are compared with the C library's double functions, doubles with its long double ones, which
are of use where a long double has 64 bits of significand (x86). A function of two arguments gets a
random second one. The error is in units in the last place of the exact value; NaN, infinities and
signs must be the same. The time is that of a loop over 10,000 elements, the best of 50.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

HEADER = Path(__file__).parents[2] / "tinygrad_kr" / "native" / "include" / "mathematics.h"
FLAGS = [
    "-std=c99",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
]

DRIVER = r"""
#define _GNU_SOURCE
#include "trigonometry.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { COUNT = 10000 };

static uint64_t state = 88172645463325252u;
static uint64_t random_bits(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 2685821657736338717u;
}
static double uniform(void) { return (random_bits() >> 11) * 0x1p-53; }
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* 1 / (1 + exp(-x)), 0 where exp(-x) overflows in the type that is measured. */
static double sigmoid_of_float(double x)
{
    return (float)exp(-x) == INFINITY ? 0.0 : 1.0 / (1.0 + exp(-x));
}
static long double sigmoid_of_double(long double x)
{
    return (double)expl(-x) == INFINITY ? 0.0L : 1.0L / (1.0L + expl(-x));
}
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static long double softplusl(long double x) { return fmaxl(x, 0) + log1pl(expl(-fabsl(x))); }
static float second_floats[COUNT];
static double second_doubles[COUNT];

#define UNARY(real, name) __attribute__((noinline)) static void loop_##name( \
    const real *restrict x, const real *restrict b, real *restrict y) \
    { (void)b; for (int i = 0; i < COUNT; i++) y[i] = tk_##name(x[i]); }
#define BINARY(real, name) __attribute__((noinline)) static void loop_##name( \
    const real *restrict x, const real *restrict b, real *restrict y) \
    { for (int i = 0; i < COUNT; i++) y[i] = tk_##name(x[i], b[i]); }

UNARY(float, expf) UNARY(float, exp2f) UNARY(float, expm1f) UNARY(float, logf) UNARY(float, log2f)
UNARY(float, log10f) UNARY(float, log1pf) UNARY(float, tanhf) UNARY(float, sigmoidf)
UNARY(float, softplusf) UNARY(float, erff) UNARY(float, sinf) UNARY(float, cosf)
BINARY(float, powf) UNARY(float, sqrtf)
UNARY(double, exp) UNARY(double, exp2) UNARY(double, expm1) UNARY(double, log) UNARY(double, log2)
UNARY(double, log10) UNARY(double, log1p) UNARY(double, tanh) UNARY(double, sigmoid)
UNARY(double, softplus) UNARY(double, erf) UNARY(double, sin) UNARY(double, cos)
BINARY(double, pow) UNARY(double, sqrt)
UNARY(float, tanf) UNARY(float, arcsinf) UNARY(float, arccosf) UNARY(float, arctanf)
UNARY(float, sinhf) UNARY(float, coshf) UNARY(float, arcsinhf) UNARY(float, arccoshf)
UNARY(float, arctanhf) UNARY(float, cbrtf) BINARY(float, arctan2f) BINARY(float, hypotf)
UNARY(double, tan) UNARY(double, arcsin) UNARY(double, arccos) UNARY(double, arctan)
UNARY(double, sinh) UNARY(double, cosh) UNARY(double, arcsinh) UNARY(double, arccosh)
UNARY(double, arctanh) UNARY(double, cbrt) BINARY(double, arctan2) BINARY(double, hypot)

typedef struct {
    const char *name;
    void (*loop)(const float *, const float *, float *);
    double (*exact)(double);
    double (*exact2)(double, double);
    int positive; /* timed on (0, 2), others on (-2, 2) */
} OfFloat;

typedef struct {
    const char *name;
    void (*loop)(const double *, const double *, double *);
    long double (*exact)(long double);
    long double (*exact2)(long double, long double);
    double low, high; /* where a third of the samples lie */
    int positive;
} OfDouble;

static const OfFloat of_float[] = {
    {"expf", loop_expf, exp, 0, 0}, {"exp2f", loop_exp2f, exp2, 0, 0},
    {"expm1f", loop_expm1f, expm1, 0, 0}, {"logf", loop_logf, log, 0, 1},
    {"log2f", loop_log2f, log2, 0, 1}, {"log10f", loop_log10f, log10, 0, 1},
    {"log1pf", loop_log1pf, log1p, 0, 1}, {"tanhf", loop_tanhf, tanh, 0, 0},
    {"sigmoidf", loop_sigmoidf, sigmoid_of_float, 0, 0},
    {"softplusf", loop_softplusf, softplus, 0, 0}, {"erff", loop_erff, erf, 0, 0},
    {"sinf", loop_sinf, sin, 0, 0}, {"cosf", loop_cosf, cos, 0, 0},
    {"powf", loop_powf, 0, pow, 1}, {"sqrtf", loop_sqrtf, sqrt, 0, 1},
    {"tanf", loop_tanf, tan, 0, 0}, {"arcsinf", loop_arcsinf, asin, 0, 0},
    {"arccosf", loop_arccosf, acos, 0, 0}, {"arctanf", loop_arctanf, atan, 0, 0},
    {"sinhf", loop_sinhf, sinh, 0, 0}, {"coshf", loop_coshf, cosh, 0, 0},
    {"arcsinhf", loop_arcsinhf, asinh, 0, 0}, {"arccoshf", loop_arccoshf, acosh, 0, 1},
    {"arctanhf", loop_arctanhf, atanh, 0, 0}, {"cbrtf", loop_cbrtf, cbrt, 0, 0},
    {"arctan2f", loop_arctan2f, 0, atan2, 0}, {"hypotf", loop_hypotf, 0, hypot, 0},
};

static const OfDouble of_double[] = {
    {"exp", loop_exp, expl, 0, -750, 712, 0}, {"exp2", loop_exp2, exp2l, 0, -1080, 1026, 0},
    {"expm1", loop_expm1, expm1l, 0, -40, 712, 0}, {"log", loop_log, logl, 0, 0.5, 2, 1},
    {"log2", loop_log2, log2l, 0, 0.5, 2, 1}, {"log10", loop_log10, log10l, 0, 0.5, 2, 1},
    {"log1p", loop_log1p, log1pl, 0, -1, 3, 1}, {"tanh", loop_tanh, tanhl, 0, -20, 20, 0},
    {"sigmoid", loop_sigmoid, sigmoid_of_double, 0, -712, 40, 0},
    {"softplus", loop_softplus, softplusl, 0, -750, 40, 0}, {"erf", loop_erf, erfl, 0, -6, 6, 0},
    {"sin", loop_sin, sinl, 0, -100, 100, 0}, {"cos", loop_cos, cosl, 0, -100, 100, 0},
    {"pow", loop_pow, 0, powl, 0.1, 10, 1}, {"sqrt", loop_sqrt, sqrtl, 0, 0, 100, 1},
    {"tan", loop_tan, tanl, 0, -100, 100, 0}, {"arcsin", loop_arcsin, asinl, 0, -1, 1, 0},
    {"arccos", loop_arccos, acosl, 0, -1, 1, 0}, {"arctan", loop_arctan, atanl, 0, -4, 4, 0},
    {"sinh", loop_sinh, sinhl, 0, -30, 30, 0}, {"cosh", loop_cosh, coshl, 0, -30, 30, 0},
    {"arcsinh", loop_arcsinh, asinhl, 0, -10, 10, 0},
    {"arccosh", loop_arccosh, acoshl, 0, 1, 10, 1}, {"arctanh", loop_arctanh, atanhl, 0, -1, 1, 0},
    {"cbrt", loop_cbrt, cbrtl, 0, -100, 100, 0}, {"arctan2", loop_arctan2, 0, atan2l, -10, 10, 0},
    {"hypot", loop_hypot, 0, hypotl, -10, 10, 0},
};

static int chosen(const char *name, int count, char **names)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], name))
            return 1;
    return count == 0;
}

static double worst, worst_at, wrong_at;
static long wrong;

/* y is `error` off a value that is `rounded` in y's type. */
static void compare(double x, double y, double rounded, double error)
{
    int same = isnan(rounded) ? isnan(y)
               : !isnan(y) && isinf(y) == isinf(rounded) && signbit(y) == signbit(rounded);
    if (!same) {
        wrong++;
        wrong_at = x;
    } else if (isfinite(rounded) && error > worst) {
        worst = error;
        worst_at = x;
    }
}

static void print(const char *name, double seconds)
{
    printf("%-11s %6.3f ulp at %-24.17g %6.2f ns", name, worst, worst_at, seconds / COUNT * 1e9);
    if (wrong)
        printf("   WRONG at %ld, as %.17g", wrong, wrong_at);
    printf("\n");
    fflush(stdout);
    worst = worst_at = wrong = 0;
}

static void measure_floats(const OfFloat *f, uint64_t every)
{
    static float x[COUNT], y[COUNT];
    for (uint64_t bits = 0; bits >> 32 == 0;) {
        int count = 0;
        for (; count < COUNT && bits >> 32 == 0; bits += every, count++) {
            uint64_t r = f->exact2 ? random_bits() : 0;
            x[count] = tk_of_bitsf((uint32_t)bits);
            second_floats[count] = (r >> 40) * 0x1p-20f - 8;
            if (r & 1)
                second_floats[count] = tk_of_bitsf((uint32_t)(r >> 32));
        }
        f->loop(x, second_floats, y);
        for (int i = 0; i < count; i++) {
            double exact = f->exact ? f->exact(x[i]) : f->exact2(x[i], second_floats[i]);
            double size = fabs(exact) < 0x1p-126 ? 0x1p-126 : fabs(exact);
            uint64_t exponent = tk_bits(size) >> 52;
            double per_ulp = tk_of_bits((2 * 1023 + 23 - exponent) << 52);
            compare(x[i], y[i], (float)exact, fabs(y[i] - exact) * per_ulp);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(f->positive ? 2 * uniform() : 4 * uniform() - 2);
        second_floats[i] = (float)(4 * uniform() - 2);
    }
    double best = 1;
    for (int i = 0; i < 50; i++) {
        double start = now();
        for (int j = 0; j < 10; j++)
            f->loop(x, second_floats, y);
        best = fmin(best, (now() - start) / 10);
    }
    print(f->name, best);
}

/* A third of any bits, a third from low to high, a third of magnitudes from 2^-60 to 16. */
static double sample(double low, double high)
{
    uint64_t r = random_bits();
    if (r % 3 == 0)
        return tk_of_bits(random_bits());
    if (r % 3 == 1)
        return low + (high - low) * uniform();
    return tk_of_bits((random_bits() & 0x800fffffffffffffu) | ((963u + (r >> 8) % 64) << 52));
}

static void measure_doubles(const OfDouble *f, int64_t samples)
{
    static double x[COUNT], y[COUNT];
    for (int64_t done = 0; done < samples; done += COUNT) {
        for (int i = 0; i < COUNT; i++) {
            x[i] = sample(f->low, f->high);
            second_doubles[i] = sample(-40, 40);
        }
        f->loop(x, second_doubles, y);
        for (int i = 0; i < COUNT; i++) {
            long double exact = f->exact ? f->exact(x[i]) : f->exact2(x[i], second_doubles[i]);
            int exponent;
            double rounded = (double)exact;
            frexp(fmax(fabs(rounded), 0x1p-1022), &exponent);
            compare(x[i], y[i], rounded, (double)ldexpl(fabsl(y[i] - exact), 53 - exponent));
        }
    }
    for (int i = 0; i < COUNT; i++) {
        x[i] = f->positive ? 2 * uniform() : 4 * uniform() - 2;
        second_doubles[i] = 4 * uniform() - 2;
    }
    double best = 1;
    for (int i = 0; i < 50; i++) {
        double start = now();
        for (int j = 0; j < 10; j++)
            f->loop(x, second_doubles, y);
        best = fmin(best, (now() - start) / 10);
    }
    print(f->name, best);
}

int main(int count, char **arguments)
{
    for (size_t i = 0; i < sizeof of_float / sizeof *of_float; i++)
        if (chosen(of_float[i].name, count - 3, arguments + 3))
            measure_floats(&of_float[i], strtoull(arguments[1], 0, 10));
    for (size_t i = 0; i < sizeof of_double / sizeof *of_double; i++)
        if (chosen(of_double[i].name, count - 3, arguments + 3))
            measure_doubles(&of_double[i], strtoll(arguments[2], 0, 10));
    return 0;
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="functions, as tanhf or log; all without any")
    parser.add_argument("--every", type=int, default=1, help="every n-th float")
    parser.add_argument("--doubles", type=int, default=1_000_000, help="doubles of each function")
    parser.add_argument("--flags", default="", help="further flags for the compiler")
    settings = parser.parse_args()
    compiler = shlex.split(os.environ.get("CC", "cc"))
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "driver.c"), Path(folder, "driver")
        source.write_text(DRIVER, encoding="utf-8")
        flags = [*FLAGS, *shlex.split(settings.flags), f"-I{HEADER.parent}"]
        subprocess.run([*compiler, *flags, str(source), "-o", str(program), "-lm"], check=True)
        counts = [str(settings.every), str(settings.doubles)]
        subprocess.run([str(program), *counts, *settings.names], check=True)


if __name__ == "__main__":
    main()
