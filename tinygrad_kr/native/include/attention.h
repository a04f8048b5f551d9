/* Scaled dot-product attention and its derivatives, as in `ops/attention.py`.

   Each pair of a batch and a head is the work of one thread, some queries at a time. Their scores
   stay in its cache: the matrix of all scores never exists. Backward computes them again. */

enum { TK_QUERIES = 32 }; /* rows of scores at a time */

typedef struct {
  const TK_REAL *at;
  int64_t batch, head, row; /* strides in elements; a row is dense */
} tk_rows;

typedef struct {
  int64_t batches, heads, queries, keys, features, outputs, causal;
  tk_rows q, k, v, g, bias, keep, y; /* bias and keep: their rows are of keys; `at` may be 0 */
  const uint8_t *allowed;            /* where a query sees a key; or 0 */
  int64_t allowed_batch, allowed_head, allowed_row, allowed_key, bias_key;
  TK_REAL *dq, *dk, *dv; /* dense: (batches, heads, queries or keys, features or outputs) */
  TK_REAL scale;
  int failed; /* no memory */
} tk_attention;

TK_INLINE const TK_REAL *tk_row_of(const tk_rows *x, int64_t b, int64_t h, int64_t row) {
  return x->at + b * x->batch + h * x->head + row * x->row;
}

/* Rows as a dense matrix whose rows are whole vectors, the rest of them 0. */
static void tk_copy_rows(int64_t rows, int64_t size, const TK_REAL *from, int64_t down,
                         TK_REAL *to, int64_t padded) {
  for (int64_t i = 0; i < rows; i++) {
    memcpy(to + i * padded, from + i * down, sizeof(TK_REAL) * size);
    for (int64_t j = size; j < padded; j++) to[i * padded + j] = 0;
  }
}

/* The scores of a row, n of whole vectors, become probabilities: 0 for all if every score is
   -infinity. */
static void tk_softmax_row(int64_t n, TK_REAL *x) {
  TK_REAL most = tk_largest(n, x);
  if (most == -INFINITY) most = 0;
  const TK_REAL least = sizeof(TK_REAL) == 4 ? -87 : -708; /* below, exp is denormal and slow: 0 */
  for (int64_t j = 0; j < n; j++) {
    TK_REAL score = x[j] - most, e = TK_FUNCTION(exp)(score < least ? least : score);
    x[j] = score < least ? 0 : e;
  }
  TK_REAL total = tk_sum(n, x), inverse = total == 0 ? 0 : 1 / total;
  for (int64_t j = 0; j < n; j++) x[j] *= inverse;
}

/* Scores of the first `seen` keys; of the others up to n -infinity. */
static void tk_scale_row(int32_t n, int32_t seen, TK_REAL scale, TK_REAL *restrict x) {
  for (int32_t j = 0; j < n; j++) x[j] = j < seen ? x[j] * scale : -INFINITY;
}

static void tk_multiply_row(int64_t n, const TK_REAL *x, const TK_REAL *restrict y, TK_REAL *to) {
  for (int64_t j = 0; j < n; j++) to[j] = x[j] * y[j];
}

/* p (dp - delta) scale: the cotangents of the scores, over dp; n of whole vectors. */
static void tk_softmax_row_vjp(int64_t n, TK_REAL scale, const TK_REAL *restrict p,
                               TK_REAL *restrict dp) {
  TK_REAL delta = tk_dot(n, p, dp);
  for (int64_t j = 0; j < n; j++) dp[j] = p[j] * (dp[j] - delta) * scale;
}

/* The keys that the queries up to number `last` see. */
TK_INLINE int64_t tk_seen(const tk_attention *s, int64_t last) {
  return s->causal && last + 1 < s->keys ? last + 1 : s->keys;
}

/* The probabilities of `count` queries from `first` on: (count, padded keys), zeros where a query
   sees no key. */
