/* Batch norm and group norm of dense arrays, and their derivatives.

   An array is [samples][channels][size] or, with channels last, [samples][size][channels]. Samples
   come in sets with moments of their own: one set for batch norm, one for each sample for group
   norm. Sums do not depend on the number of cores. */

typedef struct {
  int64_t sets, items;      /* items of a set: samples; with channels last, positions */
  int64_t channels, groups; /* channels of a group share moments */
  int64_t size, last;       /* elements of a channel of an item; whether channels are last */
  int64_t step, fixed;      /* items that a thread takes at once; whether moments are constants */
  const TK_REAL *x, *g, *weight, *bias;
  TK_REAL *mean, *var, *y, *dweight, *dbias;
  TK_REAL eps;
  int64_t pieces; /* of the items of a set */
  int64_t width;  /* factors in a row: several rows of channels, where those are short */
  TK_REAL *sums;  /* of each piece, two rows of channels */
  TK_REAL *factors; /* of each set, four rows: see `tk_set_factors` */
} tk_channels;

typedef TK_REAL tk_single
    __attribute__((vector_size(sizeof(TK_REAL)), aligned(sizeof(TK_REAL)), may_alias));

/* ------------------------------------------------------------------ sums of rows of a vector */

#define TK_ADD_ROWS(kind, term)                                                               \
  kind sum[4] = {{0}, {0}, {0}, {0}};                                                         \
  int64_t r = 0;                                                                              \
  for (; r + 4 <= rows; r += 4) {                                                             \
    sum[0] += term(r);                                                                        \
    sum[1] += term(r + 1);                                                                    \
    sum[2] += term(r + 2);                                                                    \
    sum[3] += term(r + 3);                                                                    \
  }                                                                                           \
  for (; r < rows; r++) sum[0] += term(r);                                                    \
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);

#define TK_ROW(kind, x, r) (*(const kind *)((x) + (r) * down))
#define TK_TOTAL(r) TK_ROW(tk_kind, x, r)
#define TK_SQUARE(r) \
  ((TK_ROW(tk_kind, x, r) - middle) * (TK_ROW(tk_kind, x, r) - middle))
#define TK_ALONG(r) (TK_ROW(tk_kind, g, r) * (TK_ROW(tk_kind, x, r) - middle))

/* The sums of x, of (x - middle)^2 and of g (x - middle) over rows `down` apart. */
#define TK_SUMS(kind, name)                                                                   \
  TK_INLINE kind tk_total_##name(int64_t rows, int64_t down, const TK_REAL *x) {              \
    typedef kind tk_kind;                                                                     \
    TK_ADD_ROWS(kind, TK_TOTAL)                                                               \
  }                                                                                           \
  TK_INLINE kind tk_squares_##name(int64_t rows, int64_t down, const TK_REAL *x,              \
                                   kind middle) {                                             \
    typedef kind tk_kind;                                                                     \
    TK_ADD_ROWS(kind, TK_SQUARE)                                                              \
  }                                                                                           \
  TK_INLINE kind tk_along_##name(int64_t rows, int64_t down, const TK_REAL *g,                \
                                 const TK_REAL *x, kind middle) {                             \
    typedef kind tk_kind;                                                                     \
    TK_ADD_ROWS(kind, TK_ALONG)                                                               \
  }
TK_SUMS(tk_lanes, lanes)
TK_SUMS(tk_single, single)

/* For vectors of columns of `n`, from `j` on. */
#define TK_EACH(lanes, n) for (; j + lanes <= (n); j += lanes)
#define TK_PUT(kind, to, value) (*(kind *)(to) = (value))

static void tk_moments_of_columns(int64_t rows, int64_t n, const TK_REAL *x, TK_REAL *mean,
                                  TK_REAL *squares) {
  int64_t j = 0;
  TK_EACH(TK_LANES, n) {
    tk_lanes middle = tk_total_lanes(rows, n, x + j) / (TK_REAL)rows;
    TK_PUT(tk_lanes, mean + j, middle);
    TK_PUT(tk_lanes, squares + j, tk_squares_lanes(rows, n, x + j, middle));
  }
  TK_EACH(1, n) {
    tk_single middle = tk_total_single(rows, n, x + j) / (TK_REAL)rows;
    TK_PUT(tk_single, mean + j, middle);
    TK_PUT(tk_single, squares + j, tk_squares_single(rows, n, x + j, middle));
  }
}

