/* Tangent, inverses of circular functions, hyperbolic functions and their inverses, cube root and
   distance: what few programs call. In the form of mathematics.h, and with its flags.

   Float functions compute in double, so their last bit is nearly always right.

   Measured: largest errors in units in the last place, of every 257th float and of three million
   doubles.

                  fused multiply-add    none of it
       function    float   double      float   double   how
       -------------------------------------------------------------------------------------------
       tan          0.51     0.51       0.51     0.51   polynomial, its reciprocal by quadrants (1)
       arcsin       0.51     0.87       0.51     0.87   x + x R(x^2); from 1/2 on by sqrt((1 - x) / 2)
       arccos       0.51     0.79       0.51     0.79   the same
       arctan       0.51     0.85       0.51     0.85   polynomial around 0, 1/2, 1, 3/2 and infinity
       arctan2      0.51     1.60       0.51     1.60   arctan of the smaller by the larger
       sinh         0.51     2.40       0.51     2.40   exp(x) - 1
       cosh         0.51     1.45       0.51     1.45   exp
       arcsinh      0.51     1.80       0.51     1.80   log(1 + x)
       arccosh      0.51     2.10       0.51     2.10   the same
       arctanh      0.51     1.75       0.51     1.75   the same
       cbrt         0.51     0.68       0.51     0.68   a guess from the exponent, Newton's method
       hypot        0.51     1.00       0.51     1.20   sqrt(a^2 + b^2), scaled by a power of two

   (1) The double function is the C library's, and a loop over it is not vectorised. The same holds
       for tk_fmod, in both precisions.

   The rational functions of arcsin and the polynomial of arctan are those of FDLIBM (Sun
   Microsystems, 1993); the polynomial of cbrt is FreeBSD's (B. Evans). */

#ifndef TK_TRIGONOMETRY_H
#define TK_TRIGONOMETRY_H

#include "mathematics.h"

/* ---------------------------------------------------------------------- tangent and its inverse */

static inline float tk_tanf(float x)
{
    uint32_t n;
    double r = tk_quadrantf(x, &n), z = r * r, w = z * z;
    double a = tk_fma(0x1.11100cd38036p-3, z, 0x1.5555581dcf579p-2);
    double b = tk_fma(0x1.625d0f050083dp-6, z, 0x1.ba5ca4d2c00f7p-5);
    double c = tk_fma(0x1.d77c4a33e9d3dp-11, z, 0x1.44b2fedc718b8p-7);
    double d = tk_fma(-0x1.8cf828c2f6a51p-9, z, 0x1.6eef2afc4e5a7p-8);
    double high = tk_fma(tk_fma(0x1.c6f6e48c9bcedp-10, w, d), w, c);
    double p = tk_fma(tk_fma(high, w, b), w, a);
    double y = tk_fma(p, z * r, r);
    double turned = copysign(1.0, y) / -fabs(y);
    y = n & 1u ? turned : copysign(y, r);
    return fabsf(x) < INFINITY ? (float)y : x - x;
}

static inline double tk_tan(double x) { return tan(x); }

