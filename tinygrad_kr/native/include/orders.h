/* The memory order of arrays: channels first to channels last, and back. */

enum { TK_BLOCK_SIDE = 16 }; /* elements: a line of the cache of floats */

typedef struct {
  int64_t matrices, rows, columns, step; /* step: matrices that a thread takes at once */
  const TK_REAL *x;
  TK_REAL *y;
} tk_transposition;

static void tk_transpose_matrix(int64_t rows, int64_t columns, const TK_REAL *restrict x,
                                TK_REAL *restrict y) {
  for (int64_t r = 0; r < rows; r += TK_BLOCK_SIDE) {
    int64_t bottom = r + TK_BLOCK_SIDE < rows ? r + TK_BLOCK_SIDE : rows;
    for (int64_t c = 0; c < columns; c += TK_BLOCK_SIDE) {
      int64_t right = c + TK_BLOCK_SIDE < columns ? c + TK_BLOCK_SIDE : columns;
      for (int64_t j = c; j < right; j++)
        for (int64_t i = r; i < bottom; i++) y[j * rows + i] = x[i * columns + j];
    }
  }
}

static void tk_transpose_matrices(void **memory, int64_t start, int64_t stop) {
  const tk_transposition *s = memory[0];
  int64_t size = s->rows * s->columns;
  for (int64_t n = start; n < stop; n++)
    tk_transpose_matrix(s->rows, s->columns, s->x + n * size, s->y + n * size);
}

/* given: the numbers and addresses of `tk_transposition`, in order. */
EXPORT int64_t transpose(const int64_t *given, tk_share_work share) {
  tk_transposition s = {given[0], given[1], given[2], given[3],
                        (const TK_REAL *)(intptr_t)given[4], (TK_REAL *)(intptr_t)given[5]};
  void *memory[1] = {&s};
  if (share)
    share(tk_transpose_matrices, memory, s.matrices, s.step);
  else
    tk_transpose_matrices(memory, 0, s.matrices);
  return 0;
}
