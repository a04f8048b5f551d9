/* The text of gemm.h for one type, TK_REAL. TK_NAME(name) is a name of that type.
   TK_TRANSPOSED(r, c) transposes 16 / sizeof(TK_REAL) vectors of 16 bytes. */

typedef TK_REAL TK_NAME(tk_vector) __attribute__((vector_size(TK_BYTES)));
typedef TK_REAL TK_NAME(tk_loaded)
    __attribute__((vector_size(TK_BYTES), aligned(sizeof(TK_REAL)), may_alias));
typedef TK_REAL TK_NAME(tk_four) __attribute__((vector_size(16)));
typedef TK_REAL TK_NAME(tk_near_four)
    __attribute__((vector_size(16), aligned(sizeof(TK_REAL)), may_alias));

#define LANES (TK_BYTES / (int)sizeof(TK_REAL))
#define COLUMNS (TK_VECTORS * LANES)
#define DEPTH (TK_BLOCK_BYTES / (int)sizeof(TK_REAL))
#define FOUR (16 / (int)sizeof(TK_REAL))
#define A_BLOCK (TK_BLOCK_TILES * TK_ROWS * DEPTH) /* elements of a block of a */
#define PREFETCH (TK_PREFETCH_DISTANCE / (int)sizeof(TK_REAL))

/* Stores the first rows and columns of a tile, whose rows are `width` apart in `kept`. */
static __attribute__((noinline)) void TK_NAME(tk_store_part)(
    const TK_REAL *restrict kept, int64_t width, TK_REAL *restrict c, int64_t c_down, int64_t rows,
    int64_t columns, int accumulate) {
  for (int64_t i = 0; i < rows; i++, kept += width, c += c_down) {
    int64_t j = 0;
    for (; j + FOUR <= columns; j += FOUR) {
      TK_NAME(tk_near_four) *to = (TK_NAME(tk_near_four) *)(c + j);
      TK_NAME(tk_four) value = *(const TK_NAME(tk_near_four) *)(kept + j);
      if (accumulate) value += *to;
      *to = value;
    }
    for (; j < columns; j++) c[j] = accumulate ? c[j] + kept[j] : kept[j];
  }
}

/* c = a b, or c += a b, for one tile of `height` x `vectors` (constants) vectors.
   Only the first `rows` x `columns` are stored; inputs of the others may hold any value.
   Strides: a_down and a_across of a, b_down of the rows of b, c_down of the rows of c. */
