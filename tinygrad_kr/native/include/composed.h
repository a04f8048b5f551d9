/* Functions that Python composes of several ops, in one pass: y = f(x), and dx = g f'(x).

   a, b: numbers of the function. Slopes at kinks, and results for NaN, are those of the composition
   in `functional/activations.py`. */

typedef struct {
  TK_REAL a, b;
} tk_numbers;

#define TK_COMPOSED(name, value, slope)                                                          \
  static void tk_##name##_of(int64_t n, TK_REAL a, TK_REAL b, const TK_REAL *restrict from,      \
                             TK_REAL *restrict to) {                                             \
    (void)a, (void)b;                                                                            \
    for (int64_t i = 0; i < n; i++) {                                                            \
      const TK_REAL x = from[i];                                                                 \
      to[i] = value;                                                                             \
    }                                                                                            \
  }                                                                                              \
  static void tk_##name##_vjp_of(int64_t n, TK_REAL a, TK_REAL b, const TK_REAL *restrict given, \
                                 const TK_REAL *restrict from, TK_REAL *restrict to) {           \
    (void)a, (void)b;                                                                            \
    for (int64_t i = 0; i < n; i++) {                                                            \
      const TK_REAL x = from[i], g = given[i];                                                   \
      (void)x;                                                                                   \
      to[i] = slope;                                                                             \
    }                                                                                            \
  }                                                                                              \
  static void tk_##name##_piece(void **memory, int64_t start, int64_t stop) {                    \
    const tk_numbers *numbers = memory[3];                                                       \
    tk_##name##_of(stop - start, numbers->a, numbers->b, (const TK_REAL *)memory[0] + start,     \
                   (TK_REAL *)memory[1] + start);                                                \
  }                                                                                              \
  static void tk_##name##_vjp_piece(void **memory, int64_t start, int64_t stop) {                \
    const tk_numbers *numbers = memory[3];                                                       \
    tk_##name##_vjp_of(stop - start, numbers->a, numbers->b, (const TK_REAL *)memory[0] + start, \
                       (const TK_REAL *)memory[1] + start, (TK_REAL *)memory[2] + start);        \
  }                                                                                              \
  EXPORT int64_t name(const int64_t *given, tk_share_work share, double a, double b) {           \
    return tk_composed(given, tk_##name##_piece, share, a, b);                                   \
  }                                                                                              \
  EXPORT int64_t name##_vjp(const int64_t *given, tk_share_work share, double a, double b) {     \
    return tk_composed(given, tk_##name##_vjp_piece, share, a, b);                               \
  }

/* given: the number of elements, then the addresses of the arrays. */
static int64_t tk_composed(const int64_t *given, tk_work_piece work, tk_share_work share, double a,
                           double b) {
  tk_numbers numbers = {(TK_REAL)a, (TK_REAL)b};
  void *memory[4];
  for (int i = 0; i < 3; i++) memory[i] = (void *)(intptr_t)given[i + 1];
  memory[3] = &numbers;
  tk_on_pieces(share, work, memory, given[0], TK_PIECE);
  return 0;
}

/* x within [a, b], and g where x is inside. */
#define TK_WITHIN(x, a, b) ((x) <= (a) ? (a) : (x) >= (b) ? (b) : (x))
#define TK_INSIDE(g, x, a, b) (((x) <= (a)) | ((x) >= (b)) ? 0 : (g))
TK_COMPOSED(hardtanh, TK_WITHIN(x, a, b), TK_INSIDE(g, x, a, b))
TK_COMPOSED(hardsigmoid, TK_WITHIN(x + 3, 0, 6) / 6, TK_INSIDE(g / 6, x + 3, 0, 6))
TK_COMPOSED(hardswish, x * TK_WITHIN(x + 3, 0, 6) / 6,
            g / 6 * TK_WITHIN(x + 3, 0, 6) + TK_INSIDE(g / 6 * x, x + 3, 0, 6))

/* The sum with 0 makes 0 of -0. */
TK_COMPOSED(leaky_relu, (x <= 0 ? a * x : x) + 0, x <= 0 ? a * g : g)
TK_COMPOSED(elu, x <= 0 ? a * TK_FUNCTION(expm1)(x) + 0 : x,
            x <= 0 ? a * g * TK_FUNCTION(exp)(x) : g)
TK_COMPOSED(celu, x <= 0 ? a * TK_FUNCTION(expm1)(x / a) + 0 : x,
            x <= 0 ? g * TK_FUNCTION(exp)(x / a) : g)

#define TK_SIGMOID(x) TK_FUNCTION(sigmoid)(x)
/* g (s + x s (1 - s)) with s = sigmoid(x). */
TK_INLINE TK_REAL tk_silu_slope(TK_REAL g, TK_REAL x, TK_REAL s) {
  return g * s + g * x * s * (1 - s);
}
TK_COMPOSED(silu, x * TK_SIGMOID(x), tk_silu_slope(g, x, TK_SIGMOID(x)))

#define TK_SOFTPLUS(x) TK_FUNCTION(softplus)(x)
TK_COMPOSED(softplus, x * a > b ? x : TK_SOFTPLUS(x * a) / a,
            x * a > b ? g : g * TK_SIGMOID(x * a))
TK_COMPOSED(logsigmoid, -TK_SOFTPLUS(-x), g * TK_SIGMOID(-x))

/* g (t + x (1 - t^2) slope) with a tanh t. */
TK_INLINE TK_REAL tk_gated_slope(TK_REAL g, TK_REAL x, TK_REAL t, TK_REAL slope) {
  return g * t + g * x * (1 - t * t) * slope;
}
TK_COMPOSED(mish, x * TK_FUNCTION(tanh)(TK_SOFTPLUS(x)),
            tk_gated_slope(g, x, TK_FUNCTION(tanh)(TK_SOFTPLUS(x)), TK_SIGMOID(x)))
