/* Rows of a matrix: layer norm, softmax with cross-entropy, and their derivatives; sums by index. */

typedef struct {
  int64_t rows, size, step; /* of a row; rows that a thread takes at once */
  const TK_REAL *x, *weight, *bias, *g;
  const int64_t *labels;
  TK_REAL *y, *dweight, *dbias; /* these two: sums of each piece of rows */
  TK_REAL eps;
} tk_matrix;

/* ------------------------------------------------------------------ layer norm */

#define TK_LOAD(x, j) (*(const tk_lanes *)((x) + (j)))

/* The mean of a row, and 1 / sqrt(var + eps). */
static void tk_moments(int64_t n, TK_REAL eps, const TK_REAL *x, TK_REAL *mean, TK_REAL *scale) {
  int64_t whole = n / TK_LANES * TK_LANES;
  tk_lanes sums = {0};
  TK_REAL total = tk_sum(whole, x), squares = 0;
  for (int64_t j = whole; j < n; j++) total += x[j];
  TK_REAL middle = total / n;
  for (int64_t j = 0; j < whole; j += TK_LANES) {
    tk_lanes gap = TK_LOAD(x, j) - middle;
    sums += gap * gap;
  }
  for (int64_t j = whole; j < n; j++) squares += (x[j] - middle) * (x[j] - middle);
  *mean = middle;
  *scale = 1 / TK_FUNCTION(sqrt)((squares + tk_sum_of_lanes(sums)) / n + eps);
}

static void tk_layer_norm_row(int64_t n, TK_REAL mean, TK_REAL scale, const TK_REAL *restrict x,
                              const TK_REAL *restrict weight, const TK_REAL *restrict bias,
                              TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] = (x[j] - mean) * scale * weight[j] + bias[j];
}

static void tk_layer_norm_row_vjp(int64_t n, TK_REAL mean, TK_REAL scale,
                                  const TK_REAL *restrict g, const TK_REAL *restrict x,
                                  const TK_REAL *restrict weight, TK_REAL *restrict dx,
                                  TK_REAL *restrict dweight, TK_REAL *restrict dbias) {
  int64_t whole = n / TK_LANES * TK_LANES;
  tk_lanes sums = {0}, sums_along = {0};
  TK_REAL total = 0, along = 0;
  for (int64_t j = 0; j < whole; j += TK_LANES) {
    tk_lanes share = TK_LOAD(g, j) * TK_LOAD(weight, j);
    sums += share;
    sums_along += share * (TK_LOAD(x, j) - mean);
  }
  for (int64_t j = whole; j < n; j++) {
    total += g[j] * weight[j];
    along += g[j] * weight[j] * (x[j] - mean);
  }
  total += tk_sum_of_lanes(sums);
  along = (along + tk_sum_of_lanes(sums_along)) * scale;
  total /= n;
  along /= n;
  for (int64_t j = 0; j < n; j++) {
    TK_REAL normal = (x[j] - mean) * scale;
    dx[j] = scale * (g[j] * weight[j] - total - normal * along);
    dweight[j] += g[j] * normal;
    dbias[j] += g[j];
  }
}

static void tk_layer_norm_rows(void **memory, int64_t start, int64_t stop) {
  const tk_matrix *s = memory[0];
  for (int64_t i = start * s->size; i < stop * s->size; i += s->size) {
    TK_REAL mean, scale;
    tk_moments(s->size, s->eps, s->x + i, &mean, &scale);
    tk_layer_norm_row(s->size, mean, scale, s->x + i, s->weight, s->bias, s->y + i);
  }
}

static void tk_layer_norm_rows_vjp(void **memory, int64_t start, int64_t stop) {
  const tk_matrix *s = memory[0];
  for (int64_t r = start; r < stop; r++) {
    TK_REAL mean, scale;
    int64_t i = r * s->size, piece = r / s->step * s->size;
    tk_moments(s->size, s->eps, s->x + i, &mean, &scale);
    tk_layer_norm_row_vjp(s->size, mean, scale, s->g + i, s->x + i, s->weight, s->y + i,
                          s->dweight + piece, s->dbias + piece);
  }
}

/* ------------------------------------------------------------------ cross-entropy */

static TK_REAL tk_largest_of(int64_t n, const TK_REAL *x) {
  int64_t whole = n / TK_LANES * TK_LANES;
  TK_REAL most = tk_largest(whole, x);
  for (int64_t j = whole; j < n; j++) most = x[j] > most ? x[j] : most;
  return most;
}