static void tk_cotangent_of_columns(int64_t rows, int64_t n, const TK_REAL *g, const TK_REAL *x,
                                    const TK_REAL *mean, TK_REAL *total, TK_REAL *along) {
  int64_t j = 0;
  TK_EACH(TK_LANES, n) {
    TK_PUT(tk_lanes, total + j, tk_total_lanes(rows, n, g + j));
    TK_PUT(tk_lanes, along + j,
           tk_along_lanes(rows, n, g + j, x + j, *(const tk_lanes *)(mean + j)));
  }
  TK_EACH(1, n) {
    TK_PUT(tk_single, total + j, tk_total_single(rows, n, g + j));
    TK_PUT(tk_single, along + j,
           tk_along_single(rows, n, g + j, x + j, *(const tk_single *)(mean + j)));
  }
}

/* Of n elements that lie side by side. */
static TK_REAL tk_total_of_run(int64_t n, const TK_REAL *x) {
  int64_t rows = n / TK_LANES, whole = rows * TK_LANES;
  return tk_sum_of_lanes(tk_total_lanes(rows, TK_LANES, x)) +
         tk_total_single(n - whole, 1, x + whole)[0];
}

static TK_REAL tk_squares_of_run(int64_t n, const TK_REAL *x, TK_REAL middle) {
  int64_t rows = n / TK_LANES, whole = rows * TK_LANES;
  return tk_sum_of_lanes(tk_squares_lanes(rows, TK_LANES, x, (tk_lanes){0} + middle)) +
         tk_squares_single(n - whole, 1, x + whole, (tk_single){0} + middle)[0];
}

static TK_REAL tk_along_of_run(int64_t n, const TK_REAL *g, const TK_REAL *x, TK_REAL middle) {
  int64_t rows = n / TK_LANES, whole = rows * TK_LANES;
  return tk_sum_of_lanes(tk_along_lanes(rows, TK_LANES, g, x, (tk_lanes){0} + middle)) +
         tk_along_single(n - whole, 1, g + whole, x + whole, (tk_single){0} + middle)[0];
}

/* ------------------------------------------------------------------ pieces */

/* The items of a piece, and the place of their first element. */
static int64_t tk_items(const tk_channels *s, int64_t piece, int64_t *at) {
  int64_t first = piece % s->pieces * s->step, left = s->items - first;
  *at = (piece / s->pieces * s->items + first) * s->channels * s->size;
  return left < s->step ? left : s->step;
}

static TK_REAL *tk_sums_of(const tk_channels *s, int64_t piece) {
  return s->sums + piece * 2 * s->channels;
}

static int64_t tk_group(const tk_channels *s, int64_t set, int64_t channel) {
  return set * s->groups + channel / (s->channels / s->groups);
}

static void tk_moments_of_runs(const tk_channels *s, int64_t items, const TK_REAL *x,
                               TK_REAL *mean, TK_REAL *squares) {
  for (int64_t c = 0; c < s->channels; c++) {
    TK_REAL middle = 0, total = 0;
    for (int64_t i = 0; i < items; i++) {
      const TK_REAL *run = x + (i * s->channels + c) * s->size;
      TK_REAL own = tk_total_of_run(s->size, run) / s->size, gap = own - middle;
      middle += gap / (i + 1);
      total += tk_squares_of_run(s->size, run, own) + gap * gap * s->size * i / (i + 1);
    }
    mean[c] = middle;
    squares[c] = total;
  }
}

static void tk_moments_of_pieces(void **memory, int64_t start, int64_t stop) {
  const tk_channels *s = memory[0];
  for (int64_t piece = start; piece < stop; piece++) {
    int64_t at, items = tk_items(s, piece, &at);
    TK_REAL *sums = tk_sums_of(s, piece);
    if (s->last)
      tk_moments_of_columns(items, s->channels, s->x + at, sums, sums + s->channels);
    else
      tk_moments_of_runs(s, items, s->x + at, sums, sums + s->channels);
  }
}

static void tk_cotangent_of_runs(const tk_channels *s, int64_t items, const TK_REAL *g,
                                 const TK_REAL *x, const TK_REAL *mean, TK_REAL *total,
                                 TK_REAL *along) {
  for (int64_t c = 0; c < s->channels; c++) {
    total[c] = along[c] = 0;
    for (int64_t i = 0; i < items; i++) {
      int64_t run = (i * s->channels + c) * s->size;
      total[c] += tk_total_of_run(s->size, g + run);
      along[c] += tk_along_of_run(s->size, g + run, x + run, mean[c]);
    }
  }
}

static void tk_cotangent_of_pieces(void **memory, int64_t start, int64_t stop) {
  const tk_channels *s = memory[0];
  for (int64_t piece = start; piece < stop; piece++) {
    int64_t at, items = tk_items(s, piece, &at);
    TK_REAL *sums = tk_sums_of(s, piece);
    const TK_REAL *mean = s->factors + piece / s->pieces * 4 * s->width;
    if (s->last)
      tk_cotangent_of_columns(items, s->channels, s->g + at, s->x + at, mean, sums,
                              sums + s->channels);
    else
      tk_cotangent_of_runs(s, items, s->g + at, s->x + at, mean, sums, sums + s->channels);
  }
}

