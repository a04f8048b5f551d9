/* Weighted reads along an axis, and weighted additions: each is the adjoint of the other.

   given: outer, the size of the axis of x and of y, inner, the number of taps, the outer pieces that
   a thread takes at once, the addresses of x, indices, weights and y. Arrays are (outer, size,
   inner), indices and weights (taps, n), where n is the size of the axis of the weighted reads. */

typedef struct {
  int64_t outer, from, to, inner, taps, step;
  const TK_REAL *x;
  const int64_t *indices;
  const TK_REAL *weights;
  TK_REAL *y;
} tk_resampling;

static void tk_add_weighted_row(int64_t n, TK_REAL weight, const TK_REAL *restrict x,
                                TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] += weight * x[j];
}

/* y[i] = sum over t of weights[t][i] x[indices[t][i]] */
static void tk_take_elements(int64_t n, int64_t taps, const int64_t *restrict indices,
                             const TK_REAL *restrict weights, const TK_REAL *restrict x,
                             TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = weights[i] * x[indices[i]];
  for (int64_t t = 1; t < taps; t++)
    for (int64_t i = 0; i < n; i++) y[i] += weights[t * n + i] * x[indices[t * n + i]];
}

static void tk_take_weighted_piece(void **memory, int64_t start, int64_t stop) {
  const tk_resampling *r = memory[0];
  int64_t n = r->to, inner = r->inner;
  for (int64_t o = start; o < stop; o++) {
    const TK_REAL *x = r->x + o * r->from * inner;
    TK_REAL *y = r->y + o * n * inner;
    if (inner == 1) {
      tk_take_elements(n, r->taps, r->indices, r->weights, x, y);
      continue;
    }
    for (int64_t i = 0; i < n; i++) {
      TK_REAL *row = y + i * inner, weight = r->weights[i];
      const TK_REAL *first = x + r->indices[i] * inner;
      for (int64_t j = 0; j < inner; j++) row[j] = weight * first[j];
      for (int64_t t = 1; t < r->taps; t++)
        tk_add_weighted_row(inner, r->weights[t * n + i], x + r->indices[t * n + i] * inner, row);
    }
  }
}

/* y[indices[t][i]] += weights[t][i] x[i] */
static void tk_add_weighted_piece(void **memory, int64_t start, int64_t stop) {
  const tk_resampling *r = memory[0];
  int64_t n = r->from, inner = r->inner;
  for (int64_t o = start; o < stop; o++) {
    const TK_REAL *x = r->x + o * n * inner;
    TK_REAL *y = r->y + o * r->to * inner;
    memset(y, 0, sizeof(TK_REAL) * r->to * inner);
    for (int64_t t = 0; t < r->taps; t++) {
      const int64_t *indices = r->indices + t * n;
      const TK_REAL *weights = r->weights + t * n;
      if (inner == 1)
        for (int64_t i = 0; i < n; i++) y[indices[i]] += weights[i] * x[i];
      else
        for (int64_t i = 0; i < n; i++)
          tk_add_weighted_row(inner, weights[i], x + i * inner, y + indices[i] * inner);
    }
  }
}

static int64_t tk_resample(const int64_t *given, tk_work_piece work, tk_share_work share) {
  tk_resampling r = {given[0], given[1], given[2], given[3], given[4], given[5],
                     (const TK_REAL *)(intptr_t)given[6], (const int64_t *)(intptr_t)given[7],
                     (const TK_REAL *)(intptr_t)given[8], (TK_REAL *)(intptr_t)given[9]};
  void *memory[1] = {&r};
  tk_on_pieces(share, work, memory, r.outer, r.step);
  return 0;
}

EXPORT int64_t take_weighted(const int64_t *given, tk_share_work share) {
  return tk_resample(given, tk_take_weighted_piece, share);
}

EXPORT int64_t add_weighted(const int64_t *given, tk_share_work share) {
  return tk_resample(given, tk_add_weighted_piece, share);
}
