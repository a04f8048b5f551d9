/* Linear systems: substitution, LU and Cholesky decompositions, as in `ops/solving.py`.

   Each matrix of a batch is copied first, so that matrices may have any strides. Row by row, with
   the pivots that LAPACK chooses. */

enum { TK_UPPER = 1, TK_UNIT = 2 };

typedef struct {
  int64_t batch, n, columns, flags;
  const TK_REAL *a;
  int64_t a_apart, a_down, a_across; /* strides, in elements */
  const TK_REAL *b;
  int64_t b_apart, b_down, b_across;
  TK_REAL *y;
  int64_t y_apart;
} tk_system;

static void tk_copy_matrix(int64_t rows, int64_t columns, const TK_REAL *from, int64_t down,
                           int64_t across, TK_REAL *to, int64_t to_down) {
  for (int64_t i = 0; i < rows; i++, from += down, to += to_down)
    if (across == 1)
      memcpy(to, from, sizeof(TK_REAL) * columns);
    else
      for (int64_t j = 0; j < columns; j++) to[j] = from[j * across];
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast") /* a product and a sum are one instruction */
#endif

/* y -= factor x */
static void tk_take_row(int64_t n, TK_REAL factor, const TK_REAL *restrict x,
                           TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] -= factor * x[j];
}

/* y -= the sum of factors[k] times row k of x, four rows at once. */
static void tk_take_rows(int64_t n, int64_t count, const TK_REAL *factors, int64_t apart,
                         const TK_REAL *restrict x, int64_t x_down, TK_REAL *restrict y) {
  int64_t k = 0;
  for (; k + 4 <= count; k += 4, factors += 4 * apart, x += 4 * x_down) {
    TK_REAL p = factors[0], q = factors[apart], r = factors[2 * apart], s = factors[3 * apart];
    const TK_REAL *x1 = x + x_down, *x2 = x1 + x_down, *x3 = x2 + x_down;
    for (int64_t j = 0; j < n; j++) y[j] -= p * x[j] + q * x1[j] + r * x2[j] + s * x3[j];
  }
  for (; k < count; k++, factors += apart, x += x_down) tk_take_row(n, factors[0], x, y);
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

static void tk_divide_row(int64_t n, TK_REAL divisor, TK_REAL *y) {
  for (int64_t j = 0; j < n; j++) y[j] /= divisor;
}

/* ------------------------------------------------------------------ substitution */

/* x = t^-1 x for rows of x; t is lower triangular. 1 if an element of its diagonal is 0. */
static int64_t tk_substitute_forward(int64_t n, int64_t columns, const TK_REAL *t, int64_t down,
                                     int64_t across, int unit, TK_REAL *x, int64_t x_down) {
  for (int64_t i = 0; i < n; i++) {
    tk_take_rows(columns, i, t + i * down, across, x, x_down, x + i * x_down);
    if (unit) continue;
    TK_REAL pivot = t[i * (down + across)];
    if (pivot == 0) return 1;
    tk_divide_row(columns, pivot, x + i * x_down);
  }
  return 0;
}

/* The same for an upper triangular t: from the last row. */
static int64_t tk_substitute_back(int64_t n, int64_t columns, const TK_REAL *t, int64_t down,
                                  int64_t across, int unit, TK_REAL *x, int64_t x_down) {
  int64_t last = n - 1;
  return tk_substitute_forward(n, columns, t + last * (down + across), -down, -across, unit,
                               x + last * x_down, -x_down);
}

static int64_t tk_triangle(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                           TK_REAL *work) {
  int64_t n = s->n, columns = s->columns, unit = s->flags & TK_UNIT, failed;
  int64_t down = s->a_down, across = s->a_across;
  if (s->columns > 1) { /* each element is read for all columns */
    tk_copy_matrix(n, n, a, down, across, work, n);
    a = work, down = n, across = 1;
  }
  tk_copy_matrix(n, columns, b, s->b_down, s->b_across, y, columns);
  if (s->flags & TK_UPPER)
    failed = tk_substitute_back(n, columns, a, down, across, unit != 0, y, columns);
  else
    failed = tk_substitute_forward(n, columns, a, down, across, unit != 0, y, columns);
  return failed;
}

/* ------------------------------------------------------------------ LU decomposition */

static void tk_swap_rows(int64_t n, TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL z = x[j];
    x[j] = y[j];
    y[j] = z;
  }
}

