/* Elementary functions for the generated programs, in a form that a C compiler vectorises.

   Each is plain C99 without branches, tables or intrinsics. So a loop such as

       for (i = 0; i < n; i++) y[i] = tk_expf(x[i]);

   becomes vector instructions. Compile with

       -O3 -march=native -ffp-contract=off -fno-math-errno -fno-trapping-math

   and never with -ffast-math: NaN, infinities, -0 and denormals are ordinary results. With
   -fno-thread-jumps, which keeps `a ? b : c` a select, GCC's code is up to a tenth faster. Fused
   multiply-add is called by name where the processor has it. Contraction by the compiler could
   make the vector body and the scalar tail of a loop differ. The functions are pure: no state, no
   errno.

   Measured: largest errors in units in the last place (ulp), by
   tests/support/mathematics_exhaustive.py. With fused multiply-add: all 2^32 floats (pow: each with
   a random exponent) and 100 million doubles. Without: every 101st float and 10 million doubles.

                  fused multiply-add    none of it
       function    float   double      float   double   how
       -------------------------------------------------------------------------------------------
       exp          1.01     1.02       0.95     0.96   reduction by ln 2, polynomial
       exp2         1.00     1.02       0.96     1.02   the same; exact for integers
       expm1        1.46     1.92       1.48     1.99   the polynomial of exp
       sigmoid      2.45     2.40       2.42     2.14   exp and a division (1)
       tanh         1.34     1.33       1.31     1.34   exp and a division; rational near 0
       log          0.93     0.87       0.85     0.88   polynomial; by f / (2 + f) in double
       log2         1.11     1.12       1.86     2.09   log, its factor in two parts
       log10        1.09     0.98       1.87     1.81   the same
       log1p        1.53     1.41       1.52     1.36   log, with the rounding error of 1 + x
       softplus     1.78     1.63       1.70     1.60   exp, then log
       erf          1.00     1.38       1.23     1.64   near 0 x + x R; else 1 - exp(...) R (3)
       sin          1.50     0.52       1.49     0.52   2/pi in three parts, all finite x (2)
       cos          1.50     0.52       1.48     0.52   the same (2)
       pow          0.51     0.51       0.51     0.51   2^(y log2 x), in double (2)
       sqrt         0.50     0.50       0.50     0.50   the processor's

   (1) As the engine's 1 / (1 + exp(-x)): exactly 0 where exp(-x) overflows.
   (2) The double function is the C library's, and a loop over it is not vectorised. The same
       holds for tk_remainder and tk_floor_divide, in both precisions.
   (3) R: a polynomial, for double a quotient of two. As ops/error_function.py.
   tk_logaddexp has the error of softplus, in units of the larger of its result and its inputs.

   Methods: W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980 (reduction
   by constants in two parts); J.-M. Muller, Elementary Functions, 3rd edition, 2016 (chapters 3
   and 11: minimax polynomials, reduction); M. Payne and R. Hanek, SIGNUM Newsletter 18, 1983
   (reduction of huge angles by the needed bits of 2/pi); P. T. P. Tang, ACM TOMS 16, 1990
   (logarithm by f / (2 + f)); G. Estrin, 1960 (order of evaluation). The coefficients are derived
   by tests/support/mathematics_coefficients.py. */

#ifndef TK_MATHEMATICS_H
#define TK_MATHEMATICS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* -------------------------------------------------------------------------------- foundations */