/* ------------------------------------------------------------------ results */

/* y = (x - mean) factor + shift */
static void tk_norm_row(int64_t n, const TK_REAL *restrict mean, const TK_REAL *restrict factor,
                        const TK_REAL *restrict shift, const TK_REAL *restrict x,
                        TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] = (x[j] - mean[j]) * factor[j] + shift[j];
}

static void tk_norm_run(int64_t n, TK_REAL mean, TK_REAL factor, TK_REAL shift,
                        const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] = (x[j] - mean) * factor + shift;
}

/* dx = g scale + (x - mean) factor + shift */
static void tk_norm_row_vjp(int64_t n, const TK_REAL *restrict mean,
                            const TK_REAL *restrict factor, const TK_REAL *restrict shift,
                            const TK_REAL *restrict scale, const TK_REAL *restrict g,
                            const TK_REAL *restrict x, TK_REAL *restrict dx) {
  for (int64_t j = 0; j < n; j++)
    dx[j] = g[j] * scale[j] + ((x[j] - mean[j]) * factor[j] + shift[j]);
}

static void tk_norm_run_vjp(int64_t n, TK_REAL mean, TK_REAL factor, TK_REAL shift, TK_REAL scale,
                            const TK_REAL *restrict g, const TK_REAL *restrict x,
                            TK_REAL *restrict dx) {
  for (int64_t j = 0; j < n; j++) dx[j] = g[j] * scale + ((x[j] - mean) * factor + shift);
}

static void tk_result_of_pieces(void **memory, int64_t start, int64_t stop) {
  const tk_channels *s = memory[0];
  for (int64_t piece = start; piece < stop; piece++) {
    int64_t at, items = tk_items(s, piece, &at), end = at + items * s->channels * s->size;
    int64_t run = s->last ? s->width : s->size, c = 0;
    const TK_REAL *mean = s->factors + piece / s->pieces * 4 * s->width;
    const TK_REAL *factor = mean + s->width, *shift = factor + s->width, *scale = shift + s->width;
    for (; at < end; at += run, c = c + 1 == s->channels ? 0 : c + 1) {
      int64_t n = end - at < run ? end - at : run;
      if (s->last && s->g)
        tk_norm_row_vjp(n, mean, factor, shift, scale, s->g + at, s->x + at, s->y + at);
      else if (s->last)
        tk_norm_row(n, mean, factor, shift, s->x + at, s->y + at);
      else if (s->g)
        tk_norm_run_vjp(n, mean[c], factor[c], shift[c], scale[c], s->g + at, s->x + at,
                        s->y + at);
      else
        tk_norm_run(n, mean[c], factor[c], shift[c], s->x + at, s->y + at);
    }
  }
}

/* ------------------------------------------------------------------ from sums to factors */

/* The mean and the variance of a group, of the moments of its pieces. */
static void tk_join_moments(const tk_channels *s, int64_t set, int64_t group) {
  int64_t width = s->channels / s->groups, first = group * width;
  double count = (double)s->items * s->size * width, total = 0, squares = 0, middle;
  for (int pass = 0; pass < 2; pass++) {
    middle = total / count;
    for (int64_t p = 0; p < s->pieces; p++) {
      int64_t piece = set * s->pieces + p, at;
      double n = (double)tk_items(s, piece, &at) * s->size;
      const TK_REAL *mean = tk_sums_of(s, piece) + first;
      for (int64_t c = 0; c < width; c++) {
        double gap = mean[c] - middle;
        if (pass) squares += mean[s->channels + c] + n * gap * gap;
        else total += n * mean[c];
      }
    }
  }
  s->mean[set * s->groups + group] = (TK_REAL)middle;
  s->var[set * s->groups + group] = (TK_REAL)(squares / count);
}

static double tk_scale_of(const tk_channels *s, int64_t group) {
  return 1 / sqrt((double)s->var[group] + s->eps);
}

/* Rows of means, factors, shifts and scales, for y or for dx. g_total, g_along: with g, the sums of
   a set, by channel. */