/* Columns [start, stop) of L and U, with the rows exchanged; later columns only have their rows
   exchanged, those of x too. 1 if a pivot is 0. */
static int64_t tk_decompose_columns(int64_t n, int64_t start, int64_t stop, TK_REAL *lu, TK_REAL *x,
                                    int64_t columns, int64_t *swaps) {
  int64_t singular = 0;
  for (int64_t k = start; k < stop; k++) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; i++)
      if (TK_FUNCTION(abs)(lu[i * n + k]) > TK_FUNCTION(abs)(lu[pivot * n + k])) pivot = i;
    if (pivot != k) {
      ++*swaps;
      tk_swap_rows(n, lu + k * n, lu + pivot * n);
      if (x) tk_swap_rows(columns, x + k * columns, x + pivot * columns);
    }
    TK_REAL largest = lu[k * n + k];
    if (largest == 0) singular = 1;
    for (int64_t i = k + 1; i < n && largest != 0; i++) {
      TK_REAL factor = lu[i * n + k] /= largest;
      for (int64_t j = k + 1; j < stop; j++) lu[i * n + j] -= factor * lu[k * n + j];
    }
  }
  return singular;
}

/* The rows of lu become those of L and U, four columns of L at a time, with the rows of x exchanged
   alike (`x` may be 0). The number of exchanges goes to `swaps`. 1 if a pivot is 0. */
static int64_t tk_decompose(int64_t n, TK_REAL *lu, TK_REAL *x, int64_t columns, int64_t *swaps) {
  int64_t singular = 0;
  *swaps = 0;
  for (int64_t start = 0; start < n; start += 4) {
    int64_t stop = start + 4 < n ? start + 4 : n, rest = n - stop;
    singular |= tk_decompose_columns(n, start, stop, lu, x, columns, swaps);
    for (int64_t i = start + 1; i < n && rest; i++)
      tk_take_rows(rest, (i < stop ? i : stop) - start, lu + i * n + start, 1,
                   lu + start * n + stop, n, lu + i * n + stop);
  }
  return singular;
}

static int64_t tk_lu_solve(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                           TK_REAL *work) {
  int64_t n = s->n, columns = s->columns, swaps;
  tk_copy_matrix(n, n, a, s->a_down, s->a_across, work, n);
  if (b)
    tk_copy_matrix(n, columns, b, s->b_down, s->b_across, y, columns);
  else
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++) y[i * n + j] = i == j;
  if (tk_decompose(n, work, y, columns, &swaps)) return 1;
  tk_substitute_forward(n, columns, work, n, 1, 1, y, columns);
  return tk_substitute_back(n, columns, work, n, 1, 0, y, columns);
}

/* The sign of det(a), and the logarithm of its absolute value. */
static int64_t tk_signed_log(const tk_system *s, const TK_REAL *a, TK_REAL *work, TK_REAL *sign,
                             TK_REAL *log) {
  int64_t n = s->n, swaps;
  tk_copy_matrix(n, n, a, s->a_down, s->a_across, work, n);
  int64_t singular = tk_decompose(n, work, 0, 0, &swaps);
  *sign = singular ? 0 : swaps % 2 ? -1 : 1;
  *log = singular ? -INFINITY : 0;
  for (int64_t i = 0; i < n && !singular; i++) {
    TK_REAL pivot = work[i * (n + 1)];
    if (pivot < 0) *sign = -*sign;
    *log += TK_FUNCTION(log)(TK_FUNCTION(abs)(pivot));
  }
  return 0;
}

static int64_t tk_log_of(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                         TK_REAL *work) {
  TK_REAL sign;
  (void)b;
  return tk_signed_log(s, a, work, &sign, y);
}

static int64_t tk_sign_of(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                          TK_REAL *work) {
  TK_REAL log;
  (void)b;
  return tk_signed_log(s, a, work, y, &log);
}

/* ------------------------------------------------------------------ Cholesky decomposition */

