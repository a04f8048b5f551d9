/* Products of small matrices on one thread, for the kernels of whole blocks and sequences.

   Included once for each type of elements: TK_REAL. A tile of sums stays in registers, in vectors
   of the compiler: one text for every processor. Rows of b and c are padded to whole vectors by the
   caller, so there are no masks. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define TK_VECTOR_BYTES 64
#define TK_TILE_ROWS 8
#elif defined(__AVX__)
#define TK_VECTOR_BYTES 32
#define TK_TILE_ROWS 6
#elif defined(__aarch64__)
#define TK_VECTOR_BYTES 16
#define TK_TILE_ROWS 8
#else
#define TK_VECTOR_BYTES 16
#define TK_TILE_ROWS 4
#endif
#define TK_LANES ((int64_t)(TK_VECTOR_BYTES / sizeof(TK_REAL)))
#define TK_INLINE static inline __attribute__((always_inline))

/* work(memory, start, stop) on pieces of `step` that cover [0, size), as in `threads.h`. */
typedef void (*tk_work_piece)(void **memory, int64_t start, int64_t stop);
typedef void (*tk_share_work)(tk_work_piece work, void **memory, int64_t size, int64_t step);

/* Does work on all pieces: by threads with `share`, else here on one piece of the whole size. */
static inline void tk_on_pieces(tk_share_work share, tk_work_piece work, void **memory,
                                int64_t size, int64_t step) {
  if (share)
    share(work, memory, size, step);
  else
    work(memory, 0, size);
}

enum { TK_PIECE = 8192 }; /* elements that a thread takes at once */

/* Calls work on pieces of dense arrays. given: the number of elements, then the addresses of the
   arrays. */
static inline int64_t tk_elementwise(const int64_t *given, tk_work_piece work, tk_share_work share) {
  void *memory[3];
  for (int i = 0; i < 3; i++) memory[i] = (void *)(intptr_t)given[i + 1];
  tk_on_pieces(share, work, memory, given[0], TK_PIECE);
  return 0;
}

typedef TK_REAL tk_lanes
    __attribute__((vector_size(TK_VECTOR_BYTES), aligned(sizeof(TK_REAL)), may_alias));

/* The number of elements, rounded up to whole vectors. */
TK_INLINE int64_t tk_padded(int64_t n) { return (n + TK_LANES - 1) / TK_LANES * TK_LANES; }

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast") /* a product and a sum are one instruction */
#endif