static inline TK_WIDE __attribute__((always_inline)) void TK_NAME(tk_tile)(
    int height, int vectors, int64_t depth, const TK_REAL *restrict a, int64_t a_down,
    int64_t a_across, const TK_REAL *restrict b, int64_t b_down, TK_REAL *restrict c,
    int64_t c_down, int64_t rows, int64_t columns, int accumulate) {
  TK_CONTRACT
  TK_NAME(tk_vector) sum[TK_ROWS][TK_VECTORS];
#pragma GCC unroll 14
  for (int i = 0; i < height; i++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[i][v] = (TK_NAME(tk_vector)){0};
  for (int64_t k = 0; k < depth; k++, a += a_across, b += b_down) {
    TK_NAME(tk_vector) right[TK_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) right[v] = *(const TK_NAME(tk_loaded) *)(b + v * LANES);
#pragma GCC unroll 14
    for (int i = 0; i < height; i++) {
      TK_NAME(tk_vector) element = a[i * a_down] - (TK_NAME(tk_vector)){0};
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[i][v] = element * right[v] + sum[i][v];
    }
  }
  if (columns >= vectors * LANES) {
#pragma GCC unroll 14
    for (int i = 0; i < height; i++) {
      if (i >= rows) break;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        TK_NAME(tk_loaded) *to = (TK_NAME(tk_loaded) *)(c + i * c_down + v * LANES);
        if (accumulate) sum[i][v] += *to;
        *to = sum[i][v];
      }
    }
    return;
  }
  TK_REAL kept[TK_ROWS * COLUMNS] __attribute__((aligned(TK_BYTES)));
#pragma GCC unroll 14
  for (int i = 0; i < height; i++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      *(TK_NAME(tk_loaded) *)(kept + (i * vectors + v) * LANES) = sum[i][v];
  TK_NAME(tk_store_part)(kept, vectors * LANES, c, c_down, tk_min_i64(rows, height), columns,
                         accumulate);
}

/* c = a b, or c += a b, on one core, without packing a: for constant strides of a.
   b is in panels of COLUMNS columns, b_panel apart. Reads past the last row of a and the last
   column of b, and ignores those elements. */
static inline TK_WIDE __attribute__((always_inline)) void TK_NAME(tk_gemm_panel)(
    int64_t rows, int64_t depth, int64_t columns, const TK_REAL *a, int64_t a_down,
    int64_t a_across, const TK_REAL *b, int64_t b_down, int64_t b_panel, TK_REAL *c,
    int64_t c_down, int accumulate) {
  for (int64_t j = 0; j < columns; j += COLUMNS, b += b_panel) {
    int64_t left = columns - j;
    for (int64_t i = 0, height; i < rows; i += height) {
      const TK_REAL *first = a + i * a_down;
      TK_REAL *to = c + i * c_down + j;
      height = rows - i > TK_LEAST_ROWS ? TK_ROWS : TK_LEAST_ROWS;
#define TK_USE(height, vectors)                                                                    \
  TK_NAME(tk_tile)(height, vectors, depth, first, a_down, a_across, b, b_down, to, c_down,         \
                   rows - i, left, accumulate)
      if (height == TK_ROWS && left > LANES) TK_USE(TK_ROWS, TK_VECTORS);
      else if (height == TK_ROWS) TK_USE(TK_ROWS, 1);
      else if (left > LANES) TK_USE(TK_LEAST_ROWS, TK_VECTORS);
      else TK_USE(TK_LEAST_ROWS, 1);
#undef TK_USE
    }
  }
}

/* Transposes FOUR x FOUR elements. */
static inline TK_WIDE __attribute__((always_inline)) void TK_NAME(tk_transpose)(
    const TK_REAL *from, int64_t apart, TK_REAL *to, int64_t width) {
  TK_NAME(tk_four) row[FOUR], column[FOUR];
#pragma GCC unroll 4
  for (int i = 0; i < FOUR; i++) row[i] = *(const TK_NAME(tk_near_four) *)(from + i * apart);
  TK_TRANSPOSED(row, column);
#pragma GCC unroll 4
  for (int i = 0; i < FOUR; i++) *(TK_NAME(tk_near_four) *)(to + i * width) = column[i];
}

/* Copies `lanes` rows of a or columns of b: elements of one depth become neighbours, and depths
   `width` apart. Strides: `apart` between lanes, `on` between depths. */
static TK_WIDE __attribute__((noinline)) void TK_NAME(tk_copy_lanes)(
    int64_t width, int64_t lanes, int64_t depth, const TK_REAL *restrict from, int64_t apart,
    int64_t on, TK_REAL *restrict to) {
  if (apart == 1 && lanes == COLUMNS) {
    for (int64_t k = 0; k < depth; k++, from += on, to += width)
#pragma GCC unroll 4
      for (int v = 0; v < TK_VECTORS; v++)
        *(TK_NAME(tk_loaded) *)(to + v * LANES) = *(const TK_NAME(tk_loaded) *)(from + v * LANES);
    return;
  }
  if (apart == 1 && lanes >= FOUR) {
    for (int64_t k = 0; k < depth; k++, from += on, to += width)
      for (int64_t i = 0; i < lanes; i += FOUR) {
        int64_t at = tk_min_i64(i, lanes - FOUR);
        *(TK_NAME(tk_near_four) *)(to + at) = *(const TK_NAME(tk_near_four) *)(from + at);
      }
    return;
  }
  int64_t done = 0;
  if (on == 1 && lanes >= FOUR && depth >= FOUR) {
    for (; done < depth; done += FOUR) { /* the last may overlap */
      int64_t k = tk_min_i64(done, depth - FOUR);
      for (int64_t i = 0; i < lanes; i += FOUR) {
        int64_t at = tk_min_i64(i, lanes - FOUR);
        TK_NAME(tk_transpose)(from + at * apart + k, apart, to + k * width + at, width);
      }
      if (done % (64 / (int)sizeof(TK_REAL)) == 0)
        for (int64_t i = 0; i < lanes; i++)
          __builtin_prefetch(from + i * apart + done + PREFETCH);
    }
  }
  for (int64_t k = done; k < depth; k += TK_LINE)
    for (int64_t i = 0; i < lanes; i++)
      for (int64_t l = k; l < tk_min_i64(depth, k + TK_LINE); l++)
        to[l * width + i] = from[i * apart + l * on];
}

/* The same with zeros up to `width` <= COLUMNS. */
static TK_WIDE void TK_NAME(tk_copy)(int64_t width, int64_t lanes, int64_t depth,
                                     const TK_REAL *restrict from, int64_t apart, int64_t on,
                                     TK_REAL *restrict to) {
  if (lanes < width) memset(to, 0, sizeof(TK_REAL) * depth * width);
  TK_NAME(tk_copy_lanes)(width, lanes, depth, from, apart, on, to);
}

typedef struct {
  int64_t rows, depth, columns; /* a is rows x depth, b is depth x columns */
  const TK_REAL *a, *b;
  TK_REAL *c, *copy;
  int64_t a_down, a_across, b_down, b_across;
  int64_t pieces;  /* of all tiles, which threads share */
  int64_t number;  /* of this product: tells whether a thread's packed a belongs to it */
  TK_REAL *blocks; /* of a, one for each thread */
} TK_NAME(tk_gemm_args);

static TK_WIDE void TK_NAME(tk_copy_panel)(const TK_NAME(tk_gemm_args) *f, int64_t j, int64_t k,
                                           int64_t depth, TK_REAL *to) {
  TK_NAME(tk_copy)(COLUMNS, tk_min_i64(f->columns - j, COLUMNS), depth,
                   f->b + j * f->b_across + k * f->b_down, f->b_across, f->b_down, to);
}

static TK_WIDE void TK_NAME(tk_pack_b)(void **memory, int64_t start, int64_t stop) {
  const TK_NAME(tk_gemm_args) *f = memory[0];
  for (int64_t j = start * COLUMNS; j < stop * COLUMNS; j += COLUMNS)
    TK_NAME(tk_copy_panel)(f, j, 0, f->depth, f->copy + j * f->depth);
}

#ifndef TK_TILES_ONLY

static TK_WIDE void TK_NAME(tk_copy_tile)(const TK_NAME(tk_gemm_args) *f, int64_t tile, int64_t k,
                                          TK_REAL *to) {
  int64_t i = tk_first_row(f->rows, tile), height = tk_first_row(f->rows, tile + 1) - i;
  TK_NAME(tk_copy)(height, tk_min_i64(f->rows - i, height), tk_min_i64(f->depth - k, DEPTH),
                   f->a + i * f->a_down + k * f->a_across, f->a_down, f->a_across, to);
}

/* One tile, of whichever of both heights, and of half the columns where these are enough. */
static inline TK_WIDE __attribute__((always_inline)) void TK_NAME(tk_some_tile)(
    int64_t height, int64_t depth, const TK_REAL *a, int64_t a_down, int64_t a_across,
    const TK_REAL *b, int64_t b_down, TK_REAL *c, int64_t c_down, int64_t rows, int64_t columns,
    int accumulate) {
#define TK_USE(height, vectors)                                                                    \
  TK_NAME(tk_tile)(height, vectors, depth, a, a_down, a_across, b, b_down, c, c_down, rows,        \
                   columns, accumulate)
  if (height == TK_ROWS && columns > LANES) TK_USE(TK_ROWS, TK_VECTORS);
  else if (height == TK_ROWS) TK_USE(TK_ROWS, 1);
  else if (columns > LANES) TK_USE(TK_FEWER_ROWS, TK_VECTORS);
  else TK_USE(TK_FEWER_ROWS, 1);
#undef TK_USE
}

/* A tile whose elements of a column of a are neighbours: of a packed a, or of a transposed one. */
static TK_WIDE __attribute__((noinline)) void TK_NAME(tk_packed_tile)(
    int64_t height, int64_t depth, const TK_REAL *a, int64_t a_across, const TK_REAL *b,
    int64_t b_down, TK_REAL *c, int64_t c_down, int64_t rows, int64_t columns, int accumulate) {
  TK_NAME(tk_some_tile)(height, depth, a, 1, a_across, b, b_down, c, c_down, rows, columns,
                        accumulate);
}

/* A tile whose elements of a row of a are neighbours. */
static TK_WIDE __attribute__((noinline)) void TK_NAME(tk_plain_tile)(
    int64_t height, int64_t depth, const TK_REAL *a, int64_t a_down, const TK_REAL *b,
    int64_t b_down, TK_REAL *c, int64_t c_down, int64_t rows, int64_t columns, int accumulate) {
  TK_NAME(tk_some_tile)(height, depth, a, a_down, 1, b, b_down, c, c_down, rows, columns,
                        accumulate);
}

static TK_REAL *TK_NAME(tk_room)(int64_t elements) {
  return (TK_REAL *)tk_scratch(elements * (int64_t)(sizeof(TK_REAL) / sizeof(float)));
}

/* Whether tiles may read a where it lies: elements of its rows or of its columns are neighbours. */
static inline int TK_NAME(tk_is_in_place)(const TK_NAME(tk_gemm_args) *f) {
  int near = f->a_down > 0 && f->a_down * (int64_t)sizeof(TK_REAL) < TK_NEAR;
  return f->a_down == 1 || (near && f->a_across == 1);
}

/* The products of some tiles with a panel of b, at column j and depth k. packed: the tiles, `apart`
   from each other, or 0 where they lie in place and only `edge`, the last of all, is packed. */
static inline TK_WIDE __attribute__((always_inline)) void TK_NAME(tk_multiply_panel)(
    const TK_NAME(tk_gemm_args) *f, int64_t first, int64_t last, int64_t j, int64_t k,
    const TK_REAL *b, int64_t b_down, const TK_REAL *packed, int64_t apart, const TK_REAL *edge) {
  int64_t depth = tk_min_i64(f->depth - k, DEPTH);
  for (int64_t t = first; t < last; t++) {
    int64_t i = tk_first_row(f->rows, t), height = tk_first_row(f->rows, t + 1) - i;
    int64_t rows = f->rows - i, columns = f->columns - j;
    const TK_REAL *a = f->a + i * f->a_down + k * f->a_across;
    TK_REAL *c = f->c + i * f->columns + j;
    if (!packed && rows >= height && f->a_down != 1) {
      TK_NAME(tk_plain_tile)(height, depth, a, f->a_down, b, b_down, c, f->columns, rows, columns,
                             k > 0);
      continue;
    }
    int64_t across = f->a_across;
    if (packed || rows < height) {
      a = packed ? packed + (t - first) * apart : edge;
      across = height;
    }
    TK_NAME(tk_packed_tile)(height, depth, a, across, b, b_down, c, f->columns, rows, columns,
                            k > 0);
  }
}

/* GEMM for a small a. Each thread has its own panels of b, and packs all of a unless it is in place,
   so no packed element moves between cores. Rows of c are stored panel by panel, which does not pay
   at a small depth. */
static TK_WIDE void TK_NAME(tk_gemm_panels)(void **memory, int64_t start, int64_t stop) {
  static __thread int64_t copied = 0;
  const TK_NAME(tk_gemm_args) *f = memory[0];
  int64_t tiles = tk_tiles(f->rows), blocks = (f->depth + DEPTH - 1) / DEPTH;
  int64_t size = TK_ROWS * tk_min_i64(f->depth, DEPTH);
  int in_place = f->columns <= TK_FEW && TK_NAME(tk_is_in_place)(f);
  TK_REAL *a = TK_NAME(tk_room)((in_place ? 1 : tiles) * blocks * size);
  TK_REAL b[COLUMNS * DEPTH] __attribute__((aligned(64)));
  for (int64_t block = 0; copied != f->number && block < blocks; block++)
    for (int64_t i = in_place ? tiles - 1 : 0; i < tiles; i++)
      TK_NAME(tk_copy_tile)(f, i, block * DEPTH, a + (in_place ? block : block * tiles + i) * size);
  copied = f->number;
  for (int64_t j = start * COLUMNS; j < stop * COLUMNS; j += COLUMNS)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t k = block * DEPTH;
      TK_NAME(tk_copy_panel)(f, j, k, tk_min_i64(f->depth - k, DEPTH), b);
      TK_NAME(tk_multiply_panel)(f, 0, tiles, j, k, b, COLUMNS,
                                 in_place ? 0 : a + block * tiles * size, size, a + block * size);
    }
}

