/* The error function, the exact gelu, the sigmoid and the logistic loss of dense arrays. */

static void tk_erf_of(int64_t n, const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = TK_FUNCTION(erf)(x[i]);
}

/* x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2. */
static void tk_gelu_of(int64_t n, const TK_REAL *restrict x, TK_REAL *restrict y) {
  const TK_REAL root = (TK_REAL)0.70710678118654752440, half = (TK_REAL)0.5;
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * (half * (1 + TK_FUNCTION(erf)(x[i] * root)));
}

/* g (Phi(x) + x phi(x)); 0 phi(x) where x is infinite. */
static void tk_gelu_vjp_of(int64_t n, const TK_REAL *restrict g, const TK_REAL *restrict x,
                           TK_REAL *restrict dx) {
  const TK_REAL root = (TK_REAL)0.70710678118654752440, half = (TK_REAL)0.5;
  const TK_REAL density = (TK_REAL)0.39894228040143267794; /* 1 / sqrt(2 pi) */
  for (int64_t i = 0; i < n; i++) {
    TK_REAL share = half * (1 + TK_FUNCTION(erf)(x[i] * root));
    TK_REAL slope = x[i] * TK_FUNCTION(exp)(-half * x[i] * x[i]) * density;
    dx[i] = g[i] * (share + slope);
  }
}

static void tk_sigmoid_of(int64_t n, const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = TK_FUNCTION(sigmoid)(x[i]);
}

/* g y (1 - y) */
static void tk_sigmoid_vjp_of(int64_t n, const TK_REAL *restrict g, const TK_REAL *restrict y,
                              TK_REAL *restrict dx) {
  for (int64_t i = 0; i < n; i++) dx[i] = g[i] * y[i] * (1 - y[i]);
}

static void tk_erf_piece(void **memory, int64_t start, int64_t stop) {
  tk_erf_of(stop - start, (const TK_REAL *)memory[0] + start, (TK_REAL *)memory[1] + start);
}

static void tk_gelu_piece(void **memory, int64_t start, int64_t stop) {
  tk_gelu_of(stop - start, (const TK_REAL *)memory[0] + start, (TK_REAL *)memory[1] + start);
}

static void tk_gelu_vjp_piece(void **memory, int64_t start, int64_t stop) {
  tk_gelu_vjp_of(stop - start, (const TK_REAL *)memory[0] + start,
                 (const TK_REAL *)memory[1] + start, (TK_REAL *)memory[2] + start);
}

/* The logistic loss of scores x and labels a, in double as NumPy has it: its derivative by x. */
static void tk_logistic_slope_of(int64_t n, const TK_REAL *restrict x, const TK_REAL *restrict a,
                                 TK_REAL *restrict dx) {
  for (int64_t i = 0; i < n; i++) dx[i] = (TK_REAL)tk_logistic_slope(x[i], a[i]);
}

static void tk_logistic_terms_of(int64_t n, const TK_REAL *restrict x, const TK_REAL *restrict a,
                                 double *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = tk_logistic_term(x[i], a[i]);
}

static double tk_logistic_sum_of(int64_t n, const TK_REAL *x, const TK_REAL *a) {
  double terms[512], lane[8] = {0}, sum = 0;
  for (int64_t start = 0; start < n; start += 512) {
    int64_t size = n - start < 512 ? n - start : 512, i = 0;
    tk_logistic_terms_of(size, x + start, a + start, terms);
    for (; i + 8 <= size; i += 8)
      for (int l = 0; l < 8; l++) lane[l] += terms[i + l];
    for (; i < size; i++) lane[0] += terms[i];
  }
  for (int l = 0; l < 8; l++) sum += lane[l];
  return sum;
}

static void tk_logistic_slope_piece(void **memory, int64_t start, int64_t stop) {
  tk_logistic_slope_of(stop - start, (const TK_REAL *)memory[0] + start,
                       (const TK_REAL *)memory[1] + start, (TK_REAL *)memory[2] + start);
}

/* A sum for each piece, whatever the number of elements that a thread takes. */
static void tk_logistic_sum_piece(void **memory, int64_t start, int64_t stop) {
  for (int64_t i = start; i < stop; i += TK_PIECE)
    ((double *)memory[2])[i / TK_PIECE] =
        tk_logistic_sum_of(stop - i < TK_PIECE ? stop - i : TK_PIECE,
                           (const TK_REAL *)memory[0] + i, (const TK_REAL *)memory[1] + i);
}

static void tk_sigmoid_piece(void **memory, int64_t start, int64_t stop) {
  tk_sigmoid_of(stop - start, (const TK_REAL *)memory[0] + start, (TK_REAL *)memory[1] + start);
}

static void tk_sigmoid_vjp_piece(void **memory, int64_t start, int64_t stop) {
  tk_sigmoid_vjp_of(stop - start, (const TK_REAL *)memory[0] + start,
                    (const TK_REAL *)memory[1] + start, (TK_REAL *)memory[2] + start);
}

EXPORT int64_t erf_(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_erf_piece, share);
}

EXPORT int64_t gelu(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_gelu_piece, share);
}

EXPORT int64_t gelu_vjp(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_gelu_vjp_piece, share);
}

EXPORT int64_t logistic_slope(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_logistic_slope_piece, share);
}

/* The third array has a double for each piece. */
EXPORT int64_t logistic_sum(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_logistic_sum_piece, share);
}

EXPORT int64_t sigmoid(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_sigmoid_piece, share);
}

EXPORT int64_t sigmoid_vjp(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_sigmoid_vjp_piece, share);
}
