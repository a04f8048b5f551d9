/* Dot products of float32 and float64: 32 or 16 sums side by side, then their sum. */

#ifndef TK_DOT_H
#define TK_DOT_H

#include <stdint.h>

#if defined(__GNUC__) && !defined(__TINYC__)
#define TK_DOT(name, real)                                                                         \
  static inline real name(int64_t n, const real *a, const real *b) {                               \
    typedef real lanes __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));         \
    enum { wide = 32 / sizeof(real) };                                                             \
    lanes some = {0}, more = {0}, others = {0}, rest = {0};                                        \
    int64_t k = 0;                                                                                 \
    for (; k + 4 * wide <= n; k += 4 * wide) {                                                     \
      some += *(const lanes *)(a + k) * *(const lanes *)(b + k);                                   \
      more += *(const lanes *)(a + k + wide) * *(const lanes *)(b + k + wide);                     \
      others += *(const lanes *)(a + k + 2 * wide) * *(const lanes *)(b + k + 2 * wide);           \
      rest += *(const lanes *)(a + k + 3 * wide) * *(const lanes *)(b + k + 3 * wide);             \
    }                                                                                              \
    for (; k + wide <= n; k += wide) some += *(const lanes *)(a + k) * *(const lanes *)(b + k);    \
    some = (some + more) + (others + rest);                                                        \
    real sum = 0;                                                                                  \
    for (int l = 0; l < wide; l++) sum += some[l];                                                 \
    for (; k < n; k++) sum += a[k] * b[k];                                                         \
    return sum;                                                                                    \
  }
#else
#define TK_DOT(name, real)                                                                         \
  static inline real name(int64_t n, const real *a, const real *b) {                               \
    real sum = 0;                                                                                  \
    for (int64_t k = 0; k < n; k++) sum += a[k] * b[k];                                            \
    return sum;                                                                                    \
  }
#endif

TK_DOT(tk_dotf, float)
TK_DOT(tk_dot, double)
#undef TK_DOT

#endif