static inline uint32_t tk_bitsf(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float tk_of_bitsf(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t tk_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double tk_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* a b + c: one rounding if the processor has fused multiply-add, else two. */
#if defined(__FMA__) || defined(__FP_FAST_FMAF) || defined(__aarch64__)
static inline float tk_fmaf(float a, float b, float c) { return fmaf(a, b, c); }
static inline double tk_fma(double a, double b, double c) { return fma(a, b, c); }
#else
static inline float tk_fmaf(float a, float b, float c) { return a * b + c; }
static inline double tk_fma(double a, double b, double c) { return a * b + c; }
#endif

/* x clipped to [low, high]; NaN stays NaN. */
static inline float tk_boundedf(float x, float low, float high)
{
    x = low > x ? low : x;
    return high < x ? high : x;
}

static inline double tk_bounded(double x, double low, double high)
{
    x = low > x ? low : x;
    return high < x ? high : x;
}

/* Adding 1.5 * 2^23 rounds a float to an integer, which is in the low bits of the sum. */
#define TK_ROUNDERF 0x1.8p23f
#define TK_ROUNDER 0x1.8p52

/* 2^(n + offset), n the integer in the low bits of `shifted`. */
static inline float tk_power_of_twof(float shifted, int offset)
{
    uint32_t n = tk_bitsf(shifted) - tk_bitsf(TK_ROUNDERF);
    return tk_of_bitsf((n + (uint32_t)(127 + offset)) << 23);
}

static inline double tk_power_of_two(double shifted, int offset)
{
    uint64_t n = tk_bits(shifted) - tk_bits(TK_ROUNDER);
    return tk_of_bits((n + (uint64_t)(1023 + offset)) << 52);
}

/* x 2^n in two steps, because n may exceed the range of exponents. Only the last step rounds. */
static inline float tk_scaledf(float x, float shifted)
{
    uint32_t n = tk_bitsf(shifted) - tk_bitsf(TK_ROUNDERF) + 2u * 127u;
    uint32_t half = n >> 1;
    return x * tk_of_bitsf(half << 23) * tk_of_bitsf((n - half) << 23);
}

static inline double tk_scaled(double x, double shifted)
{
    uint64_t n = tk_bits(shifted) - tk_bits(TK_ROUNDER) + 2u * 1023u;
    uint64_t half = n >> 1;
    return x * tk_of_bits(half << 52) * tk_of_bits((n - half) << 52);
}

/* ------------------------------------------------------------------------------- exponentials */

/* r = x - n ln 2 in +-(ln 2)/2; n is left in the low bits of `shifted`. */
static inline float tk_reducedf(float x, float *shifted)
{
    *shifted = tk_fmaf(x, 0x1.715476p+0f, TK_ROUNDERF);
    float n = *shifted - TK_ROUNDERF;
    return tk_fmaf(n, -0x1.0bfbe8p-15f, tk_fmaf(n, -0x1.62ep-1f, x));
}

static inline double tk_reduced(double x, double *shifted)
{
    *shifted = tk_fma(x, 0x1.71547652b82fep+0, TK_ROUNDER);
    double n = *shifted - TK_ROUNDER;
    return tk_fma(n, 0x1.718432a1b0e26p-35, tk_fma(n, -0x1.62e42ffp-1, x));
}

/* exp(r) - 1 for r in +-(ln 2)/2. */
static inline float tk_expm1_of_reducedf(float r)
{
    float z = r * r;
    float a = tk_fmaf(0x1.555554p-3f, r, 0x1p-1f);
    float b = tk_fmaf(0x1.11118ap-7f, r, 0x1.5554bp-5f);
    float c = tk_fmaf(0x1.a033fep-13f, r, 0x1.6d7352p-10f);
    return tk_fmaf(tk_fmaf(tk_fmaf(c, z, b), z, a), z, r);
}

static inline double tk_expm1_of_reduced(double r)
{
    double z = r * r, w = z * z;
    double a = tk_fma(0x1.5555555555559p-3, r, 0x1p-1);
    double b = tk_fma(0x1.111111110f67p-7, r, 0x1.555555555553ep-5);
    double c = tk_fma(0x1.a01a01b003842p-13, r, 0x1.6c16c16c1f1b1p-10);
    double d = tk_fma(0x1.71ddf7fa0c592p-19, r, 0x1.a01a017ba46d7p-16);
    double e = tk_fma(0x1.af5f7093927d1p-26, r, 0x1.27e535f09a80ap-22);
    double f = tk_fma(0x1.1ee9ad412ef1ap-29, z, e);
    double q = tk_fma(tk_fma(f, w, tk_fma(d, z, c)), w, tk_fma(b, z, a));
    return tk_fma(q, z, r);
}

/* exp(x) = 2^n exp(r); 0 below -104, infinite from 88.72 on. */
static inline float tk_expf(float x)
{
    float shifted, r = tk_reducedf(tk_boundedf(x, -104.0f, 89.0f), &shifted);
    return tk_scaledf(1.0f + tk_expm1_of_reducedf(r), shifted);
}

static inline double tk_exp(double x)
{
    double shifted, r = tk_reduced(tk_bounded(x, -746.0, 710.0), &shifted);
    return tk_scaled(1.0 + tk_expm1_of_reduced(r), shifted);
}

/* 2^x = 2^n exp((x - n) ln 2), exact for integers. */
static inline float tk_exp2f(float x)
{
    float bounded = tk_boundedf(x, -151.0f, 129.0f);
    float shifted = bounded + TK_ROUNDERF, part = bounded - (shifted - TK_ROUNDERF);
    float r = tk_fmaf(part, 0x1.62e43p-1f, part * -0x1.05c61p-29f);
    return tk_scaledf(1.0f + tk_expm1_of_reducedf(r), shifted);
}

static inline double tk_exp2(double x)
{
    double bounded = tk_bounded(x, -1076.0, 1025.0);
    double shifted = bounded + TK_ROUNDER, part = bounded - (shifted - TK_ROUNDER);
    double r = tk_fma(part, 0x1.62e42fefa39efp-1, part * 0x1.abc9e3b39803fp-56);
    return tk_scaled(1.0 + tk_expm1_of_reduced(r), shifted);
}

/* exp(x) - 1 = 2 (2^(n-1) (exp(r) - 1) + (2^(n-1) - 1/2)); the second bracket is exact. */
static inline float tk_expm1f(float x)
{
    float shifted, r = tk_reducedf(tk_boundedf(x, -18.0f, 89.0f), &shifted);
    float half = tk_power_of_twof(shifted, -1);
    float y = 2.0f * tk_fmaf(half, tk_expm1_of_reducedf(r), half - 0.5f);
    return fabsf(x) < 0x1p-25f ? x : y;
}

static inline double tk_expm1(double x)
{
    double shifted, r = tk_reduced(tk_bounded(x, -40.0, 710.0), &shifted);
    double half = tk_power_of_two(shifted, -1);
    double y = 2.0 * tk_fma(half, tk_expm1_of_reduced(r), half - 0.5);
    return fabs(x) < 0x1p-54 ? x : y;
}

/* 1 / (1 + exp(-x)), numerator and denominator halved so that the sum does not overflow early. */
static inline float tk_sigmoidf(float x)
{
    float shifted, r = tk_reducedf(tk_boundedf(-x, -25.0f, 89.0f), &shifted);
    float half = tk_power_of_twof(shifted, -1);
    float y = 0.5f / tk_fmaf(half, tk_expm1_of_reducedf(r), half + 0.5f);
    return x < -0x1.62e42ep+6f ? 0.0f : y;
}

static inline double tk_sigmoid(double x)
{
    double shifted, r = tk_reduced(tk_bounded(-x, -40.0, 710.0), &shifted);
    double half = tk_power_of_two(shifted, -1);
    double y = 0.5 / tk_fma(half, tk_expm1_of_reduced(r), half + 0.5);
    return x < -0x1.62e42fefa39efp+9 ? 0.0 : y;
}

/* 1 - 2 / (exp(2 a) + 1) for a = |x| >= 0.55, else a + a z P(z) with z = a^2. */
static inline float tk_tanhf(float x)
{
    float a = fabsf(x), z = a * a;
    float shifted, r = tk_reducedf(tk_boundedf(2.0f * a, 0.0f, 20.0f), &shifted);
    float power = tk_power_of_twof(shifted, 0);
    float large = 1.0f - 2.0f / tk_fmaf(power, tk_expm1_of_reducedf(r), power + 1.0f);
    float p = tk_fmaf(-0x1.9b3036p-8f, z, 0x1.593d02p-6f);
    p = tk_fmaf(tk_fmaf(p, z, -0x1.b9287ap-5f), z, 0x1.110d26p-3f);
    p = tk_fmaf(p, z, -0x1.55554ap-2f);
    float small = tk_fmaf(p, a * z, a);
    return copysignf(a < 0.55f ? small : large, x);
}

/* The same with a z P(z) / Q(z), so that one division serves both. */
static inline double tk_tanh(double x)
{
    double a = fabs(x), z = a * a;
    double shifted, r = tk_reduced(tk_bounded(2.0 * a, 0.0, 40.0), &shifted);
    double power = tk_power_of_two(shifted, 0);
    double e = tk_fma(power, tk_expm1_of_reduced(r), power + 1.0);
    double p = tk_fma(-0x1.edc0f1f3b2f0ap-1, z, -0x1.8cc76a90378fp+6);
    double q = tk_fma(z + 0x1.c2d8064bc8af6p+6, z, 0x1.171cfd12d5c5p+11);
    p = tk_fma(p, z, -0x1.933127ce30f07p+10);
    q = tk_fma(q, z, 0x1.2e64dddaa4b45p+12);
    int small = a < 0.55;
    double top = small ? a * z * p : -2.0, bottom = small ? q : e, base = small ? a : 1.0;
    return copysign(base + top / bottom, x);
}

/* ---------------------------------------------------------------------------------- logarithms */

/* x > 0 as 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). */
static inline float tk_splitf(float x, float *k)
{
    int denormal = x < 0x1p-126f;
    uint32_t bits = tk_bitsf(denormal ? x * 0x1p23f : x);
    bits += 0x3f800000u - 0x3f3504f3u;
    *k = (float)(int32_t)(bits >> 23) - (denormal ? 150.0f : 127.0f);
    return tk_of_bitsf((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
}

static inline double tk_split(double x, double *k)
{
    int denormal = x < 0x1p-1022;
    uint64_t bits = tk_bits(denormal ? x * 0x1p52 : x);
    bits += 0x3ff0000000000000u - 0x3fe6a09e667f3bcdu;
    *k = tk_of_bits((bits >> 52) | tk_bits(0x1p52)) - (0x1p52 + (denormal ? 1075.0 : 1023.0));
    return tk_of_bits((bits & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
}

/* log(1 + f) - f. */
static inline float tk_log1p_tailf(float f)
{
    float z = f * f, w = z * z;
    float a = tk_fmaf(-0x1.000228p-2f, f, 0x1.555554p-2f);
    float b = tk_fmaf(-0x1.5471eep-3f, f, 0x1.99a006p-3f);
    float c = tk_fmaf(-0x1.0d88bap-3f, f, 0x1.22da0ap-3f);
    float d = tk_fmaf(-0x1.38a816p-4f, f, 0x1.055dc4p-3f);
    float q = tk_fmaf(tk_fmaf(d, z, c), w, tk_fmaf(b, z, a));
    return z * tk_fmaf(q, f, -0.5f);
}

/* By log(1 + f) = 2 artanh(s), s = f / (2 + f): f - f^2/2 + s (f^2/2 + R(s^2)). */
static inline double tk_log1p_tail(double f)
{
    double s = f / (2.0 + f), half = 0.5 * f * f;
    double z = s * s, w = z * z;
    double a = tk_fma(0x1.999999997fc41p-2, z, 0x1.5555555555593p-1);
    double b = tk_fma(0x1.c71c51f61d639p-3, z, 0x1.249249420760dp-2);
    double c = tk_fma(0x1.39a14925035d4p-3, z, 0x1.7466431688268p-3);
    double d = tk_fma(0x1.2f0a1355657fbp-3, w, c);
    double q = tk_fma(tk_fma(d, w, b), w, a);
    return tk_fma(s, tk_fma(q, z, half), -half);
}

/* k ln 2 + log(1 + f). */
static inline float tk_log_of_partsf(float k, float f)
{
    return tk_fmaf(k, 0x1.62ep-1f, f + tk_fmaf(k, 0x1.0bfbe8p-15f, tk_log1p_tailf(f)));
}

static inline double tk_log_of_parts(double k, double f)
{
    return tk_fma(k, 0x1.62e42ffp-1, f + tk_fma(k, -0x1.718432a1b0e26p-35, tk_log1p_tail(f)));
}

/* A logarithm y of x outside its range: -infinity at 0, NaN below 0, x itself at infinity. */
static inline float tk_log_endsf(float x, float y)
{
    float at_most_zero = x == 0.0f ? -INFINITY : NAN;
    float above_zero = x < INFINITY ? y : x;
    return x > 0.0f ? above_zero : at_most_zero;
}

static inline double tk_log_ends(double x, double y)
{
    double at_most_zero = x == 0.0 ? -(double)INFINITY : (double)NAN;
    double above_zero = x < (double)INFINITY ? y : x;
    return x > 0.0 ? above_zero : at_most_zero;
}

static inline float tk_logf(float x)
{
    float k, f = tk_splitf(x, &k);
    return tk_log_endsf(x, tk_log_of_partsf(k, f));
}

static inline double tk_log(double x)
{
    double k, f = tk_split(x, &k);
    return tk_log_ends(x, tk_log_of_parts(k, f));
}

/* k + log2(e) log(1 + f), the constant in two parts; exact for powers of two. */
static inline float tk_log2f(float x)
{
    float k, f = tk_splitf(x, &k);
    float tail = tk_fmaf(f, 0x1.4ae0cp-26f, tk_log1p_tailf(f) * 0x1.715476p+0f);
    return tk_log_endsf(x, k + tk_fmaf(f, 0x1.715476p+0f, tail));
}

static inline double tk_log2(double x)
{
    double k, f = tk_split(x, &k);
    double tail = tk_fma(f, 0x1.777d0ffda0d24p-56, tk_log1p_tail(f) * 0x1.71547652b82fep+0);
    return tk_log_ends(x, k + tk_fma(f, 0x1.71547652b82fep+0, tail));
}

static inline float tk_log10f(float x)
{
    float k, f = tk_splitf(x, &k);
    float tail = tk_fmaf(f, -0x1.5b235ep-27f, tk_log1p_tailf(f) * 0x1.bcb7b2p-2f);
    float part = tk_fmaf(f, 0x1.bcb7b2p-2f, tk_fmaf(k, 0x1.3509f8p-18f, tail));
    return tk_log_endsf(x, tk_fmaf(k, 0x1.344p-2f, part));
}

static inline double tk_log10(double x)
{
    double k, f = tk_split(x, &k);
    double tail = tk_fma(f, 0x1.95355baaafad3p-57, tk_log1p_tail(f) * 0x1.bcb7b1526e50ep-2);
    double part = tk_fma(f, 0x1.bcb7b1526e50ep-2, tk_fma(k, -0x1.0c0219dc1da99p-39, tail));
    return tk_log_ends(x, tk_fma(k, 0x1.3441350ap-2, part));
}

/* With u = 1 + x rounded: 1 + x = 2^k (1 + f), f = (u 2^-k - 1) + 2^-k (1 + x - u). */
static inline float tk_log1pf(float x)
{
    float u = 1.0f + x, lost = x - (u - 1.0f);
    uint32_t bits = tk_bitsf(u) + (0x3f800000u - 0x3f3504f3u);
    float k = (float)(int32_t)(bits >> 23) - 127.0f;
    float twice_inverse = tk_of_bitsf(0x7f800000u - (bits & 0x7f800000u));
    float f = tk_of_bitsf((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    float y = tk_log_of_partsf(k, tk_fmaf(0.5f * lost, twice_inverse, f));
    return tk_log_endsf(u, fabsf(x) < 0x1p-25f ? x : y);
}

static inline double tk_log1p(double x)
{
    double u = 1.0 + x, lost = x - (u - 1.0);
    uint64_t bits = tk_bits(u) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    double k = tk_of_bits((bits >> 52) | tk_bits(0x1p52)) - (0x1p52 + 1023.0);
    double twice_inverse = tk_of_bits(0x7ff0000000000000u - (bits & 0x7ff0000000000000u));
    double f = tk_of_bits((bits & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
    double y = tk_log_of_parts(k, tk_fma(0.5 * lost, twice_inverse, f));
    return tk_log_ends(u, fabs(x) < 0x1p-54 ? x : y);
}

/* log(1 + e) for e in [0, 1]. */
static inline float tk_log1p_of_unitf(float e)
{
    float k = e > 0x1.a8279ap-2f;
    return tk_log_of_partsf(k, (e - k) * (1.0f - 0.5f * k));
}

static inline double tk_log1p_of_unit(double e)
{
    double k = e > 0x1.a827999fcef32p-2;
    return tk_log_of_parts(k, (e - k) * (1.0 - 0.5 * k));
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)). */
static inline float tk_softplusf(float x)
{
    return (x < 0.0f ? 0.0f : x) + tk_log1p_of_unitf(tk_expf(-fabsf(x)));
}

static inline double tk_softplus(double x)
{
    return (x < 0.0 ? 0.0 : x) + tk_log1p_of_unit(tk_exp(-fabs(x)));
}

/* log(exp(a) + exp(b)); equal ones, also infinite, give a + log 2. */
static inline float tk_logaddexpf(float a, float b)
{
    float apart = a == b ? 0.0f : fabsf(a - b);
    return (a < b ? b : a) + tk_log1p_of_unitf(tk_expf(-apart));
}

static inline double tk_logaddexp(double a, double b)
{
    double apart = a == b ? 0.0 : fabs(a - b);
    return (a < b ? b : a) + tk_log1p_of_unit(tk_exp(-apart));
}

/* ------------------------------------------------------------------------------ error function */

/* a + a P(a^2) for a = |x| < 1, else 1 - exp(-a Q(a)). */
static inline float tk_erff(float x)
{
    float a = fabsf(x), z = x * x;
    float p = tk_fmaf(0x1.496a44p-14f, z, -0x1.a3f708p-11f);
    p = tk_fmaf(tk_fmaf(p, z, 0x1.5405b2p-8f), z, -0x1.b7f90ep-6f);
    p = tk_fmaf(tk_fmaf(p, z, 0x1.ce2cf8p-4f), z, -0x1.81273ep-2f);
    p = tk_fmaf(p, z, 0x1.06eba8p-3f);
    float b = 3.95f < a ? 3.95f : a;
    float q = tk_fmaf(-0x1.b9d8bcp-13f, b, 0x1.a1c54ep-9f);
    q = tk_fmaf(tk_fmaf(q, b, -0x1.758d2ap-6f), b, 0x1.ae907ep-4f);
    q = tk_fmaf(tk_fmaf(q, b, 0x1.458b7cp-1f), b, 0x1.20e41ap+0f);
    float shifted, r = tk_reducedf(-b * q, &shifted);
    float power = tk_power_of_twof(shifted, 0);
    float large = tk_fmaf(-power, tk_expm1_of_reducedf(r), 1.0f - power);
    return a < 1.0f ? tk_fmaf(p, x, x) : copysignf(large, x);
}


/* ----------------------------------------------------------------------------- sine and cosine */

/* x = (n + f) pi / 2, |f| <= 0.58: returns f pi / 2, to a float, for every finite x.

   The product of x (24 bits) and each of the first two parts of 2/pi (29 bits) is exact in double.
   For each of four ranges of |x|, the bits of 2/pi that give multiples of 4 quadrants are
   omitted. */
static inline double tk_quadrantf(float x, uint32_t *n)
{
    double y = x, a = fabs(y);
    double high = a < 0x1p50    ? 0x1.45f306cp-1
                  : a < 0x1p77  ? -0x1.1b1bbecp-28
                  : a < 0x1p103 ? 0x1.4a7f09ep-54
                                : -0x1.505c158p-81;
    double middle = a < 0x1p50    ? 0x1.c9c882ap-29
                    : a < 0x1p77  ? 0x1.29fc276p-56
                    : a < 0x1p103 ? -0x1.4170566p-83
                                  : -0x1.6447e48p-109;
    double low = a < 0x1p50    ? 0x1.4fe13abe8fa9ap-59
                 : a < 0x1p77  ? -0x1.05c1596447e49p-85
                 : a < 0x1p103 ? 0x1.bb81b6c52b328p-113
                               : -0x1.3ad4cd8778df8p-137;
    double quadrants = y * high;
    double shifted = tk_fma(y, middle, quadrants) + TK_ROUNDER;
    double f = tk_fma(y, low, tk_fma(y, middle, quadrants - (shifted - TK_ROUNDER)));
    *n = (uint32_t)tk_bits(shifted);
    return f * 0x1.921fb54442d18p+0;
}

/* sin(r) and cos(r) for |r| <= 0.9. copysignf: the last sum would give +0 for r = -0. */
static inline float tk_sin_of_reducedf(float r)
{
    float z = r * r;
    float p = tk_fmaf(tk_fmaf(0x1.6b3e0ap-19f, z, -0x1.a007dep-13f), z, 0x1.1110fep-7f);
    return copysignf(tk_fmaf(tk_fmaf(p, z, -0x1.555556p-3f), r * z, r), r);
}

static inline float tk_cos_of_reducedf(float r)
{
    float z = r * r;
    float p = tk_fmaf(tk_fmaf(0x1.97f5a8p-16f, z, -0x1.6c0464p-10f), z, 0x1.55553cp-5f);
    return tk_fmaf(tk_fmaf(p, z, -0.5f), z, 1.0f);
}

static inline float tk_sinf(float x)
{
    uint32_t n;
    float r = (float)tk_quadrantf(x, &n);
    float y = n & 1u ? tk_cos_of_reducedf(r) : tk_sin_of_reducedf(r);
    y = tk_of_bitsf(tk_bitsf(y) ^ ((n & 2u) << 30));
    return fabsf(x) < INFINITY ? y : x - x;
}

static inline float tk_cosf(float x)
{
    uint32_t n;
    float r = (float)tk_quadrantf(x, &n);
    float y = n & 1u ? tk_sin_of_reducedf(r) : tk_cos_of_reducedf(r);
    y = tk_of_bitsf(tk_bitsf(y) ^ (((n + 1u) & 2u) << 30));
    return fabsf(x) < INFINITY ? y : x - x;
}

static inline double tk_sin(double x) { return sin(x); }
static inline double tk_cos(double x) { return cos(x); }

/* -------------------------------------------------------------------------------------- powers */

static inline float tk_sqrtf(float x) { return sqrtf(x); }
static inline double tk_sqrt(double x) { return sqrt(x); }

/* The nearest integer, halves to even; -0.3 gives -0. */
static inline float tk_rintf(float x)
{
    float a = fabsf(x);
    return copysignf(a < 0x1p23f ? (a + 0x1p23f) - 0x1p23f : a, x);
}

static inline double tk_rint(double x)
{
    double a = fabs(x);
    return copysign(a < 0x1p52 ? (a + 0x1p52) - 0x1p52 : a, x);
}

/* a^y = 2^(y log2 a) in double, to 2^-30, for floats a >= 0. Denormal floats are normal doubles. */
static inline float tk_pow_of_sizef(float a, float y)
{
    double x = a;
    uint64_t bits = tk_bits(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    double k = tk_of_bits((bits >> 52) | tk_bits(0x1p52)) - (0x1p52 + 1023.0);
    double f = tk_of_bits((bits & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
    double s = f / (2.0 + f), z = s * s;
    double p = tk_fma(0x1.5ceaea7e3855ep-2, z, 0x1.a58d66c74c55ep-2);
    p = tk_fma(tk_fma(p, z, 0x1.2777802ccadcp-1), z, 0x1.ec709d127af7bp-1);
    p = tk_fma(p, z, 0x1.71547652bee2dp+1);
    double logarithm = a < INFINITY ? tk_fma(p, s, k) : x;
    logarithm = x == 0.0 ? -(double)INFINITY : logarithm;

    double power = tk_bounded((double)y * logarithm, -300.0, 300.0);
    double shifted = power + TK_ROUNDER, r = power - (shifted - TK_ROUNDER), w = r * r;
    double q = tk_fma(tk_fma(0x1.fe176b93ad7dfp-17, r, 0x1.446a1f84bacf6p-13), w,
                      tk_fma(0x1.5d8a709aeec8cp-10, r, 0x1.3b29dc4121cdep-7));
    q = tk_fma(q, w, tk_fma(0x1.c6b08aaf20d61p-5, r, 0x1.ebfbe0a4bf1eep-3));
    q = tk_fma(q, w, tk_fma(0x1.62e42ff1162efp-1, r, 0x1.ffffffffabb88p-1));
    return (float)(q * tk_power_of_two(shifted, 0));
}

/* C99's rules: the result has the sign of x if y is an odd integer. x < 0 gives NaN for other than
   integer y. x^0 = 1^y = (-1)^(+-infinity) = 1. */
static inline float tk_powf(float x, float y)
{
    float a = fabsf(x), half = 0.5f * y;
    float size = tk_pow_of_sizef(a, y);
    int integer = tk_rintf(y) == y, odd = integer & (tk_rintf(half) != half);
    int is_one = (y == 0.0f) | (x == 1.0f) | ((a == 1.0f) & (fabsf(y) == INFINITY));
    int is_nan = (x < 0.0f) & (a < INFINITY) & !integer;
    float signed_size = odd ? copysignf(size, x) : size;
    return is_one ? 1.0f : is_nan ? NAN : signed_size;
}

static inline double tk_pow(double x, double y) { return pow(x, y); }

/* ------------------------------------------------------------ NumPy's rules that are not C's */

/* np.maximum and np.minimum: NaN if either is; of equal numbers, such as +0 and -0, the second. */
static inline float tk_maxf(float a, float b) { return ((a > b) | (a != a)) ? a : b; }
static inline double tk_max(double a, double b) { return ((a > b) | (a != a)) ? a : b; }
static inline float tk_minf(float a, float b) { return ((a < b) | (a != a)) ? a : b; }
static inline double tk_min(double a, double b) { return ((a < b) | (a != a)) ? a : b; }

/* np.fmax and np.fmin: NaN only if both are. */
static inline float tk_fmaxf(float a, float b) { return ((a > b) | (b != b)) ? a : b; }
static inline double tk_fmax(double a, double b) { return ((a > b) | (b != b)) ? a : b; }
static inline float tk_fminf(float a, float b) { return ((a < b) | (b != b)) ? a : b; }
static inline double tk_fmin(double a, double b) { return ((a < b) | (b != b)) ? a : b; }

/* np.maximum(x, 0): NaN stays NaN, -0 becomes +0. */
static inline float tk_reluf(float x) { return x <= 0.0f ? 0.0f : x; }
static inline double tk_relu(double x) { return x <= 0.0 ? 0.0 : x; }

/* np.clip with two numbers: NaN if any of the three is; `high` if it is below `low`. */
static inline float tk_clipf(float x, float low, float high)
{
    x = ((x < low) | (low != low)) ? low : x;
    return ((x > high) | (high != high)) ? high : x;
}

static inline double tk_clip(double x, double low, double high)
{
    x = ((x < low) | (low != low)) ? low : x;
    return ((x > high) | (high != high)) ? high : x;
}

/* np.sign: -1, 0, 1 or NaN; +0 for both zeros. */
static inline float tk_signf(float x)
{
    float y = x == 0.0f ? 0.0f : copysignf(1.0f, x);
    return x != x ? x : y;
}

static inline double tk_sign(double x)
{
    double y = x == 0.0 ? 0.0 : copysign(1.0, x);
    return x != x ? x : y;
}

/* np.remainder: the sign of the divisor, also for 0; NaN for divisor 0. */
static inline float tk_remainderf(float a, float b)
{
    float r = fmodf(a, b);
    float turned = (r < 0.0f) != (b < 0.0f) ? r + b : r;
    return r == 0.0f ? copysignf(0.0f, b) : turned;
}

static inline double tk_remainder(double a, double b)
{
    double r = fmod(a, b);
    double turned = (r < 0.0) != (b < 0.0) ? r + b : r;
    return r == 0.0 ? copysign(0.0, b) : turned;
}

/* np.floor_divide: (a - remainder) / b, rounded to an integer; a / b for divisor 0. */
static inline float tk_floor_dividef(float a, float b)
{
    float r = fmodf(a, b);
    float below = (r != 0.0f) & ((r < 0.0f) != (b < 0.0f));
    float q = (a - r) / b - below;
    float whole = floorf(q);
    whole += (float)(q - whole > 0.5f);
    float y = q == 0.0f ? copysignf(0.0f, a / b) : whole;
    return b == 0.0f ? a / b : y;
}

static inline double tk_floor_divide(double a, double b)
{
    double r = fmod(a, b);
    double below = (r != 0.0) & ((r < 0.0) != (b < 0.0));
    double q = (a - r) / b - below;
    double whole = floor(q);
    whole += (double)(q - whole > 0.5);
    double y = q == 0.0 ? copysign(0.0, a / b) : whole;
    return b == 0.0 ? a / b : y;
}

/* The same for integers: 0 for divisor 0; the least integer by -1 is itself. */
static inline int64_t tk_remainder_int64(int64_t a, int64_t b)
{
    if (b == 0 || b == -1)
        return 0;
    int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static inline int64_t tk_floor_divide_int64(int64_t a, int64_t b)
{
    if (b == 0)
        return 0;
    if (b == -1)
        return (int64_t)(0u - (uint64_t)a);
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static inline int32_t tk_remainder_int32(int32_t a, int32_t b)
{
    return (int32_t)tk_remainder_int64(a, b);
}

static inline int32_t tk_floor_divide_int32(int32_t a, int32_t b)
{
    return (int32_t)tk_floor_divide_int64(a, b);
}

/* a + a R(a^2) / S(a^2) for a = |x| < 0.84375, else 1 - exp(-a^2) C(a) / D(a); one division. */
static inline double tk_erf(double x)
{
    double a = fabs(x), b = 6.0 < a ? 6.0 : a, z = b * b;
    double r = tk_fma(-2.37630166566501626084e-05, z, -5.77027029648944159157e-03);
    r = tk_fma(tk_fma(r, z, -2.84817495755985104766e-02), z, -3.25042107247001499370e-01);
    r = tk_fma(r, z, 1.28379167095512558561e-01);
    double s = tk_fma(-3.96022827877536812320e-06, z, 1.32494738004321644526e-04);
    s = tk_fma(tk_fma(s, z, 5.08130628187576562776e-03), z, 6.50222499887672944485e-02);
    s = tk_fma(tk_fma(s, z, 3.97917223959155352819e-01), z, 1.0);
    double c = tk_fma(2.15311535474403846e-8, b, 5.64188496988670089e-1);
    c = tk_fma(tk_fma(c, b, 8.88314979438837594e0), b, 6.61191906371416295e1);
    c = tk_fma(tk_fma(c, b, 2.98635138197400131e2), b, 8.81952221241769090e2);
    c = tk_fma(tk_fma(c, b, 1.71204761263407058e3), b, 2.05107837782607147e3);
    c = tk_fma(c, b, 1.23033935479799725e3);
    double d = tk_fma(b + 1.57449261107098347e1, b, 1.17693950891312499e2);
    d = tk_fma(tk_fma(d, b, 5.37181101862009858e2), b, 1.62138957456669019e3);
    d = tk_fma(tk_fma(d, b, 3.29079923573345963e3), b, 4.36261909014324716e3);
    d = tk_fma(tk_fma(d, b, 3.43936767414372164e3), b, 1.23033935480374942e3);
    int small = a < 0.84375;
    double ratio = (small ? r : c) / (small ? s : d);
    double large = tk_fma(-tk_exp(-z), ratio, 1.0);
    return small ? tk_fma(x, ratio, x) : copysign(large, x);
}

#endif
