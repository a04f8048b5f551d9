/* Recurrent nets over whole sequences, forward and backward, as in `ops/recurrent.py`.

   The batch is shared between threads. Each takes its rows through all steps, so no step waits for
   another thread, and the states stay in its cache. */

enum { TK_TANH_NET, TK_RELU_NET, TK_LSTM, TK_GRU };

typedef struct {
  int64_t kind, steps, batch, hidden;
  int64_t state; /* columns of h: `hidden`, or the rows of `projection` */
  int64_t reverse;
  const TK_REAL *z, *h, *c, *weight, *projection, *bias, *g;
  const uint8_t *mask; /* (steps, batch), or 0 */
  TK_REAL *y, *dz, *dm, *dh, *dc;
  TK_REAL *projected; /* the cotangents of what `projection` gives */
  TK_REAL *packed, *packed_projection;
  int failed; /* no memory */
} tk_sequence;

#define TK_AT(x, plane, t, row) ((x) + (((plane) * s->steps + (t)) * s->batch + (row)) * s->hidden)

TK_INLINE int64_t tk_gates_of(int64_t kind) {
  return kind == TK_LSTM ? 4 : kind == TK_GRU ? 3 : 1;
}

static void tk_tanh_row(int64_t n, const TK_REAL *restrict m, const TK_REAL *restrict z,
                        TK_REAL *restrict h) {
  for (int64_t j = 0; j < n; j++) h[j] = TK_FUNCTION(tanh)(m[j] + z[j]);
}

static void tk_relu_row(int64_t n, const TK_REAL *restrict m, const TK_REAL *restrict z,
                        TK_REAL *restrict h) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL x = m[j] + z[j];
    h[j] = x < 0 ? 0 : x;
  }
}

/* The gates i, f, a, o, then the states of a row. */
static void tk_lstm_row(int64_t n, const TK_REAL *restrict m, const TK_REAL *restrict z,
                        const TK_REAL *restrict before, TK_REAL *restrict i, TK_REAL *restrict f,
                        TK_REAL *restrict a, TK_REAL *restrict o, TK_REAL *restrict c,
                        TK_REAL *restrict h) {
  for (int64_t j = 0; j < n; j++) i[j] = TK_FUNCTION(sigmoid)(m[j] + z[j]);
  for (int64_t j = 0; j < n; j++) f[j] = TK_FUNCTION(sigmoid)(m[n + j] + z[n + j]);
  for (int64_t j = 0; j < n; j++) a[j] = TK_FUNCTION(tanh)(m[2 * n + j] + z[2 * n + j]);
  for (int64_t j = 0; j < n; j++) o[j] = TK_FUNCTION(sigmoid)(m[3 * n + j] + z[3 * n + j]);
  for (int64_t j = 0; j < n; j++) c[j] = f[j] * before[j] + i[j] * a[j];
  for (int64_t j = 0; j < n; j++) h[j] = o[j] * TK_FUNCTION(tanh)(c[j]);
}

static void tk_gru_row(int64_t n, const TK_REAL *restrict m, const TK_REAL *restrict z,
                       const TK_REAL *restrict before, TK_REAL *restrict r, TK_REAL *restrict u,
                       TK_REAL *restrict c, TK_REAL *restrict h) {
  for (int64_t j = 0; j < n; j++) r[j] = TK_FUNCTION(sigmoid)(m[j] + z[j]);
  for (int64_t j = 0; j < n; j++) u[j] = TK_FUNCTION(sigmoid)(m[n + j] + z[n + j]);
  for (int64_t j = 0; j < n; j++) c[j] = TK_FUNCTION(tanh)(r[j] * m[2 * n + j] + z[2 * n + j]);
  for (int64_t j = 0; j < n; j++) h[j] = c[j] + u[j] * (before[j] - c[j]);
}

TK_INLINE int tk_is_kept(const tk_sequence *s, int64_t t, int64_t row) {
  return s->mask && !s->mask[t * s->batch + row];
}

/* h = projection x of `rows` from `start` on; `found` has room for them. */
static void tk_project_rows(const tk_sequence *s, int64_t t, int64_t start, int64_t rows,
                            const TK_REAL *x, TK_REAL *found, TK_REAL *h) {
  int64_t n = s->hidden, p = s->state, padded = tk_padded(p);
  tk_block_multiply(rows, n, padded, x, n, 1, s->packed_projection, 2 * TK_LANES, 2 * TK_LANES * n,
                    found, padded);
  for (int64_t r = 0; r < rows; r++) {
    TK_REAL *to = TK_AT(s->y, 0, t, start + r);
    if (!tk_is_kept(s, t, start + r)) memcpy(h + r * p, found + r * padded, sizeof(TK_REAL) * p);
    memcpy(to, h + r * p, sizeof(TK_REAL) * p);
    memset(to + p, 0, sizeof(TK_REAL) * (n - p));
  }
}

