/* GEMM of float32 and float64 in the compilers' vector extensions (GCC, Clang, zig): one text for
   every processor. Macros choose the width of vectors and the shape of tiles.

   Blocks of both matrices are packed, so the innermost loop reads memory in order; an a that meets few
   columns is read where it lies. A tile of TK_ROWS x TK_VECTORS vectors of sums stays in registers
   for a whole block.
   Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* TK_BYTES: of a vector. TK_ROWS: of a tile; sums, a row of b and an element of a fill the registers.
   TK_FEWER_ROWS: of a smaller tile; both together cover large even numbers of rows.
   TK_LEAST_ROWS: of the smallest, for a few rows that are left over. */
#if defined TK_AVX512 /* 14 x 2 of 32 registers */
#define TK_TARGET "avx512f,avx2,fma"
#define TK_BYTES 64
#define TK_ROWS 14
#define TK_FEWER_ROWS 12
#define TK_LEAST_ROWS 4
#define TK_VECTORS 2
#elif defined TK_AVX2 /* 6 x 2 of 16 registers */
#define TK_TARGET "avx2,fma"
#define TK_BYTES 32
#define TK_ROWS 6
#define TK_FEWER_ROWS 4
#define TK_LEAST_ROWS 2
#define TK_VECTORS 2
#elif defined __aarch64__ /* 8 x 3 of 32 registers */
#define TK_BYTES 16
#define TK_ROWS 8
#define TK_FEWER_ROWS 6
#define TK_LEAST_ROWS 2
#define TK_VECTORS 3
#else
#define TK_BYTES 16
#define TK_ROWS 6
#define TK_FEWER_ROWS 4
#define TK_LEAST_ROWS 2
#define TK_VECTORS 2
#endif

/* Attributes of functions with tiles: vectors also without -march=native, and a * b + c is one
   instruction where there is one (programs are built with -ffp-contract=off). */
#if defined __clang__
#define TK_CONTRACT _Pragma("clang fp contract(fast)")
#define TK_FUSED
#else
#define TK_CONTRACT
#define TK_FUSED , optimize("fp-contract=fast")
#endif
#if defined TK_TARGET
#define TK_WIDE __attribute__((target(TK_TARGET) TK_FUSED))
#elif defined __clang__
#define TK_WIDE
#else
#define TK_WIDE __attribute__((optimize("fp-contract=fast")))
#endif

#define TK_WIDTH (TK_BYTES / 4)             /* of float32 */
#define TK_COLUMNS (TK_VECTORS * TK_WIDTH)  /* of a tile of float32 */
#define TK_BLOCK_BYTES 1536       /* of a row of a block: a panel of b is 48 KiB with AVX-512 */
#define TK_BLOCK_TILES (262144 / TK_BLOCK_BYTES / TK_ROWS) /* of a block of a, which fits in L2 */
#define TK_PREFETCH_DISTANCE 256  /* bytes: hardware does not prefetch 32 rows at once */
#define TK_FEW 256                /* limit: columns that meet an a in place, where b is packed */
#define TK_SMALL_COPY 65536       /* limit: bytes of a b that the calling thread packs alone */
#define TK_DEEP 64                /* threshold: depth that pays for storing c panel by panel */
#define TK_SMALL_BYTES 524288     /* limit: an a that fits in the L2 cache */
#define TK_NEAR 4096              /* limit: bytes of a row of an a that is not packed */
#define TK_ALONE 1048576          /* threshold: multiply-adds that are worth waking a helper */
#define TK_LARGE 4194304          /* threshold: multiply-adds of a product that cores share */
#define TK_LINE 64                /* elements of a row that are copied at a time */

static inline int64_t tk_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t tk_divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

static inline int64_t tk_tiles(int64_t rows) { return tk_divided(rows, TK_ROWS); }

