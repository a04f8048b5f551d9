/* GEMM of float32 on processors with AVX-512. BLAS does not always use AVX-512: OpenBLAS 0.3.31 (in
   NumPy 2.4) takes an AMD Zen 5 for a Haswell and runs at half speed.

   Blocks of both matrices are packed, so the innermost loop reads memory in order. A tile of
   TK_ROWS x TK_COLUMNS sums stays in registers for a whole block.
   Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008. */

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TK_ROWS 14
#define TK_FEWER_ROWS 12 /* of a smaller tile: both together cover large even numbers of rows */
#define TK_WIDTH 16
#define TK_COLUMNS (2 * TK_WIDTH) /* of a tile: 14 x 2 sums fill 28 of the 32 registers */
#define TK_DEPTH 256              /* of a block: 32 KiB of b fit in the L1 cache */
#define TK_TILES 2                /* rows of tiles that share one read of such a block */
#define TK_PREFETCH_DISTANCE 64   /* elements: hardware does not prefetch 32 rows at once */
#define TK_DEEP 64                /* threshold: depth that pays for storing c panel by panel */
#define TK_SMALL 131072           /* limit: elements of an a that fits in the L2 cache */
#define TK_LINE 64                /* elements of a row that are copied at a time */

/* Enables AVX-512 in compilers without -march=native. */
#define TK_WIDE __attribute__((target("avx512f,avx2,fma")))

static inline int64_t tk_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

/* The mask of the first `count` elements of a vector. */
static inline TK_WIDE __mmask16 tk_first_of(int64_t count) {
  return count < 0 ? 0 : (1 << tk_min_i64(count, TK_WIDTH)) - 1;
}

/* c = a b, or c += a b, for one tile of `height` (a constant) x TK_COLUMNS elements.
   Only the first `rows` x `columns` are stored; inputs of the others may hold any value.
   Strides: a_down and a_across of a, b_down of the rows of b, c_down of the rows of c. */
static inline TK_WIDE __attribute__((always_inline)) void tk_tile(
    int height, int64_t depth, const float *restrict a, int64_t a_down, int64_t a_across,
    const float *restrict b, int64_t b_down, float *restrict c, int64_t c_down, int64_t rows,
    int64_t columns, int accumulate) {
  __m512 sum[TK_ROWS][2];
#pragma GCC unroll 14
  for (int i = 0; i < height; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; k++) {
    __m512 left = _mm512_loadu_ps(b), right = _mm512_loadu_ps(b + TK_WIDTH);
#pragma GCC unroll 14
    for (int i = 0; i < height; i++) {
      __m512 element = _mm512_set1_ps(a[i * a_down]);
      sum[i][0] = _mm512_fmadd_ps(element, left, sum[i][0]);
      sum[i][1] = _mm512_fmadd_ps(element, right, sum[i][1]);
    }
    a += a_across;
    b += b_down;
  }
  __mmask16 first = tk_first_of(columns), second = tk_first_of(columns - TK_WIDTH);
#pragma GCC unroll 14
  for (int i = 0; i < height; i++) {
    float *row = c + i * c_down;
    if (i >= rows) break;
    if (accumulate) {
      sum[i][0] = _mm512_add_ps(sum[i][0], _mm512_maskz_loadu_ps(first, row));
      sum[i][1] = _mm512_add_ps(sum[i][1], _mm512_maskz_loadu_ps(second, row + TK_WIDTH));
    }
    _mm512_mask_storeu_ps(row, first, sum[i][0]);
    _mm512_mask_storeu_ps(row + TK_WIDTH, second, sum[i][1]);
  }
}

/* c = a b, or c += a b, on one core, without packing a: for constant strides of a.
   b is in panels of TK_COLUMNS columns, b_panel apart. Reads past the last row of a and the last
   column of b, and ignores those elements. */
static inline TK_WIDE __attribute__((always_inline)) void tk_gemm_panel(
    int64_t rows, int64_t depth, int64_t columns, const float *a, int64_t a_down,
    int64_t a_across, const float *b, int64_t b_down, int64_t b_panel, float *c, int accumulate) {
  for (int64_t j = 0; j < columns; j += TK_COLUMNS, b += b_panel)
    for (int64_t i = 0; i < rows; i += TK_ROWS)
      tk_tile(TK_ROWS, depth, a + i * a_down, a_down, a_across, b, b_down, c + i * columns + j,
              columns, rows - i, columns - j, accumulate);
}

/* Transposes up to 16 x 16 elements: exchanges halves, then quarters, ...
   Source: Eklundh, A Fast Computer Method for Matrix Transposing, 1972. */