static void tk_set_factors(const tk_channels *s, int64_t set, const double *g_total,
                           const double *g_along) {
  int64_t width = s->channels / s->groups, n = s->items * s->size * width;
  TK_REAL *to = s->factors + set * 4 * s->width;
  for (int64_t c = 0; c < s->channels; c++) {
    int64_t group = tk_group(s, set, c);
    double scale = tk_scale_of(s, group), factor = scale * s->weight[c], shift = 0;
    if (g_total && !s->fixed) {
      double total = 0, along = 0;
      for (int64_t i = c / width * width; i < (c / width + 1) * width; i++) {
        total += g_total[i] * s->weight[i];
        along += g_along[i] * s->weight[i];
      }
      factor = -scale * scale * scale * along / n;
      shift = -scale * total / n;
    } else if (g_total) {
      factor = 0;
    } else {
      shift = s->bias[c];
    }
    TK_REAL row[4] = {s->mean[group], (TK_REAL)factor, (TK_REAL)shift,
                      (TK_REAL)(scale * s->weight[c])};
    for (int64_t j = c; j < s->width; j += s->channels)
      for (int i = 0; i < 4; i++) to[i * s->width + j] = row[i];
  }
}

/* Adds the sums of the pieces of a set up, and what they give for the weight and the bias. */
static void tk_join_cotangents(const tk_channels *s, int64_t set, double *total, double *along) {
  for (int64_t c = 0; c < s->channels; c++) {
    total[c] = along[c] = 0;
    for (int64_t p = 0; p < s->pieces; p++) {
      const TK_REAL *sums = tk_sums_of(s, set * s->pieces + p);
      total[c] += sums[c];
      along[c] += sums[s->channels + c];
    }
    s->dbias[c] += (TK_REAL)total[c];
    s->dweight[c] += (TK_REAL)(along[c] * tk_scale_of(s, tk_group(s, set, c)));
  }
}

/* ------------------------------------------------------------------ what Python calls */

static void tk_each_piece(tk_channels *s, tk_work_piece work, tk_share_work share) {
  void *memory[1] = {s};
  tk_on_pieces(share, work, memory, s->sets * s->pieces, 1);
}

/* given: the numbers and addresses of `tk_channels`, in order. Whether there is memory. */
static int tk_begin(tk_channels *s, const int64_t *given, double eps) {
  int64_t *numbers[] = {&s->sets, &s->items, &s->channels, &s->groups,
                        &s->size, &s->last,  &s->step,     &s->fixed};
  const TK_REAL **inputs[] = {&s->x, &s->g, &s->weight, &s->bias};
  TK_REAL **outputs[] = {&s->mean, &s->var, &s->y, &s->dweight, &s->dbias};
  for (int i = 0; i < 8; i++) *numbers[i] = given[i];
  for (int i = 0; i < 4; i++) *inputs[i] = (const TK_REAL *)(intptr_t)given[8 + i];
  for (int i = 0; i < 5; i++) *outputs[i] = (TK_REAL *)(intptr_t)given[12 + i];
  s->eps = (TK_REAL)eps;
  s->pieces = (s->items + s->step - 1) / s->step;
  s->width = s->channels;
  if (s->last && s->channels < 64) s->width *= 64 / s->channels;
  int64_t sums = s->sets * s->pieces * 2 * s->channels, factors = s->sets * 4 * s->width;
  s->sums = malloc(sizeof(TK_REAL) * (sums + factors));
  s->factors = s->sums + sums;
  return s->sums != 0;
}

EXPORT int64_t channel_moments(const int64_t *given, tk_share_work share, double eps) {
  tk_channels s;
  if (!tk_begin(&s, given, eps)) return 1;
  tk_each_piece(&s, tk_moments_of_pieces, share);
  for (int64_t set = 0; set < s.sets; set++)
    for (int64_t group = 0; group < s.groups; group++) tk_join_moments(&s, set, group);
  free(s.sums);
  return 0;
}

EXPORT int64_t channel_norm(const int64_t *given, tk_share_work share, double eps) {
  tk_channels s;
  if (!tk_begin(&s, given, eps)) return 1;
  for (int64_t set = 0; set < s.sets; set++) tk_set_factors(&s, set, 0, 0);
  tk_each_piece(&s, tk_result_of_pieces, share);
  free(s.sums);
  return 0;
}

/* The gradients of the weight and the bias come in as zeros. */
EXPORT int64_t channel_norm_vjp(const int64_t *given, tk_share_work share, double eps) {
  tk_channels s;
  if (!tk_begin(&s, given, eps)) return 1;
  double *total = malloc(2 * sizeof(double) * s.channels);
  if (!total) {
    free(s.sums);
    return 1;
  }
  double *along = total + s.channels;
  for (int64_t set = 0; set < s.sets; set++)
    for (int64_t c = 0; c < s.channels; c++)
      s.factors[set * 4 * s.width + c] = s.mean[tk_group(&s, set, c)];
  tk_each_piece(&s, tk_cotangent_of_pieces, share);
  for (int64_t set = 0; set < s.sets; set++) {
    tk_join_cotangents(&s, set, total, along);
    tk_set_factors(&s, set, total, along);
  }
  tk_each_piece(&s, tk_result_of_pieces, share);
  free(total);
  free(s.sums);
  return 0;
}