/* GEMM of some rows of tiles on one core. A block of a stays in L2 and a panel of b in L1. Matrices
   that lie in place are not packed, but for the edges of tiles, and an a that meets many columns.
   block: memory for TK_BLOCK_TILES tiles of a. */
static TK_WIDE void TK_NAME(tk_gemm_rows)(const TK_NAME(tk_gemm_args) *f, int64_t start,
                                          int64_t stop, TK_REAL *block) {
  TK_REAL panel[COLUMNS * DEPTH] __attribute__((aligned(64)));
  TK_REAL edge[TK_ROWS * DEPTH] __attribute__((aligned(64)));
  int64_t tiles = tk_tiles(f->rows);
  int in_place = TK_NAME(tk_is_in_place)(f) && (!f->copy || f->columns <= TK_FEW);
  for (int64_t first = start; first < stop; first += TK_BLOCK_TILES) {
    int64_t last = tk_min_i64(first + TK_BLOCK_TILES, stop);
    for (int64_t k = 0; k < f->depth; k += DEPTH) {
      int64_t depth = tk_min_i64(f->depth - k, DEPTH);
      if (in_place && last == tiles) TK_NAME(tk_copy_tile)(f, tiles - 1, k, edge);
      for (int64_t t = first; !in_place && t < last; t++)
        TK_NAME(tk_copy_tile)(f, t, k, block + (t - first) * TK_ROWS * DEPTH);
      for (int64_t j = 0; j < f->columns; j += COLUMNS) {
        const TK_REAL *b = f->b + j * f->b_across + k * f->b_down;
        int64_t left = f->columns - j, b_down = f->copy ? COLUMNS : f->b_down;
        if (f->copy) {
          b = f->copy + j * f->depth + k * COLUMNS;
        } else if (f->b_across != 1 || (left < COLUMNS && left != LANES)) {
          TK_NAME(tk_copy_panel)(f, j, k, depth, panel);
          b = panel;
          b_down = COLUMNS;
        }
        TK_NAME(tk_multiply_panel)(f, first, last, j, k, b, b_down, in_place ? 0 : block,
                                   TK_ROWS * DEPTH, edge);
      }
    }
  }
}