static inline TK_WIDE __attribute__((always_inline)) void tk_transpose(
    int64_t lanes, int64_t depth, const float *restrict from, int64_t apart, float *restrict to,
    int64_t width) {
  __m512 row[TK_WIDTH];
  __m512i place = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  __mmask16 there = tk_first_of(depth), stored = tk_first_of(lanes);
#pragma GCC unroll 16
  for (int i = 0; i < TK_WIDTH; i++)
    row[i] = i < lanes ? _mm512_maskz_loadu_ps(there, from + i * apart) : _mm512_setzero_ps();
#pragma GCC unroll 16
  for (int i = 0; i < TK_WIDTH; i++)
    _mm_prefetch((const char *)(from + i * apart + TK_PREFETCH_DISTANCE), _MM_HINT_T0);
#pragma GCC unroll 4
  for (int s = 1; s < TK_WIDTH; s *= 2) {
    __m512i half = _mm512_set1_epi32(s), other = _mm512_set1_epi32(TK_WIDTH);
    __mmask16 odd = _mm512_test_epi32_mask(place, half);
    __m512i low = _mm512_mask_add_epi32(place, odd, _mm512_sub_epi32(place, half), other);
    __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(place, half), odd, place, other);
#pragma GCC unroll 16
    for (int i = 0; i < TK_WIDTH; i++)
      if (!(i & s)) {
        __m512 first = row[i], second = row[i + s];
        row[i] = _mm512_permutex2var_ps(first, low, second);
        row[i + s] = _mm512_permutex2var_ps(first, high, second);
      }
  }
#pragma GCC unroll 16
  for (int l = 0; l < TK_WIDTH; l++) {
    if (l >= depth) break;
    _mm512_mask_storeu_ps(to + l * width, stored, row[l]);
  }
}

/* Packs `lanes` rows of a or columns of b: elements of one depth become neighbours, with zeros up
   to `width` <= TK_COLUMNS. Strides: `apart` between lanes, `on` between depths. */
static TK_WIDE __attribute__((noinline)) void tk_copy(
    int64_t width, int64_t lanes, int64_t depth, const float *restrict from, int64_t apart,
    int64_t on, float *restrict to) {
  if (lanes < width) memset(to, 0, sizeof(float) * depth * width);
  if (apart == 1) {
    __mmask16 first = tk_first_of(lanes), second = tk_first_of(lanes - TK_WIDTH);
    for (int64_t k = 0; k < depth; k++, from += on, to += width) {
      _mm512_mask_storeu_ps(to, first, _mm512_maskz_loadu_ps(first, from));
      if (second)
        _mm512_mask_storeu_ps(to + TK_WIDTH, second,
                              _mm512_maskz_loadu_ps(second, from + TK_WIDTH));
    }
    return;
  }
  if (on == 1) {
    for (int64_t k = 0; k < depth; k += TK_WIDTH)
      for (int64_t i = 0; i < lanes; i += TK_WIDTH)
        tk_transpose(tk_min_i64(lanes - i, TK_WIDTH), tk_min_i64(depth - k, TK_WIDTH),
                from + i * apart + k, apart, to + k * width + i, width);
    return;
  }
  for (int64_t k = 0; k < depth; k += TK_LINE)
    for (int64_t i = 0; i < lanes; i++)
      for (int64_t l = k; l < tk_min_i64(depth, k + TK_LINE); l++)
        to[l * width + i] = from[i * apart + l * on];
}

static inline int64_t tk_tiles(int64_t rows) { return (rows + TK_ROWS - 1) / TK_ROWS; }

/* The first row of a tile. As many of the last tiles have TK_FEWER_ROWS as cover all rows. */
static inline int64_t tk_first_row(int64_t rows, int64_t tile) {
  int64_t tiles = tk_tiles(rows), less = TK_ROWS - TK_FEWER_ROWS;
  int64_t whole = tiles - tk_min_i64(tiles, (tiles * TK_ROWS - rows) / less);
  return tile * TK_ROWS - less * (tile - tk_min_i64(tile, whole));
}

typedef struct {
  int64_t rows, depth, columns; /* a is rows x depth, b is depth x columns */
  const float *a, *b;
  float *c, *copy;
  int64_t a_down, a_across, b_down, b_across;
  int64_t number; /* of this product: tells whether a thread's packed a belongs to it */
} tk_gemm_args;

static TK_WIDE void tk_copy_tile(const tk_gemm_args *f, int64_t tile, int64_t k, float *to) {
  int64_t i = tk_first_row(f->rows, tile), height = tk_first_row(f->rows, tile + 1) - i;
  tk_copy(height, tk_min_i64(f->rows - i, height), tk_min_i64(f->depth - k, TK_DEPTH),
          f->a + i * f->a_down + k * f->a_across, f->a_down, f->a_across, to);
}

static TK_WIDE void tk_copy_panel(const tk_gemm_args *f, int64_t j, int64_t k, int64_t depth,
                                  float *to) {
  tk_copy(TK_COLUMNS, tk_min_i64(f->columns - j, TK_COLUMNS), depth,
          f->b + j * f->b_across + k * f->b_down, f->b_across, f->b_down, to);
}

static TK_WIDE void tk_pack_b(void **memory, int64_t start, int64_t stop) {
  const tk_gemm_args *f = memory[0];
  for (int64_t j = start * TK_COLUMNS; j < stop * TK_COLUMNS; j += TK_COLUMNS)
    tk_copy_panel(f, j, 0, f->depth, f->copy + j * f->depth);
}

#ifndef TK_TILES_ONLY /* defined where threads and GEMM come from the shared library */

