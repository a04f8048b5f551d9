/* One of two numbers for each element: relu, its derivative, and `where`. */

static void tk_relu_of(int64_t n, const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] <= 0 ? 0 : x[i];
}

/* g where y is not 0. */
static void tk_relu_vjp_of(int64_t n, const TK_REAL *restrict g, const TK_REAL *restrict y,
                           TK_REAL *restrict dx) {
  for (int64_t i = 0; i < n; i++) dx[i] = y[i] == 0 ? 0 : g[i];
}

static void tk_relu_part(void **memory, int64_t start, int64_t stop) {
  tk_relu_of(stop - start, (const TK_REAL *)memory[0] + start, (TK_REAL *)memory[1] + start);
}

static void tk_relu_vjp_part(void **memory, int64_t start, int64_t stop) {
  tk_relu_vjp_of(stop - start, (const TK_REAL *)memory[0] + start,
                 (const TK_REAL *)memory[1] + start, (TK_REAL *)memory[2] + start);
}

EXPORT int64_t relu(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_relu_part, share);
}

EXPORT int64_t relu_vjp(const int64_t *given, tk_share_work share) {
  return tk_elementwise(given, tk_relu_vjp_part, share);
}

/* ------------------------------------------------------------------ selection */

/* y = mask ? a : b, where a or b may be one number. */
#define TK_SELECT(name, first, second)                                                        \
  static void name(int64_t n, const uint8_t *restrict mask, const TK_REAL *restrict a,        \
                   const TK_REAL *restrict b, TK_REAL *restrict y) {                          \
    for (int64_t i = 0; i < n; i++) {                                                         \
      TK_REAL one = first, other = second; /* read both: a branch would be mispredicted */    \
      y[i] = mask[i] ? one : other;                                                           \
    }                                                                                         \
  }
TK_SELECT(tk_select_arrays, a[i], b[i])
TK_SELECT(tk_select_array, a[i], *b)
TK_SELECT(tk_select_other, *a, b[i])

static void tk_select_part(void **memory, int64_t start, int64_t stop) {
  const uint8_t *mask = (const uint8_t *)memory[0] + start;
  const TK_REAL *a = memory[1], *b = memory[2];
  TK_REAL *y = (TK_REAL *)memory[3] + start;
  if (memory[4]) tk_select_array(stop - start, mask, a + start, b, y);
  else if (memory[5]) tk_select_other(stop - start, mask, a, b + start, y);
  else tk_select_arrays(stop - start, mask, a + start, b + start, y);
}

/* given: the number of elements; the addresses of mask, a, b and y, 0 for a number a or b. */
EXPORT int64_t choose(const int64_t *given, tk_share_work share, double a, double b) {
  TK_REAL first = (TK_REAL)a, second = (TK_REAL)b;
  void *memory[6];
  for (int i = 0; i < 4; i++) memory[i] = (void *)(intptr_t)given[i + 1];
  memory[4] = memory[2] ? 0 : &second;
  memory[5] = memory[1] ? 0 : &first;
  if (!memory[1]) memory[1] = &first;
  if (!memory[2]) memory[2] = &second;
  if (share)
    share(tk_select_part, memory, given[0], TK_PIECE);
  else
    tk_select_part(memory, 0, given[0]);
  return 0;
}