/* Rows [start, stop) of the batch, through all steps. */
static void tk_sequence_rows(void **memory, int64_t start, int64_t stop) {
  tk_sequence *s = memory[0];
  int64_t n = s->hidden, p = s->state, rows = stop - start, gates = tk_gates_of(s->kind) * n;
  int64_t padded = tk_padded(gates), projected = s->projection ? n + tk_padded(p) : 0;
  TK_REAL *m = tk_new(rows * (padded + p + n + projected)), *h = m + rows * padded;
  TK_REAL *c = h + rows * p, *unprojected = c + rows * n, *found = unprojected + rows * n;
  if (!m) {
    s->failed = 1;
    return;
  }
  memcpy(h, s->h + start * p, sizeof(TK_REAL) * rows * p);
  if (s->c) memcpy(c, s->c + start * n, sizeof(TK_REAL) * rows * n);
  for (int64_t k = 0; k < s->steps; k++) {
    int64_t t = s->reverse ? s->steps - 1 - k : k;
    tk_block_multiply(rows, p, padded, h, p, 1, s->packed, 2 * TK_LANES, 2 * TK_LANES * p, m,
                      padded);
    for (int64_t r = 0; r < rows; r++) {
      int64_t row = start + r;
      TK_REAL *mr = m + r * padded, *hr = h + r * p, *cr = c + r * n;
      TK_REAL *to = s->projection ? unprojected + r * n : TK_AT(s->y, 0, t, row), *cell = to;
      const TK_REAL *z = s->z + (t * s->batch + row) * gates;
      if (s->bias)
        for (int64_t j = 0; j < gates; j++) mr[j] += s->bias[j];
      if (s->kind == TK_LSTM) {
        cell = TK_AT(s->y, 1, t, row);
        tk_lstm_row(n, mr, z, cr, TK_AT(s->y, 2, t, row), TK_AT(s->y, 3, t, row),
                    TK_AT(s->y, 4, t, row), TK_AT(s->y, 5, t, row), cell, to);
      } else if (s->kind == TK_GRU) {
        memcpy(TK_AT(s->y, 4, t, row), mr + 2 * n, sizeof(TK_REAL) * n);
        tk_gru_row(n, mr, z, hr, TK_AT(s->y, 1, t, row), TK_AT(s->y, 2, t, row),
                   TK_AT(s->y, 3, t, row), to);
      } else if (s->kind == TK_TANH_NET) {
        tk_tanh_row(n, mr, z, to);
      } else {
        tk_relu_row(n, mr, z, to);
      }
      int kept = tk_is_kept(s, t, row);
      if (kept && s->kind == TK_LSTM) memcpy(cell, cr, sizeof(TK_REAL) * n);
      if (s->kind == TK_LSTM) memcpy(cr, cell, sizeof(TK_REAL) * n);
      if (s->projection) continue;
      if (kept) memcpy(to, hr, sizeof(TK_REAL) * n);
      memcpy(hr, to, sizeof(TK_REAL) * n);
    }
    if (s->projection) tk_project_rows(s, t, start, rows, unprojected, found, h);
  }
  tk_discard(m);
}

/* ------------------------------------------------------------------ backward

   `dh` is the cotangent of a state. That through the cell is `inside`; what passes a step by is
   put in `rest`, to which the product of the gates' cotangents and the weight is added. */

static void tk_tanh_row_vjp(int64_t n, const TK_REAL *restrict h, const TK_REAL *restrict inside,
                            TK_REAL *restrict dz) {
  for (int64_t j = 0; j < n; j++) dz[j] = inside[j] * (1 - h[j] * h[j]);
}

static void tk_relu_row_vjp(int64_t n, const TK_REAL *restrict h, const TK_REAL *restrict inside,
                            TK_REAL *restrict dz) {
  for (int64_t j = 0; j < n; j++) dz[j] = h[j] == 0 ? 0 : inside[j];
}