/* c = a b, or c += a b, for a tile of `height` rows and `vectors` vectors, both constants. */
TK_INLINE void tk_block_tile(int height, int vectors, int64_t depth, const TK_REAL *a,
                             int64_t a_down, int64_t a_across, const TK_REAL *b, int64_t b_down,
                             TK_REAL *c, int64_t c_down, int accumulate) {
#if defined(__clang__)
#pragma STDC FP_CONTRACT ON
#endif
  tk_lanes sum[TK_TILE_ROWS][2];
#pragma GCC unroll 8
  for (int i = 0; i < height; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      if (accumulate)
        sum[i][v] = *(const tk_lanes *)(c + i * c_down + v * TK_LANES);
      else
        sum[i][v] = (tk_lanes){0};
  for (int64_t k = 0; k < depth; k++, a += a_across, b += b_down) {
    tk_lanes row[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) row[v] = *(const tk_lanes *)(b + v * TK_LANES);
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[i][v] += row[v] * a[i * a_down];
  }
#pragma GCC unroll 8
  for (int i = 0; i < height; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) *(tk_lanes *)(c + i * c_down + v * TK_LANES) = sum[i][v];
}

/* The same for all rows, and for one or two vectors of columns. */
TK_INLINE void tk_block_columns(int vectors, int64_t rows, int64_t depth, const TK_REAL *a,
                                int64_t a_down, int64_t a_across, const TK_REAL *b,
                                int64_t b_down, TK_REAL *c, int64_t c_down, int accumulate) {
  int64_t i = 0;
#define TK_ROWS_OF(height)                                                                   \
  for (; i + height <= rows; i += height)                                                    \
    tk_block_tile(height, vectors, depth, a + i * a_down, a_down, a_across, b, b_down,        \
                  c + i * c_down, c_down, accumulate);
  TK_ROWS_OF(TK_TILE_ROWS)
#if TK_TILE_ROWS > 4
  TK_ROWS_OF(4)
#endif
  TK_ROWS_OF(2)
  TK_ROWS_OF(1)
#undef TK_ROWS_OF
}

/* c = a b, or c += a b: a (rows, depth) with any strides; b (depth, columns) in panels of two
   vectors of columns, b_panel apart, each with rows b_down apart; c with rows c_down apart.
   columns: a number of whole vectors. */
TK_INLINE void tk_block_product(int64_t rows, int64_t depth, int64_t columns, const TK_REAL *a,
                                int64_t a_down, int64_t a_across, const TK_REAL *b,
                                int64_t b_down, int64_t b_panel, TK_REAL *c, int64_t c_down,
                                int accumulate) {
  int64_t j = 0;
  for (; j + 2 * TK_LANES <= columns; j += 2 * TK_LANES, b += b_panel)
    tk_block_columns(2, rows, depth, a, a_down, a_across, b, b_down, c + j, c_down, accumulate);
  if (j < columns)
    tk_block_columns(1, rows, depth, a, a_down, a_across, b, b_down, c + j, c_down, accumulate);
}

static __attribute__((noinline)) void tk_block_multiply(
    int64_t rows, int64_t depth, int64_t columns, const TK_REAL *a, int64_t a_down,
    int64_t a_across, const TK_REAL *b, int64_t b_down, int64_t b_panel, TK_REAL *c,
    int64_t c_down) {
  tk_block_product(rows, depth, columns, a, a_down, a_across, b, b_down, b_panel, c, c_down, 0);
}

static __attribute__((noinline)) void tk_block_add(
    int64_t rows, int64_t depth, int64_t columns, const TK_REAL *a, int64_t a_down,
    int64_t a_across, const TK_REAL *b, int64_t b_down, int64_t b_panel, TK_REAL *c,
    int64_t c_down) {
  tk_block_product(rows, depth, columns, a, a_down, a_across, b, b_down, b_panel, c, c_down, 1);
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

/* The elements of a matrix (depth, columns) in panels of two vectors of columns. */
TK_INLINE int64_t tk_packed_size(int64_t depth, int64_t columns) {
  return depth * ((columns + 2 * TK_LANES - 1) / (2 * TK_LANES)) * 2 * TK_LANES;
}

/* Packs a matrix (depth, columns) with any strides in such panels, with zeros at the end. */
static void tk_pack_panels(int64_t depth, int64_t columns, const TK_REAL *from, int64_t down,
                           int64_t across, TK_REAL *to) {
  const int64_t width = 2 * TK_LANES;
  for (int64_t j = 0; j < columns; j += width, to += depth * width) {
    int64_t there = columns - j < width ? columns - j : width;
    if (there < width) memset(to, 0, sizeof(TK_REAL) * depth * width);
    if (across == 1)
      for (int64_t k = 0; k < depth; k++)
        memcpy(to + k * width, from + k * down + j, sizeof(TK_REAL) * there);
    else
      for (int64_t k = 0; k < depth; k += TK_LANES) /* a line of each column at a time */
        for (int64_t l = 0; l < there; l++) {
          const TK_REAL *column = from + (j + l) * across;
          int64_t end = k + TK_LANES < depth ? k + TK_LANES : depth;
          for (int64_t m = k; m < end; m++) to[m * width + l] = column[m * down];
        }
  }
}

/* The sum of the elements of a vector, by halves. */
TK_INLINE TK_REAL tk_sum_of_lanes(tk_lanes x) {
  TK_REAL a[TK_VECTOR_BYTES / sizeof(TK_REAL)];
  memcpy(a, &x, sizeof a);
#pragma GCC unroll 4
  for (int width = TK_LANES / 2; width; width /= 2)
#pragma GCC unroll 8
    for (int l = 0; l < width; l++) a[l] += a[l + width];
  return a[0];
}

TK_INLINE TK_REAL tk_largest_of_lanes(tk_lanes x) {
  TK_REAL a[TK_VECTOR_BYTES / sizeof(TK_REAL)];
  memcpy(a, &x, sizeof a);
#pragma GCC unroll 4
  for (int width = TK_LANES / 2; width; width /= 2)
#pragma GCC unroll 8
    for (int l = 0; l < width; l++) a[l] = a[l] > a[l + width] ? a[l] : a[l + width];
  return a[0];
}

/* The largest element, the sum, and the sum of products, of n elements that are whole vectors. A NaN
   is no largest element. */
static TK_REAL tk_largest(int64_t n, const TK_REAL *x) {
  tk_lanes best = (tk_lanes){0} - (TK_REAL)INFINITY;
  for (int64_t j = 0; j < n; j += TK_LANES) {
    tk_lanes next = *(const tk_lanes *)(x + j);
    __typeof__(next > best) larger = next > best;
    best = (tk_lanes)((larger & (__typeof__(larger))next) | (~larger & (__typeof__(larger))best));
  }
  return tk_largest_of_lanes(best);
}

static TK_REAL tk_sum(int64_t n, const TK_REAL *x) {
  tk_lanes sums = {0};
  for (int64_t j = 0; j < n; j += TK_LANES) sums += *(const tk_lanes *)(x + j);
  return tk_sum_of_lanes(sums);
}

static TK_REAL tk_dot(int64_t n, const TK_REAL *x, const TK_REAL *y) {
  tk_lanes sums = {0};
  for (int64_t j = 0; j < n; j += TK_LANES)
    sums += *(const tk_lanes *)(x + j) * *(const tk_lanes *)(y + j);
  return tk_sum_of_lanes(sums);
}

/* Memory of `count` elements that begins at a cache line, for `tk_discard`; or 0. */
static TK_REAL *tk_new(int64_t count) {
  char *memory = malloc(sizeof(TK_REAL) * count + 128);
  if (!memory) return 0;
  char *start = memory + 128 - (uintptr_t)memory % 64;
  memcpy(start - sizeof memory, &memory, sizeof memory);
  return (TK_REAL *)start;
}

static void tk_discard(TK_REAL *start) {
  char *memory;
  if (!start) return;
  memcpy(&memory, (char *)start - sizeof memory, sizeof memory);
  free(memory);
}
