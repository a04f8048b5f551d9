/* Connectionist temporal classification, as in `ops/ctc.py`: the loss of each sequence, and its
   gradient by the forward-backward algorithm. Threads share the sequences. */

typedef struct {
  int64_t steps, batch, classes, most, blank; /* most: labels of the longest sequence */
  const TK_REAL *x;                           /* log-probabilities (steps, batch, classes) */
  const int64_t *labels, *lengths, *counts;   /* (batch, most), and two numbers of each sequence */
  const TK_REAL *g;
  TK_REAL *y;
  int failed; /* no memory */
} tk_alignment;

/* One sequence: its labels with blanks around them, and which of these may be skipped. Rows of states
   have two of -inf before the first, and after the last. */
typedef struct {
  int64_t width, row; /* states, and elements of a row */
  int64_t *spaced;
  TK_REAL *skips; /* of each state: 0 where the blank before it may be skipped, else -inf */
  TK_REAL *scores, *states, *sums;
} tk_lattice;

static void *tk_new_lattice(const tk_alignment *s, tk_lattice *l) {
  int64_t most = 2 * s->most + 1;
  l->row = most + 4;
  size_t reals = sizeof(TK_REAL) * l->row * (s->steps + 4);
  void *memory = malloc(reals + sizeof(int64_t) * most);
  l->spaced = memory;
  l->skips = (TK_REAL *)(l->spaced + most);
  l->scores = l->skips + l->row;
  l->sums = l->scores + l->row;
  l->states = l->sums + l->row;
  return memory;
}

static void tk_begin_lattice(const tk_alignment *s, int64_t n, tk_lattice *l) {
  const int64_t *labels = s->labels + n * s->most;
  l->width = 2 * s->counts[n] + 1;
  for (int64_t i = 0; i < l->width; i++) l->spaced[i] = i % 2 ? labels[i / 2] : s->blank;
  for (int64_t i = 0; i < l->row; i++) {
    int skipped = i > 1 && i < l->width && l->spaced[i] != s->blank &&
                  l->spaced[i] != l->spaced[i - 2];
    l->skips[i] = skipped ? 0 : -INFINITY;
  }
}

/* y = log(exp(a) + exp(b) + exp(c + skips)) + scores. */
static void tk_add_paths(int64_t n, const TK_REAL *restrict a, const TK_REAL *restrict b,
                         const TK_REAL *restrict c, const TK_REAL *restrict skips,
                         const TK_REAL *restrict scores, TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) {
    TK_REAL third = c[i] + skips[i], most = a[i] < b[i] ? b[i] : a[i];
    most = most < third ? third : most;
    TK_REAL base = most == -INFINITY ? 0 : most;
    TK_REAL sum = TK_FUNCTION(exp)(a[i] - base) + TK_FUNCTION(exp)(b[i] - base) +
                  TK_FUNCTION(exp)(third - base);
    y[i] = TK_FUNCTION(log)(sum) + base + scores[i];
  }
}

static void tk_read_scores(const tk_alignment *s, const tk_lattice *l, int64_t n, int64_t t,
                           TK_REAL *scores) {
  const TK_REAL *x = s->x + (t * s->batch + n) * s->classes;
  for (int64_t i = 0; i < l->width; i++) scores[i] = x[l->spaced[i]];
}

/* The states of all steps of a sequence, in rows; or, if all are not kept, in two rows in turn. Gives
   the loss. */
static TK_REAL tk_run_forward(const tk_alignment *s, const tk_lattice *l, int64_t n, int kept) {
  int64_t length = s->lengths[n], last = l->width - 1;
  if (!length) return last ? INFINITY : 0;
  for (int64_t t = 0; t < length; t++) {
    TK_REAL *row = l->states + (kept ? t : t % 2) * l->row;
    const TK_REAL *before = l->states + (kept ? t - 1 : (t + 1) % 2) * l->row;
    row[0] = row[1] = -INFINITY;
    tk_read_scores(s, l, n, t, l->scores);
    if (t) {
      tk_add_paths(l->width, before + 2, before + 1, before, l->skips, l->scores, row + 2);
      continue;
    }
    for (int64_t i = 0; i < l->width; i++) row[2 + i] = i < 2 ? l->scores[i] : -INFINITY;
  }
  const TK_REAL *end = l->states + (kept ? length - 1 : (length - 1) % 2) * l->row + 2 + last;
  TK_REAL none = -INFINITY, zero = 0, total;
  tk_add_paths(1, end, last ? end - 1 : &none, &none, &zero, &zero, &total);
  return -total;
}