static void tk_probabilities(const tk_attention *s, int64_t b, int64_t h, int64_t first,
                             int64_t count, const TK_REAL *panels, TK_REAL *p, int64_t padded) {
  int64_t seen = tk_seen(s, first + count - 1), columns = tk_padded(seen), e = s->features;
  tk_block_multiply(count, e, columns, tk_row_of(&s->q, b, h, first), s->q.row, 1, panels,
                    2 * TK_LANES, 2 * TK_LANES * e, p, padded);
  for (int64_t r = 0; r < count; r++) {
    TK_REAL *row = p + r * padded;
    int64_t n = tk_seen(s, first + r);
    tk_scale_row((int32_t)columns, (int32_t)n, s->scale, row);
    if (s->bias.at) {
      const TK_REAL *bias = tk_row_of(&s->bias, b, h, first + r);
      for (int64_t j = 0; j < n; j++) row[j] += bias[j * s->bias_key];
    }
    if (s->allowed) {
      const uint8_t *allowed = s->allowed + b * s->allowed_batch + h * s->allowed_head +
                               (first + r) * s->allowed_row;
      for (int64_t j = 0; j < n; j++) row[j] = allowed[j * s->allowed_key] ? row[j] : -INFINITY;
    }
    tk_softmax_row(columns, row);
  }
}

/* ------------------------------------------------------------------ forward */

static void tk_attention_pairs(void **memory, int64_t start, int64_t stop) {
  tk_attention *s = memory[0];
  int64_t keys = s->keys, e = s->features, o = tk_padded(s->outputs), padded = tk_padded(keys);
  int64_t panels = tk_packed_size(e, keys);
  TK_REAL *k = tk_new(panels + TK_QUERIES * padded + keys * o + TK_QUERIES * o);
  TK_REAL *p = k + panels, *v = p + TK_QUERIES * padded, *y = v + keys * o;
  if (!k) {
    s->failed = 1;
    return;
  }
  for (int64_t pair = start; pair < stop; pair++) {
    int64_t b = pair / s->heads, h = pair % s->heads;
    tk_pack_panels(e, keys, tk_row_of(&s->k, b, h, 0), 1, s->k.row, k);
    tk_copy_rows(keys, s->outputs, tk_row_of(&s->v, b, h, 0), s->v.row, v, o);
    for (int64_t first = 0; first < s->queries; first += TK_QUERIES) {
      int64_t left = s->queries - first, count = left < TK_QUERIES ? left : TK_QUERIES;
      int64_t seen = tk_seen(s, first + count - 1);
      tk_probabilities(s, b, h, first, count, k, p, padded);
      if (s->keep.at)
        for (int64_t r = 0; r < count; r++)
          tk_multiply_row(seen, p + r * padded, tk_row_of(&s->keep, b, h, first + r),
                          p + r * padded);
      tk_block_multiply(count, seen, o, p, padded, 1, v, o, 2 * TK_LANES, y, o);
      for (int64_t r = 0; r < count; r++)
        memcpy((TK_REAL *)tk_row_of(&s->y, b, h, first + r), y + r * o,
               sizeof(TK_REAL) * s->outputs);
    }
  }
  tk_discard(k);
}

/* ------------------------------------------------------------------ backward */

/* Dense rows without their padding. */
static void tk_store_rows(int64_t rows, int64_t size, const TK_REAL *from, int64_t padded,
                          TK_REAL *to) {
  for (int64_t i = 0; i < rows; i++)
    memcpy(to + i * size, from + i * padded, sizeof(TK_REAL) * size);
}