/* The same of some of `f->pieces` equal parts. */
static TK_WIDE void TK_NAME(tk_multiply_pieces)(void **memory, int64_t start, int64_t stop) {
  const TK_NAME(tk_gemm_args) *f = memory[0];
  int64_t tiles = tk_tiles(f->rows);
  TK_NAME(tk_gemm_rows)(f, tiles * start / f->pieces, tiles * stop / f->pieces,
                        f->blocks + tk_self * A_BLOCK);
}

/* c = a b. a and b have strides down and across; c is dense. */
static void TK_NAME(tk_gemm)(int64_t rows, int64_t depth, int64_t columns, const TK_REAL *a,
                             int64_t a_down, int64_t a_across, const TK_REAL *b, int64_t b_down,
                             int64_t b_across, TK_REAL *c) {
  TK_NAME(tk_gemm_args) factors = {
      .rows = rows, .depth = depth, .columns = columns, .a = a, .b = b, .c = c,
      .a_down = a_down, .a_across = a_across, .b_down = b_down, .b_across = b_across,
      .number = atomic_fetch_add(&tk_products, 1) + 1};
  if (rows * depth * columns < TK_ALONE) {
    TK_NAME(tk_gemm_rows)(&factors, 0, tk_tiles(rows), TK_NAME(tk_room)(A_BLOCK));
    return;
  }
  void *given[] = {&factors};
  int64_t panels = (columns + COLUMNS - 1) / COLUMNS;
  if (rows <= columns && depth >= TK_DEEP &&
      rows * depth * (int64_t)sizeof(TK_REAL) <= TK_SMALL_BYTES) {
    tk_parallel_for(TK_NAME(tk_gemm_panels), given, panels, tk_min_i64(2, (panels + 3) / 4));
    return;
  }
  int64_t packed = (panels * COLUMNS * depth + 15) / 16 * 16;
  factors.copy = TK_NAME(tk_room)(packed + (TK_HELPERS + 1) * A_BLOCK);
  factors.blocks = factors.copy + packed;
  if (packed * (int64_t)sizeof(TK_REAL) <= TK_SMALL_COPY)
    TK_NAME(tk_pack_b)(given, 0, panels);
  else
    tk_parallel_for(TK_NAME(tk_pack_b), given, panels, 2);
  int64_t each = tk_divided(tk_tiles(rows), TK_HELPERS + 1);
  factors.pieces = tk_divided(each, TK_BLOCK_TILES) * (TK_HELPERS + 1);
  tk_parallel_for(TK_NAME(tk_multiply_pieces), given, factors.pieces, 1);
}