/* y = the lower L with L L^T = (a + a^T) / 2; L^T is made in `work`, by rows. */
static int64_t tk_root(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                       TK_REAL *work) {
  int64_t n = s->n, down = s->a_down, across = s->a_across;
  (void)b;
  for (int64_t i = 0; i < n; i++) {
    TK_REAL *row = work + i * n;
    for (int64_t j = i; j < n; j++)
      row[j] = (a[i * down + j * across] + a[j * down + i * across]) * (TK_REAL)0.5;
    tk_take_rows(n - i, i, work + i, n, work + i, n, row + i);
    if (row[i] <= 0) return 1;
    TK_REAL pivot = TK_FUNCTION(sqrt)(row[i]);
    row[i] = pivot;
    tk_divide_row(n - i - 1, pivot, row + i + 1);
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) y[i * n + j] = j <= i ? work[j * n + i] : 0;
  return 0;
}

/* y = (s + s^T) / 2 for s = L^-T p L^-1, where a is L and b its cotangent g; p is the lower triangle
   of L^T g with half its diagonal. */
static int64_t tk_root_vjp(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                           TK_REAL *work) {
  int64_t n = s->n, down = s->a_down, across = s->a_across;
  tk_copy_matrix(n, n, b, s->b_down, s->b_across, y, n);
  memset(work, 0, sizeof(TK_REAL) * n * n);
  for (int64_t i = 0; i < n; i++) /* minus L^T g */
    tk_take_rows(i + 1, n - i, a + i * (down + across), down, y + i * n, n, work + i * n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      y[i * n + j] = j < i ? 0 : work[j * n + i] * (i == j ? (TK_REAL)-0.5 : -1);
  for (int64_t i = n - 1; i >= 0; i--) { /* L^-T p^T, which is an upper triangle too */
    const TK_REAL *column = a + i * (down + across);
    if (column[0] == 0) return 1;
    tk_take_rows(n - i, n - 1 - i, column + down, down, y + (i + 1) * n + i, n, y + i * n + i);
    tk_divide_row(n - i, column[0], y + i * n + i);
  }
  tk_copy_matrix(n, n, y, 1, n, work, n);
  if (tk_substitute_back(n, n, a, across, down, 0, work, n)) return 1;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      y[i * n + j] = (work[i * n + j] + work[j * n + i]) * (TK_REAL)0.5;
  return 0;
}

/* ------------------------------------------------------------------ what Python calls */

typedef int64_t (*tk_solver)(const tk_system *s, const TK_REAL *a, const TK_REAL *b, TK_REAL *y,
                             TK_REAL *work);

enum { TK_NEAR = 256 };

static int64_t tk_each_matrix(const int64_t *given, tk_solver solver) {
  TK_REAL near[TK_NEAR], *work = near;
  tk_system s = {given[0], given[1], given[2], given[3], (const TK_REAL *)(intptr_t)given[4],
                 given[5], given[6], given[7], (const TK_REAL *)(intptr_t)given[8], given[9],
                 given[10], given[11], (TK_REAL *)(intptr_t)given[12], given[13]};
  int64_t failed = 0;
  if (s.n * s.n > TK_NEAR && !(work = tk_new(s.n * s.n))) return 1;
  for (int64_t i = 0; i < s.batch && !failed; i++)
    failed = solver(&s, s.a + i * s.a_apart, s.b ? s.b + i * s.b_apart : 0, s.y + i * s.y_apart,
                    work);
  if (work != near) tk_discard(work);
  return failed ? 2 : 0;
}

/* given: the numbers and addresses of `tk_system`, in order. 2 where there is no solution. */
EXPORT int64_t solve_(const int64_t *given, tk_share_work share) {
  (void)share;
  return tk_each_matrix(given, tk_lu_solve);
}

EXPORT int64_t solve_triangular_(const int64_t *given, tk_share_work share) {
  (void)share;
  return tk_each_matrix(given, tk_triangle);
}

EXPORT int64_t cholesky_(const int64_t *given, tk_share_work share) {
  (void)share;
  return tk_each_matrix(given, tk_root);
}

EXPORT int64_t cholesky_vjp_(const int64_t *given, tk_share_work share) {
  (void)share;
  return tk_each_matrix(given, tk_root_vjp);
}

EXPORT int64_t logabsdet_(const int64_t *given, tk_share_work share) {
  (void)share;
  return tk_each_matrix(given, tk_log_of);
}

EXPORT int64_t signdet_(const int64_t *given, tk_share_work share) {
  (void)share;
  return tk_each_matrix(given, tk_sign_of);
}