static void tk_find_losses(void **memory, int64_t start, int64_t stop) {
  tk_alignment *s = memory[0];
  tk_lattice l;
  void *room = tk_new_lattice(s, &l);
  if (!room) {
    s->failed = 1;
    return;
  }
  for (int64_t n = start; n < stop; n++) {
    tk_begin_lattice(s, n, &l);
    s->y[n] = tk_run_forward(s, &l, n, 0);
  }
  free(room);
}

/* y = exp(a + b + loss): how probable states are, given the labels. */
static void tk_find_shares(int64_t n, TK_REAL loss, const TK_REAL *restrict a,
                           const TK_REAL *restrict b, TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = TK_FUNCTION(exp)(a[i] + b[i] + loss);
}

static void tk_add_rows(int64_t n, const TK_REAL *restrict a, const TK_REAL *restrict b,
                        TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

/* Backward from the last step of a sequence: `sums` are the logarithms of what comes after each state.
   Adds -g times the share of each state to its class. */
static void tk_run_backward(const tk_alignment *s, const tk_lattice *l, int64_t n, TK_REAL loss,
                            TK_REAL *after) {
  int64_t width = l->width;
  for (int64_t i = 0; i < l->row; i++) l->sums[i] = after[i] = -INFINITY;
  l->sums[width - 1] = 0;
  if (width > 1) l->sums[width - 2] = 0;
  for (int64_t t = s->lengths[n] - 1; t >= 0; t--) {
    TK_REAL *dx = s->y + (t * s->batch + n) * s->classes, *zeros = l->scores;
    tk_find_shares(width, loss, l->states + t * l->row + 2, l->sums, after);
    for (int64_t i = 0; i < width; i++) dx[l->spaced[i]] -= s->g[n] * after[i];
    tk_read_scores(s, l, n, t, l->scores);
    tk_add_rows(width, l->sums, l->scores, after);
    after[width] = after[width + 1] = -INFINITY;
    memset(zeros, 0, sizeof(TK_REAL) * width);
    tk_add_paths(width, after, after + 1, after + 2, l->skips + 2, zeros, l->sums);
  }
}

static void tk_find_slopes(void **memory, int64_t start, int64_t stop) {
  tk_alignment *s = memory[0];
  tk_lattice l;
  void *room = tk_new_lattice(s, &l);
  if (!room) {
    s->failed = 1;
    return;
  }
  TK_REAL *after = l.states + l.row * s->steps;
  for (int64_t n = start; n < stop; n++) {
    tk_begin_lattice(s, n, &l);
    TK_REAL loss = tk_run_forward(s, &l, n, 1);
    if (loss != INFINITY) tk_run_backward(s, &l, n, loss, after);
  }
  free(room);
}

static int64_t tk_run_alignment(const int64_t *given, tk_work_piece work, tk_share_work share) {
  tk_alignment s = {given[0], given[1], given[2], given[3], given[4]};
  s.x = (const TK_REAL *)(intptr_t)given[5];
  s.labels = (const int64_t *)(intptr_t)given[6];
  s.lengths = (const int64_t *)(intptr_t)given[7];
  s.counts = (const int64_t *)(intptr_t)given[8];
  s.g = (const TK_REAL *)(intptr_t)given[9];
  s.y = (TK_REAL *)(intptr_t)given[10];
  void *memory[1] = {&s};
  tk_on_pieces(share, work, memory, s.batch, 1);
  return s.failed;
}

/* given: the numbers and addresses of `tk_alignment`, in order. y: the losses (batch). */
EXPORT int64_t ctc(const int64_t *given, tk_share_work share) {
  return tk_run_alignment(given, tk_find_losses, share);
}

/* y: comes in as zeros (steps, batch, classes). */
EXPORT int64_t ctc_vjp(const int64_t *given, tk_share_work share) {
  return tk_run_alignment(given, tk_find_slopes, share);
}