/* Around arctan(c), c = 0, 1/2, 1, 3/2 or infinity: arctan(c) + arctan((a - c) / (1 + a c)). */
static inline double tk_arctan(double x)
{
    double a = fabs(x);
    int half = a >= 0.4375, one = a >= 0.6875, more = a >= 1.1875, far = a >= 2.4375;
    double top = half ? 2.0 * a - 1.0 : a, bottom = half ? 2.0 + a : 1.0;
    double base = half ? 4.63647609000806093515e-01 : 0.0;
    double low = half ? 2.26987774529616870924e-17 : 0.0;
    top = one ? a - 1.0 : top, bottom = one ? a + 1.0 : bottom;
    base = one ? 7.85398163397448278999e-01 : base, low = one ? 3.06161699786838301793e-17 : low;
    top = more ? a - 1.5 : top, bottom = more ? 1.0 + 1.5 * a : bottom;
    base = more ? 9.82793723247329054082e-01 : base, low = more ? 1.39033110312309984516e-17 : low;
    top = far ? -1.0 : top, bottom = far ? a : bottom;
    base = far ? 1.57079632679489655800e+00 : base, low = far ? 6.12323399573676603587e-17 : low;
    double t = top / bottom, z = t * t, w = z * z;
    double even = tk_fma(1.62858201153657823623e-02, w, 4.97687799461593236017e-02);
    even = tk_fma(tk_fma(even, w, 6.66107313738753120669e-02), w, 9.09088713343650656196e-02);
    even = z * tk_fma(tk_fma(even, w, 1.42857142725034663711e-01), w, 3.33333333333329318027e-01);
    double odd = tk_fma(-3.65315727442169155270e-02, w, -5.83357013379057348645e-02);
    odd = tk_fma(tk_fma(odd, w, -7.69187620504482999495e-02), w, -1.11111104054623557880e-01);
    odd = w * tk_fma(odd, w, -1.99999999998764832476e-01);
    return copysign(base - ((t * (even + odd) - low) - t), x);
}

static inline float tk_arctanf(float x) { return (float)tk_arctan(x); }

/* The angle of the point (b, a), in [-pi, pi]; of the origin 0 or pi, with the sign of a. */
static inline double tk_arctan2(double a, double b)
{
    double x = fabs(b), y = fabs(a);
    int steep = y > x;
    double larger = steep ? y : x, smaller = steep ? x : y;
    double ratio = smaller / larger;
    ratio = larger == 0.0 ? 0.0 : smaller == larger ? 1.0 : ratio;
    double angle = tk_arctan(ratio);
    angle = steep ? 1.57079632679489655800e+00 - (angle - 6.12323399573676603587e-17) : angle;
    double left = 3.14159265358979311600e+00 - (angle - 1.22464679914735317720e-16);
    angle = copysign(1.0, b) < 0.0 ? left : angle;
    return (a != a) | (b != b) ? a + b : copysign(angle, a);
}

static inline float tk_arctan2f(float a, float b) { return (float)tk_arctan2(a, b); }

/* ------------------------------------------------------------------ inverses of sine and cosine */

/* (arcsin(x) - x) / x, of z = x^2 <= 1/4. */
static inline double tk_arcsin_tail(double z)
{
    double p = tk_fma(3.47933107596021167570e-05, z, 7.91534994289814532176e-04);
    p = tk_fma(tk_fma(p, z, -4.00555345006794114027e-02), z, 2.01212532134862925881e-01);
    p = tk_fma(tk_fma(p, z, -3.25565818622400915405e-01), z, 1.66666666666666657415e-01);
    double q = tk_fma(7.70381505559019352791e-02, z, -6.88283971605453293030e-01);
    q = tk_fma(tk_fma(q, z, 2.02094576023350569471e+00), z, -2.40339491173441421878e+00);
    return z * p / tk_fma(q, z, 1.0);
}

/* The square root of z as a sum: the first part, of 26 bits, and the second one. */
static inline double tk_sqrt_parts(double z, double *low)
{
    double root = sqrt(z), high = tk_of_bits(tk_bits(root) & ~(uint64_t)0x7ffffff);
    *low = z == 0.0 ? 0.0 : (z - high * high) / (root + high);
    return high;
}

static inline double tk_arcsin(double x)
{
    double a = fabs(x), low;
    int near = a < 0.5;
    double z = near ? a * a : 0.5 * (1.0 - a), high = tk_sqrt_parts(z, &low);
    double tail = tk_arcsin_tail(z);
    double p = 2.0 * (high + low) * tail - (6.12323399573676603587e-17 - 2.0 * low);
    double far = 7.85398163397448278999e-01 - (p - (7.85398163397448278999e-01 - 2.0 * high));
    return copysign(near ? tk_fma(a, tail, a) : far, x);
}

static inline float tk_arcsinf(float x) { return (float)tk_arcsin(x); }

