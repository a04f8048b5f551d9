/* The larger of an element and 0, and its derivative. */

enum { TK_PART = 8192 }; /* elements that a thread takes at once */

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

/* given: the number of elements, then the addresses of the arrays. */
static int64_t tk_parts_of(const int64_t *given, tk_work_piece work, tk_share_work share) {
  void *memory[3];
  for (int i = 0; i < 3; i++) memory[i] = (void *)(intptr_t)given[i + 1];
  if (share)
    share(work, memory, given[0], TK_PART);
  else
    work(memory, 0, given[0]);
  return 0;
}

EXPORT int64_t relu(const int64_t *given, tk_share_work share) {
  return tk_parts_of(given, tk_relu_part, share);
}

EXPORT int64_t relu_vjp(const int64_t *given, tk_share_work share) {
  return tk_parts_of(given, tk_relu_vjp_part, share);
}