/* exp(x - most), and its sum. */
static TK_REAL tk_exp_row(int64_t n, TK_REAL most, const TK_REAL *restrict x,
                          TK_REAL *restrict to) {
  int64_t whole = n / TK_LANES * TK_LANES;
  for (int64_t j = 0; j < n; j++) to[j] = TK_FUNCTION(exp)(x[j] - most);
  TK_REAL total = tk_sum(whole, to);
  for (int64_t j = whole; j < n; j++) total += to[j];
  return total;
}

static void tk_cross_entropy_rows(void **memory, int64_t start, int64_t stop) {
  const tk_matrix *s = memory[0];
  for (int64_t r = start; r < stop; r++) {
    const TK_REAL *x = s->x + r * s->size;
    TK_REAL most = tk_largest_of(s->size, x), total = 0, some[256];
    for (int64_t j = 0; j < s->size; j += 256)
      total += tk_exp_row(s->size - j < 256 ? s->size - j : 256, most, x + j, some);
    s->y[r] = TK_FUNCTION(log)(total) - (x[s->labels[r]] - most);
  }
}

static void tk_cross_entropy_row_vjp(int64_t n, TK_REAL g, TK_REAL most,
                                     const TK_REAL *restrict x, TK_REAL *restrict dx) {
  TK_REAL total = tk_exp_row(n, most, x, dx);
  for (int64_t j = 0; j < n; j++) dx[j] = g * (dx[j] / total);
}

static void tk_cross_entropy_rows_vjp(void **memory, int64_t start, int64_t stop) {
  const tk_matrix *s = memory[0];
  for (int64_t r = start; r < stop; r++) {
    const TK_REAL *x = s->x + r * s->size;
    TK_REAL *dx = s->y + r * s->size;
    tk_cross_entropy_row_vjp(s->size, s->g[r], tk_largest_of(s->size, x), x, dx);
    dx[s->labels[r]] -= s->g[r];
  }
}

/* ------------------------------------------------------------------ what Python calls */

static int64_t tk_run_rows(const int64_t *given, double eps, tk_work_piece work,
                           tk_share_work share) {
  tk_matrix s = {given[0], given[1], given[2]};
  const TK_REAL **inputs[] = {&s.x, &s.weight, &s.bias, &s.g};
  TK_REAL **outputs[] = {&s.y, &s.dweight, &s.dbias};
  for (int i = 0; i < 4; i++) *inputs[i] = (const TK_REAL *)(intptr_t)given[3 + i];
  s.labels = (const int64_t *)(intptr_t)given[7];
  for (int i = 0; i < 3; i++) *outputs[i] = (TK_REAL *)(intptr_t)given[8 + i];
  s.eps = (TK_REAL)eps;
  void *memory[1] = {&s};
  tk_on_pieces(share, work, memory, s.rows, s.step);
  return 0;
}

/* given: the numbers and addresses of `tk_matrix`, in order. */
EXPORT int64_t layer_norm(const int64_t *given, tk_share_work share, double eps) {
  return tk_run_rows(given, eps, tk_layer_norm_rows, share);
}

/* The sums of the pieces of rows come in as zeros. */
EXPORT int64_t layer_norm_vjp(const int64_t *given, tk_share_work share, double eps) {
  return tk_run_rows(given, eps, tk_layer_norm_rows_vjp, share);
}

/* Whether a label names no element of a row. */
static int tk_is_outside(const int64_t *given) {
  const int64_t *labels = (const int64_t *)(intptr_t)given[7];
  int64_t outside = 0;
  for (int64_t r = 0; r < given[0]; r++) outside |= labels[r] < 0 || labels[r] >= given[1];
  return outside != 0;
}

/* 2, with nothing done, for a label outside of a row. */
EXPORT int64_t cross_entropy(const int64_t *given, tk_share_work share) {
  if (tk_is_outside(given)) return 2;
  return tk_run_rows(given, 0, tk_cross_entropy_rows, share);
}

EXPORT int64_t cross_entropy_vjp(const int64_t *given, tk_share_work share) {
  if (tk_is_outside(given)) return 2;
  return tk_run_rows(given, 0, tk_cross_entropy_rows_vjp, share);
}

static void tk_add_row(int64_t n, const TK_REAL *restrict g, TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] += g[j];
}

/* y[labels[i]] += g[i], in order. */
EXPORT int64_t add_rows(const int64_t *given, tk_share_work share) {
  int64_t rows = given[0], n = given[1];
  const TK_REAL *g = (const TK_REAL *)(intptr_t)given[6];
  const int64_t *labels = (const int64_t *)(intptr_t)given[7];
  TK_REAL *y = (TK_REAL *)(intptr_t)given[8];
  (void)share;
  for (int64_t i = 0; i < rows; i++) tk_add_row(n, g + i * n, y + labels[i] * n);
  return 0;
}