static inline double tk_arccos(double x)
{
    double a = fabs(x), low;
    int near = a < 0.5;
    double z = near ? a * a : 0.5 * (1.0 - a), high = tk_sqrt_parts(z, &low);
    double tail = tk_arcsin_tail(z);
    double middle = 1.57079632679489655800e+00 - (x - (6.12323399573676603587e-17 - x * tail));
    double root = (high + low) * tail + low;
    double right = 2.0 * (high + root);
    double left = 2.0 * (1.57079632679489655800e+00 - (high + (root - 6.12323399573676603587e-17)));
    double far = x < 0.0 ? left : right;
    return near ? middle : far;
}

static inline float tk_arccosf(float x) { return (float)tk_arccos(x); }

/* ------------------------------------------------------------------------- hyperbolic functions */

/* exp(x) / 2, without overflow before the result. */
static inline double tk_half_exp(double x)
{
    double shifted, r = tk_reduced(tk_bounded(x, -746.0, 712.0), &shifted);
    return tk_scaled(tk_fma(0.5, tk_expm1_of_reduced(r), 0.5), shifted);
}

/* (e + e / (e + 1)) / 2 with e = exp(x) - 1; exp(x) / 2 where that is the same. */
static inline double tk_sinh(double x)
{
    double a = fabs(x), e = tk_expm1(tk_bounded(a, 0.0, 40.0));
    double y = 0.5 * (e + e / (e + 1.0));
    return copysign(a > 22.0 ? tk_half_exp(a) : y, x);
}

static inline double tk_cosh(double x)
{
    double e = tk_half_exp(fabs(x));
    return e + 0.25 / e;
}

static inline float tk_sinhf(float x) { return (float)tk_sinh(x); }
static inline float tk_coshf(float x) { return (float)tk_cosh(x); }

/* log(1 + t), and log(1 + t) + log 2 where x is so large that its square may overflow. */
static inline double tk_log1p_or_double(double t, double x)
{
    int large = x > 0x1p60;
    return tk_log1p(large ? x : t) + (large ? 0x1.62e42fefa39efp-1 : 0.0);
}

/* log(a + sqrt(a^2 + 1)), a = |x|. */
static inline double tk_arcsinh(double x)
{
    double a = fabs(x), z = a * a;
    return copysign(tk_log1p_or_double(a + z / (1.0 + sqrt(1.0 + z)), a), x);
}

/* log(x + sqrt(x^2 - 1)). */
static inline double tk_arccosh(double x)
{
    double t = x - 1.0, y = tk_log1p_or_double(t + sqrt(tk_fma(t, t, 2.0 * t)), x);
    return x < 1.0 ? (double)NAN : y;
}

/* log((1 + a) / (1 - a)) / 2, a = |x|. */
static inline double tk_arctanh(double x)
{
    double a = fabs(x), t = 2.0 * a, part = a < 0.5 ? tk_fma(t, a / (1.0 - a), t) : t / (1.0 - a);
    return copysign(0.5 * tk_log1p(part), x);
}

static inline float tk_arcsinhf(float x) { return (float)tk_arcsinh(x); }
static inline float tk_arccoshf(float x) { return (float)tk_arccosh(x); }
static inline float tk_arctanhf(float x) { return (float)tk_arctanh(x); }

/* ------------------------------------------------------------------------------ root and length */

/* A guess of 5 bits from a third of the exponent, a polynomial to 23 bits, one step of Newton's. */
static inline double tk_cbrt(double x)
{
    double a = fabs(x);
    int denormal = a < 0x1p-1022, number = (a > 0.0) & (a < (double)INFINITY);
    uint64_t high = tk_bits(denormal ? a * 0x1p54 : a) >> 32;
    uint64_t third = ((high * 0xaaaaaaabu) >> 33) + (denormal ? 696219795u : 715094163u);
    double t = tk_of_bits(third << 32), r = t * t * (t / a);
    double p = tk_fma(tk_fma(1.621429720105354466140, r, -1.88497979543377169875), r,
                      1.87595182427177009643);
    t *= tk_fma(tk_fma(0.145996192886612446982, r, -0.758397934778766047437), r * r * r, p);
    t = tk_of_bits((tk_bits(t) + 0x80000000u) & 0xffffffffc0000000u);
    r = a / (t * t);
    t = t + t * ((r - t) / (t + t + r));
    return number ? copysign(t, x) : x;
}