/* The planes of y and of g are `apart`; dc comes in and goes out. */
static void tk_lstm_row_vjp(int64_t n, int64_t apart, const TK_REAL *restrict y,
                            const TK_REAL *restrict g, const TK_REAL *restrict before,
                            const TK_REAL *restrict inside, int kept, TK_REAL *restrict dc,
                            TK_REAL *restrict dz) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL c = y[apart + j], i = y[2 * apart + j], f = y[3 * apart + j];
    TK_REAL a = y[4 * apart + j], o = y[5 * apart + j], squashed = TK_FUNCTION(tanh)(c);
    TK_REAL total = dc[j] + g[apart + j];
    TK_REAL of_c = (kept ? 0 : total) + inside[j] * o * (1 - squashed * squashed);
    dz[j] = (of_c * a + g[2 * apart + j]) * (i * (1 - i));
    dz[n + j] = (of_c * before[j] + g[3 * apart + j]) * (f * (1 - f));
    dz[2 * n + j] = (of_c * i + g[4 * apart + j]) * ((a + 1) * (1 - a));
    dz[3 * n + j] = (inside[j] * squashed + g[5 * apart + j]) * (o * (1 - o));
    dc[j] = of_c * f + (kept ? total : 0);
  }
}

static void tk_gru_row_vjp(int64_t n, int64_t apart, const TK_REAL *restrict y,
                           const TK_REAL *restrict g, const TK_REAL *restrict before,
                           const TK_REAL *restrict inside, TK_REAL *restrict rest,
                           TK_REAL *restrict dz, TK_REAL *restrict dm) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL r = y[apart + j], u = y[2 * apart + j], c = y[3 * apart + j], m = y[4 * apart + j];
    TK_REAL dn = (inside[j] * (1 - u) + g[3 * apart + j]) * (1 - c * c);
    TK_REAL du = (inside[j] * (before[j] - c) + g[2 * apart + j]) * u * (1 - u);
    TK_REAL dr = (dn * m + g[apart + j]) * r * (1 - r);
    dz[j] = dm[j] = dr;
    dz[n + j] = dm[n + j] = du;
    dz[2 * n + j] = dn;
    dm[2 * n + j] = dn * r + g[4 * apart + j];
    rest[j] += inside[j] * u;
  }
}

/* The parts of a state's cotangent that go through the cell and past it. */
TK_INLINE void tk_share_cotangent(int64_t n, const TK_REAL *restrict dh, const TK_REAL *restrict g,
                                  int kept, TK_REAL *restrict inside, TK_REAL *restrict past) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL total = dh[j] + g[j];
    inside[j] = kept ? 0 : total;
    past[j] = kept ? total : 0;
  }
}

static void tk_sequence_rows_vjp(void **memory, int64_t start, int64_t stop) {
  tk_sequence *s = memory[0];
  int64_t n = s->hidden, p = s->state, rows = stop - start, gates = tk_gates_of(s->kind) * n;
  int64_t padded = tk_padded(p), apart = s->steps * s->batch * n, of_cell = tk_padded(n);
  int64_t insides = s->projection ? rows * of_cell : n;
  TK_REAL *dh = tk_new(rows * (padded + n + p) + insides);
  TK_REAL *dc = dh + rows * padded, *rest = dc + rows * n, *inside = rest + rows * p;
  if (!dh) {
    s->failed = 1;
    return;
  }
  memset(dh, 0, sizeof(TK_REAL) * rows * (padded + n));
  for (int64_t k = s->steps - 1; k >= 0; k--) {
    int64_t t = s->reverse ? s->steps - 1 - k : k, last = s->reverse ? t + 1 : t - 1;
    TK_REAL *dz = s->dz + (t * s->batch + start) * gates;
    TK_REAL *dm = s->kind == TK_GRU ? s->dm + (t * s->batch + start) * gates : dz;
    if (s->projection) {
      TK_REAL *of_h = s->projected + (t * s->batch + start) * p;
      for (int64_t r = 0; r < rows; r++)
        tk_share_cotangent(p, dh + r * padded, TK_AT(s->g, 0, t, start + r),
                           tk_is_kept(s, t, start + r), of_h + r * p, rest + r * p);
      tk_block_multiply(rows, p, of_cell, of_h, p, 1, s->packed_projection, 2 * TK_LANES,
                        2 * TK_LANES * p, inside, of_cell);
    }
    for (int64_t r = 0; r < rows; r++) {
      int64_t row = start + r;
      int kept = tk_is_kept(s, t, row);
      const TK_REAL *y = TK_AT(s->y, 0, t, row), *g = TK_AT(s->g, 0, t, row);
      TK_REAL *past = rest + r * p;
      if (!s->projection) tk_share_cotangent(n, dh + r * padded, g, kept, inside, past);
      if (s->kind == TK_LSTM) {
        const TK_REAL *before = k ? TK_AT(s->y, 1, last, row) : s->c + row * n;
        const TK_REAL *of_row = s->projection ? inside + r * of_cell : inside;
        tk_lstm_row_vjp(n, apart, y, g, before, of_row, kept, dc + r * n, dz + r * gates);
      } else if (s->kind == TK_GRU) {
        const TK_REAL *before = k ? TK_AT(s->y, 0, last, row) : s->h + row * n;
        tk_gru_row_vjp(n, apart, y, g, before, inside, past, dz + r * gates, dm + r * gates);
      } else if (s->kind == TK_TANH_NET) {
        tk_tanh_row_vjp(n, y, inside, dz + r * gates);
      } else {
        tk_relu_row_vjp(n, y, inside, dz + r * gates);
      }
    }
    tk_block_multiply(rows, gates, padded, dm, gates, 1, s->packed, 2 * TK_LANES,
                      2 * TK_LANES * gates, dh, padded);
    if (s->mask || s->kind == TK_GRU)
      for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < p; j++) dh[r * padded + j] += rest[r * p + j];
  }
  for (int64_t r = 0; r < rows; r++) {
    memcpy(s->dh + (start + r) * p, dh + r * padded, sizeof(TK_REAL) * p);
    if (s->dc) memcpy(s->dc + (start + r) * n, dc + r * n, sizeof(TK_REAL) * n);
  }
  tk_discard(dh);
}