static void tk_attention_pairs_vjp(void **memory, int64_t start, int64_t stop) {
  tk_attention *s = memory[0];
  int64_t keys = s->keys, e = s->features, o = s->outputs, padded = tk_padded(keys);
  int64_t ep = tk_padded(e), op = tk_padded(o), n = TK_QUERIES;
  int64_t sizes[] = {tk_packed_size(e, keys), tk_packed_size(o, keys), keys * ep, keys * ep,
                     keys * op, n * padded, n * padded, n * padded, n * ep, n * ep, n * op};
  TK_REAL *part[11];
  int64_t total = 0;
  for (int i = 0; i < 11; i++) total += (sizes[i] + 15) / 16 * 16;
  TK_REAL *all = tk_new(total);
  if (!all) {
    s->failed = 1;
    return;
  }
  total = 0;
  for (int i = 0; i < 11; total += (sizes[i] + 15) / 16 * 16, i++) part[i] = all + total;
  TK_REAL *k_panels = part[0], *v_panels = part[1], *k = part[2], *dk = part[3], *dv = part[4];
  TK_REAL *p = part[5], *dp = part[6], *kept = part[7], *q = part[8], *dq = part[9], *g = part[10];
  for (int64_t pair = start; pair < stop; pair++) {
    int64_t b = pair / s->heads, h = pair % s->heads;
    tk_pack_panels(e, keys, tk_row_of(&s->k, b, h, 0), 1, s->k.row, k_panels);
    tk_pack_panels(o, keys, tk_row_of(&s->v, b, h, 0), 1, s->v.row, v_panels);
    tk_copy_rows(keys, e, tk_row_of(&s->k, b, h, 0), s->k.row, k, ep);
    memset(dk, 0, sizeof(TK_REAL) * keys * ep);
    memset(dv, 0, sizeof(TK_REAL) * keys * op);
    for (int64_t first = 0; first < s->queries; first += n) {
      int64_t left = s->queries - first, count = left < n ? left : n;
      int64_t seen = tk_seen(s, first + count - 1), columns = tk_padded(seen);
      TK_REAL *weights = p;
      tk_copy_rows(count, e, tk_row_of(&s->q, b, h, first), s->q.row, q, ep);
      tk_copy_rows(count, o, tk_row_of(&s->g, b, h, first), s->g.row, g, op);
      tk_probabilities(s, b, h, first, count, k_panels, p, padded);
      tk_block_multiply(count, o, columns, g, op, 1, v_panels, 2 * TK_LANES, 2 * TK_LANES * o, dp,
                        padded);
      if (s->keep.at) {
        weights = kept;
        for (int64_t r = 0; r < count; r++) {
          const TK_REAL *keep = tk_row_of(&s->keep, b, h, first + r);
          tk_multiply_row(seen, p + r * padded, keep, kept + r * padded);
          tk_multiply_row(seen, dp + r * padded, keep, dp + r * padded);
        }
      }
      for (int64_t r = 0; r < count; r++)
        tk_softmax_row_vjp(columns, s->scale, p + r * padded, dp + r * padded);
      tk_block_multiply(count, seen, ep, dp, padded, 1, k, ep, 2 * TK_LANES, dq, ep);
      tk_block_add(seen, count, ep, dp, 1, padded, q, ep, 2 * TK_LANES, dk, ep);
      tk_block_add(seen, count, op, weights, 1, padded, g, op, 2 * TK_LANES, dv, op);
      tk_store_rows(count, e, dq, ep, s->dq + (pair * s->queries + first) * e);
    }
    tk_store_rows(keys, e, dk, ep, s->dk + pair * keys * e);
    tk_store_rows(keys, o, dv, op, s->dv + pair * keys * o);
  }
  tk_discard(all);
}

/* ------------------------------------------------------------------ what Python calls */

static tk_attention tk_attention_of(const int64_t *given, double scale) {
  tk_attention s = {given[0], given[1], given[2], given[3], given[4], given[5], given[6]};
  tk_rows *rows[] = {&s.q, &s.k, &s.v, &s.g, &s.bias, &s.keep, &s.y};
  given += 7;
  for (int i = 0; i < 7; i++, given += 4)
    *rows[i] = (tk_rows){(const TK_REAL *)(intptr_t)given[0], given[1], given[2], given[3]};
  s.allowed = (const uint8_t *)(intptr_t)given[0];
  s.allowed_batch = given[1];
  s.allowed_head = given[2];
  s.allowed_row = given[3];
  s.allowed_key = given[4];
  s.bias_key = given[5];
  TK_REAL **results[] = {&s.dq, &s.dk, &s.dv};
  for (int i = 0; i < 3; i++) *results[i] = (TK_REAL *)(intptr_t)given[6 + i];
  s.scale = (TK_REAL)scale;
  return s;
}

static int64_t tk_run_attention(tk_attention *s, tk_work_piece work, tk_share_work share) {
  void *memory[1] = {s};
  int64_t pairs = s->batches * s->heads;
  tk_on_pieces(share, work, memory, pairs, (pairs + 15) / 16);
  return s->failed;
}

/* 0, or 1 without memory. given: the numbers and addresses of `tk_attention`, in order. */
EXPORT int64_t attention(const int64_t *given, tk_share_work share, double scale) {
  tk_attention s = tk_attention_of(given, scale);
  return tk_run_attention(&s, tk_attention_pairs, share);
}

EXPORT int64_t attention_vjp(const int64_t *given, tk_share_work share, double scale) {
  tk_attention s = tk_attention_of(given, scale);
  return tk_run_attention(&s, tk_attention_pairs_vjp, share);
}