static inline float tk_cbrtf(float x) { return (float)tk_cbrt(x); }

static inline double tk_hypot(double a, double b)
{
    double x = fabs(a), y = fabs(b);
    double larger = x > y ? x : y, smaller = x > y ? y : x;
    int large = larger > 0x1p500, small = larger < 0x1p-450;
    double scale = large ? 0x1p-600 : small ? 0x1p600 : 1.0;
    double back = large ? 0x1p600 : small ? 0x1p-600 : 1.0;
    double l = larger * scale, s = smaller * scale;
    double length = back * sqrt(tk_fma(l, l, s * s));
    int infinite = (x == (double)INFINITY) | (y == (double)INFINITY);
    return infinite ? (double)INFINITY : length;
}

static inline float tk_hypotf(float a, float b)
{
    double x = a, y = b, z = sqrt(x * x + y * y);
    int infinite = (fabsf(a) == INFINITY) | (fabsf(b) == INFINITY);
    return infinite ? INFINITY : (float)z;
}

/* ------------------------------------------------------------- NumPy's rules for other functions */

static inline float tk_truncf(float x) { return truncf(x); }
static inline double tk_trunc(double x) { return trunc(x); }
static inline float tk_fmodf(float a, float b) { return fmodf(a, b); }
static inline double tk_fmod(double a, double b) { return fmod(a, b); }
static inline float tk_copysignf(float a, float b) { return copysignf(a, b); }
static inline double tk_copysign(double a, double b) { return copysign(a, b); }
static inline int tk_signbitf(float x) { return tk_bitsf(x) >> 31; }
static inline int tk_signbit(double x) { return tk_bits(x) >> 63; }
static inline float tk_deg2radf(float x) { return x * (3.14159265358979323846f / 180.0f); }
static inline double tk_deg2rad(double x) { return x * (3.14159265358979323846 / 180.0); }
static inline float tk_rad2degf(float x) { return x * (180.0f / 3.14159265358979323846f); }
static inline double tk_rad2deg(double x) { return x * (180.0 / 3.14159265358979323846); }

/* np.fmod: 0 for divisor 0. */
static inline int64_t tk_fmod_int64(int64_t a, int64_t b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

static inline int32_t tk_fmod_int32(int32_t a, int32_t b)
{
    return (int32_t)tk_fmod_int64(a, b);
}

/* 0 for a < 0, b for a = 0, 1 for a > 0. */
static inline float tk_heavisidef(float a, float b)
{
    float y = a < 0.0f ? 0.0f : 1.0f;
    return a != a ? a : a == 0.0f ? b : y;
}

static inline double tk_heaviside(double a, double b)
{
    double y = a < 0.0 ? 0.0 : 1.0;
    return a != a ? a : a == 0.0 ? b : y;
}

/* sin(pi x) / (pi x), 1 at 0. */
static inline float tk_sincf(float x)
{
    float y = (x == 0.0f ? 1.0e-20f : x) * 3.14159265358979323846f;
    return tk_sinf(y) / y;
}

static inline double tk_sinc(double x)
{
    double y = (x == 0.0 ? 1.0e-20 : x) * 3.14159265358979323846;
    return tk_sin(y) / y;
}

/* log2(2^a + 2^b); equal ones, also infinite, give a + 1. */
static inline float tk_logaddexp2f(float a, float b)
{
    float apart = a == b ? 0.0f : fabsf(a - b);
    return (a < b ? b : a) + tk_log1p_of_unitf(tk_exp2f(-apart)) * 0x1.715476p+0f;
}

static inline double tk_logaddexp2(double a, double b)
{
    double apart = a == b ? 0.0 : fabs(a - b);
    return (a < b ? b : a) + tk_log1p_of_unit(tk_exp2(-apart)) * 0x1.71547652b82fep+0;
}

#endif