/* Rows that `tk_gemm_panel` computes for `rows`. */
static inline int64_t tk_rows_in_tiles(int64_t rows) {
  int64_t rest = rows % TK_ROWS;
  return rows - rest + (rest > TK_LEAST_ROWS ? TK_ROWS : rest ? TK_LEAST_ROWS : 0);
}

/* The first row of a tile. As many of the last tiles have TK_FEWER_ROWS as cover all rows. */
static inline int64_t tk_first_row(int64_t rows, int64_t tile) {
  int64_t tiles = tk_tiles(rows), less = TK_ROWS - TK_FEWER_ROWS;
  int64_t whole = tiles - tk_min_i64(tiles, (tiles * TK_ROWS - rows) / less);
  return tile * TK_ROWS - less * (tile - tk_min_i64(tile, whole));
}

/* Products of a stack: `outer` x `inner` of rows x depth x columns. Strides of a and b: outer, inner,
   down, across. */
typedef struct {
  int64_t outer, inner, rows, depth, columns;
  int64_t a[4], b[4];
} tk_stack;

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define TK_SHUFFLE(places, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef TK_SHUFFLE
#define TK_SHUFFLE(places, a, b, ...) __builtin_shuffle(a, b, (places){__VA_ARGS__})
#endif

#ifndef TK_TILES_ONLY /* defined where threads and GEMM come from the shared library */

static void *tk_new(int64_t elements) {
  void *memory = malloc(sizeof(float) * elements + 64);
  if (!memory) abort();
  return memory;
}

static float *tk_aligned(void *memory) {
  return (float *)((char *)memory + 64 - (uintptr_t)memory % 64);
}

/* Scratch memory of the calling thread, in float32: freed when the thread ends, replaced when more
   is needed. Holds packed matrices of a product, or the columns of a convolution. */
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

static atomic_llong tk_products = 0; /* that were begun: their numbers */

#endif

#ifndef TK_F64_ONLY
#define TK_REAL float
#define TK_NAME(name) name
#define TK_TRANSPOSED(r, c)                                                                        \
  do {                                                                                             \
    TK_NAME(tk_four) even = TK_SHUFFLE(tk_places_f32, r[0], r[2], 0, 4, 1, 5);                     \
    TK_NAME(tk_four) more = TK_SHUFFLE(tk_places_f32, r[0], r[2], 2, 6, 3, 7);                     \
    TK_NAME(tk_four) odd = TK_SHUFFLE(tk_places_f32, r[1], r[3], 0, 4, 1, 5);                      \
    TK_NAME(tk_four) last = TK_SHUFFLE(tk_places_f32, r[1], r[3], 2, 6, 3, 7);                     \
    c[0] = TK_SHUFFLE(tk_places_f32, even, odd, 0, 4, 1, 5);                                       \
    c[1] = TK_SHUFFLE(tk_places_f32, even, odd, 2, 6, 3, 7);                                       \
    c[2] = TK_SHUFFLE(tk_places_f32, more, last, 0, 4, 1, 5);                                      \
    c[3] = TK_SHUFFLE(tk_places_f32, more, last, 2, 6, 3, 7);                                      \
  } while (0)
typedef int32_t tk_places_f32 __attribute__((vector_size(16)));
#include "tiles.h"
#undef TK_REAL
#undef TK_NAME
#undef TK_TRANSPOSED
#endif

#if defined TK_F64 || defined TK_F64_ONLY /* float64 too */
#define TK_REAL double
#define TK_NAME(name) name##_f64
#define TK_TRANSPOSED(r, c)                                                                        \
  do {                                                                                             \
    c[0] = TK_SHUFFLE(tk_places_f64, r[0], r[1], 0, 2);                                            \
    c[1] = TK_SHUFFLE(tk_places_f64, r[0], r[1], 1, 3);                                            \
  } while (0)
typedef int64_t tk_places_f64 __attribute__((vector_size(16)));
#include "tiles.h"
#undef TK_REAL
#undef TK_NAME
#undef TK_TRANSPOSED
#endif