/* ------------------------------------------------------------------ what Python calls */

static tk_sequence tk_sequence_of(const int64_t *given) {
  tk_sequence s = {given[0], given[1], given[2], given[3], given[4], given[5]};
  const TK_REAL **inputs[] = {&s.z, &s.h, &s.c, &s.weight, &s.projection, &s.bias, &s.g};
  TK_REAL **outputs[] = {&s.y, &s.dz, &s.dm, &s.dh, &s.dc, &s.projected};
  for (int i = 0; i < 7; i++) *inputs[i] = (const TK_REAL *)(intptr_t)given[6 + i];
  s.mask = (const uint8_t *)(intptr_t)given[13];
  for (int i = 0; i < 6; i++) *outputs[i] = (TK_REAL *)(intptr_t)given[14 + i];
  return s;
}

/* A matrix (inner, columns) in panels, or 0 without memory; the steps between its elements. */
static TK_REAL *tk_packed(int64_t inner, int64_t columns, const TK_REAL *x, int64_t step,
                          int64_t column_step) {
  TK_REAL *packed = tk_new(tk_packed_size(inner, columns));
  if (packed) tk_pack_panels(inner, columns, x, step, column_step, packed);
  return packed;
}

static int64_t tk_run_sequence(tk_sequence *s, tk_work_piece work, tk_share_work share,
                               int64_t step) {
  void *memory[1] = {s};
  s->failed = !s->packed || (s->projection && !s->packed_projection);
  if (!s->failed) tk_on_pieces(share, work, memory, s->batch, step);
  if (s->packed) tk_discard(s->packed);
  if (s->packed_projection) tk_discard(s->packed_projection);
  return s->failed;
}

/* 0, or 1 without memory. given: the numbers and addresses of `tk_sequence`, in order. step: rows
   of the batch that a thread takes at once. */
EXPORT int64_t sequence(const int64_t *given, tk_share_work share, int64_t step) {
  tk_sequence s = tk_sequence_of(given);
  int64_t n = s.hidden, p = s.state;
  s.packed = tk_packed(p, tk_gates_of(s.kind) * n, s.weight, 1, p);
  if (s.projection) s.packed_projection = tk_packed(n, p, s.projection, 1, n);
  return tk_run_sequence(&s, tk_sequence_rows, share, step);
}

EXPORT int64_t sequence_vjp(const int64_t *given, tk_share_work share, int64_t step) {
  tk_sequence s = tk_sequence_of(given);
  int64_t n = s.hidden, p = s.state;
  s.packed = tk_packed(tk_gates_of(s.kind) * n, p, s.weight, p, 1);
  if (s.projection) s.packed_projection = tk_packed(p, n, s.projection, n, 1);
  return tk_run_sequence(&s, tk_sequence_rows_vjp, share, step);
}