/* ------------------------------------------------------------------ stacks of products */

static TK_WIDE void TK_NAME(tk_multiply_stack)(void **memory, int64_t start, int64_t stop) {
  const tk_stack *s = memory[0];
  const TK_REAL *a = memory[1], *b = memory[2];
  TK_REAL *c = memory[3], *block = (TK_REAL *)memory[4] + tk_self * A_BLOCK;
  for (int64_t n = start; n < stop; n++) {
    int64_t outer = n / s->inner, inner = n % s->inner;
    TK_NAME(tk_gemm_args) f = {
        .rows = s->rows, .depth = s->depth, .columns = s->columns,
        .a = a + outer * s->a[0] + inner * s->a[1], .b = b + outer * s->b[0] + inner * s->b[1],
        .c = c + n * s->rows * s->columns, .a_down = s->a[2], .a_across = s->a[3],
        .b_down = s->b[2], .b_across = s->b[3]};
    TK_NAME(tk_gemm_rows)(&f, 0, tk_tiles(s->rows), block);
  }
}

/* c = a b for every product of a stack. c is dense. */
static void TK_NAME(tk_gemm_stack)(const tk_stack *s, const TK_REAL *a, const TK_REAL *b,
                                   TK_REAL *c) {
  int64_t products = s->outer * s->inner, each = s->rows * s->depth * s->columns;
  if (each >= TK_LARGE || (products <= TK_HELPERS && each >= TK_ALONE)) {
    for (int64_t n = 0; n < products; n++) {
      int64_t outer = n / s->inner, inner = n % s->inner;
      TK_NAME(tk_gemm)(s->rows, s->depth, s->columns, a + outer * s->a[0] + inner * s->a[1],
                       s->a[2], s->a[3], b + outer * s->b[0] + inner * s->b[1], s->b[2], s->b[3],
                       c + n * s->rows * s->columns);
    }
    return;
  }
  TK_REAL *blocks = TK_NAME(tk_room)((TK_HELPERS + 1) * A_BLOCK);
  void *given[] = {(void *)s, (void *)a, (void *)b, c, blocks};
  if (products * each < TK_ALONE) {
    TK_NAME(tk_multiply_stack)(given, 0, products);
    return;
  }
  int64_t step = 1 + products / (8 * (TK_HELPERS + 1));
  tk_parallel_for(TK_NAME(tk_multiply_stack), given, products, step);
}

#endif

#undef LANES
#undef COLUMNS
#undef DEPTH
#undef FOUR
#undef PREFETCH
#undef A_BLOCK