static TK_WIDE void tk_multiply_tile(const tk_gemm_args *f, int64_t tile, int64_t j, int64_t k,
                                     const float *a, const float *b) {
  int64_t i = tk_first_row(f->rows, tile), height = tk_first_row(f->rows, tile + 1) - i;
  int64_t depth = tk_min_i64(f->depth - k, TK_DEPTH);
  int64_t rows = f->rows - i, columns = f->columns - j;
  float *c = f->c + i * f->columns + j;
  if (height == TK_ROWS)
    tk_tile(TK_ROWS, depth, a, 1, TK_ROWS, b, TK_COLUMNS, c, f->columns, rows, columns, k > 0);
  else
    tk_tile(TK_FEWER_ROWS, depth, a, 1, TK_FEWER_ROWS, b, TK_COLUMNS, c, f->columns, rows, columns,
            k > 0);
}

static void *tk_new(int64_t elements) {
  void *memory = malloc(sizeof(float) * elements + 64);
  if (!memory) abort();
  return memory;
}

static float *tk_aligned(void *memory) {
  return (float *)((char *)memory + 64 - (uintptr_t)memory % 64);
}

/* Scratch memory of the calling thread: freed when the thread ends, replaced when more is needed.
   Holds one packed matrix of a product (a, or all of b), or the columns of a convolution. */
static float *tk_scratch(int64_t elements) {
  static __thread void *memory = 0;
  static __thread int64_t room = 0;
  if (elements > room) {
    free(memory);
    memory = tk_new(elements);
    room = elements;
    tk_free_at_end(memory);
  }
  return tk_aligned(memory);
}

/* GEMM for a small a. Each thread packs all of a and its own panels of b, so no packed element
   moves between cores. Rows of c are stored panel by panel, which does not pay at a small depth. */
static TK_WIDE void tk_gemm_panels(void **memory, int64_t start, int64_t stop) {
  static __thread int64_t copied = 0;
  const tk_gemm_args *f = memory[0];
  int64_t tiles = tk_tiles(f->rows), blocks = (f->depth + TK_DEPTH - 1) / TK_DEPTH;
  int64_t size = TK_ROWS * tk_min_i64(f->depth, TK_DEPTH);
  float *a = tk_scratch(blocks * tiles * size);
  float b[TK_COLUMNS * TK_DEPTH] __attribute__((aligned(64)));
  for (int64_t i = 0; copied != f->number && i < blocks * tiles; i++)
    tk_copy_tile(f, i % tiles, i / tiles * TK_DEPTH, a + i * size);
  copied = f->number;
  for (int64_t j = start * TK_COLUMNS; j < stop * TK_COLUMNS; j += TK_COLUMNS)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t k = block * TK_DEPTH;
      tk_copy_panel(f, j, k, tk_min_i64(f->depth - k, TK_DEPTH), b);
      for (int64_t tile = 0; tile < tiles; tile++)
        tk_multiply_tile(f, tile, j, k, a + (block * tiles + tile) * size, b);
    }
}

static TK_WIDE void tk_multiply_rows(void **memory, int64_t start, int64_t stop) {
  const tk_gemm_args *f = memory[0];
  float a[TK_TILES][TK_ROWS * TK_DEPTH] __attribute__((aligned(64)));
  for (int64_t tile = start; tile < stop; tile += TK_TILES) {
    int64_t tiles = tk_min_i64(stop - tile, TK_TILES);
    for (int64_t k = 0; k < f->depth; k += TK_DEPTH) {
      for (int64_t t = 0; t < tiles; t++) tk_copy_tile(f, tile + t, k, a[t]);
      for (int64_t j = 0; j < f->columns; j += TK_COLUMNS)
        for (int64_t t = 0; t < tiles; t++)
          tk_multiply_tile(f, tile + t, j, k, a[t], f->copy + j * f->depth + k * TK_COLUMNS);
    }
  }
}

/* c = a b. a and b have strides down and across; c is dense. */
static void tk_gemm(int64_t rows, int64_t depth, int64_t columns, const float *a,
                    int64_t a_down, int64_t a_across, const float *b, int64_t b_down,
                    int64_t b_across, float *c) {
  static atomic_llong products = 0;
  tk_gemm_args factors = {rows, depth, columns, a, b, c, 0, a_down, a_across, b_down, b_across,
                          atomic_fetch_add(&products, 1) + 1};
  void *given[] = {&factors};
  int64_t panels = (columns + TK_COLUMNS - 1) / TK_COLUMNS, tiles = tk_tiles(rows);
  if (rows <= columns && depth >= TK_DEEP && rows * depth <= TK_SMALL) {
    tk_parallel_for(tk_gemm_panels, given, panels, tk_min_i64(2, (panels + 3) / 4));
    return;
  }
  factors.copy = tk_scratch(panels * TK_COLUMNS * depth);
  tk_parallel_for(tk_pack_b, given, panels, 2);
  tk_parallel_for(tk_multiply_rows, given, tiles, tk_min_i64(TK_TILES, (tiles + 3) / 4));
}

#endif
