/* Convolutions of float32 for eager mode: sizes come at run time. Outputs have channels last. Sums
   do not depend on the number of cores. */

#define TK_MOST 2304             /* limit: features, outputs */
#define TK_DOWN (TK_MOST + 16)   /* row stride of `columns`: constant for `tk_gemm_panel`, padded
                                    because a tile reads past the last row */
#define TK_WINDOWS (8 * TK_ROWS) /* limit: windows in a block */
#define TK_BLOCK 65536           /* limit: elements of a block; they fit in the L2 cache */
#define TK_PIECES 16             /* limit: partial sums of the weight's gradient */
#define TK_SUMS 524288           /* limit: elements of all partial sums */

typedef struct {
  int64_t samples, channels, outputs;
  int64_t height, width;               /* of a sample of x */
  int64_t rows, columns;               /* of a filter */
  int64_t lines, places;               /* number of windows, down and across */
  int64_t down, across;                /* strides of the windows */
  int64_t above, before;               /* padding at the top and left */
  int64_t apart_down, apart_across;    /* dilation */
  int64_t x_sample, x_channel, x_row, x_column; /* strides of x */
} tk_sizes;

static int64_t tk_features(const tk_sizes *s) { return s->rows * s->columns * s->channels; }

/* Windows in a block: at least two tiles, because features are limited to TK_MOST. */
static int64_t tk_block(const tk_sizes *s) {
  return tk_min_i64(TK_BLOCK / tk_features(s) / TK_ROWS * TK_ROWS, TK_WINDOWS);
}

/* Scratch memory for the columns of a block and as many rows of outputs. */
static float *tk_columns(void) { return tk_scratch(2 * (TK_WINDOWS + TK_ROWS) * TK_DOWN); }

/* im2col, or col2im with `add`: copies `count` windows of a sample from x to `columns`, with zeros
   beyond the edge, or adds `columns` to x. `down` is the row stride of `columns`. */
static inline __attribute__((always_inline)) void tk_move_columns(
    const tk_sizes *s, float *x, int64_t first, int64_t count, float *columns, int64_t down,
    int add) {
  int64_t channels = s->channels, run = s->columns * channels;
  int dense = s->x_column == channels && (s->x_channel == 1 || channels == 1);
  for (int64_t w = first; w < first + count; w++, columns += down) {
    int64_t top = w / s->places * s->down - s->above;
    int64_t left = w % s->places * s->across - s->before;
    int64_t right = left + (s->columns - 1) * s->apart_across;
    int together = dense && s->apart_across == 1 && left >= 0 && right < s->width;
    float *to = columns;
    for (int64_t a = 0; a < s->rows; a++, to += run) {
      int64_t row = top + a * s->apart_down;
      if (row < 0 || row >= s->height) {
        if (!add) memset(to, 0, sizeof(float) * run);
        continue;
      }
      float *from = x + row * s->x_row;
      if (together) {
        from += left * channels;
        for (int64_t i = 0; i < run; i++) {
          if (add) from[i] += to[i];
          else to[i] = from[i];
        }
        continue;
      }
      for (int64_t b = 0; b < s->columns; b++) {
        int64_t column = left + b * s->apart_across;
        int outside = column < 0 || column >= s->width;
        for (int64_t c = 0; c < channels; c++) {
          if (outside && !add) to[b * channels + c] = 0;
          if (outside) continue;
          float *element = from + column * s->x_column + c * s->x_channel;
          if (add) *element += to[b * channels + c];
          else to[b * channels + c] = *element;
        }
      }
    }
  }
}

/* Copies the rows of a dense matrix to rows TK_DOWN apart. */
static void tk_copy_rows(const float *from, int64_t count, int64_t length, float *to) {
  for (int64_t i = 0; i < count; i++)
    memcpy(to + i * TK_DOWN, from + i * length, sizeof(float) * length);
}

/* Allocates memory and packs the filters into panels, aligned to a cache line. The adjoint uses the
   transposed filters. */
static void *tk_filter_panels(const tk_sizes *s, const float *weight, int adjoint) {
  int64_t features = tk_features(s), columns = adjoint ? features : s->outputs;
  int64_t depth = adjoint ? s->outputs : features, panels = (columns + TK_COLUMNS - 1) / TK_COLUMNS;
  void *memory = tk_new(panels * TK_COLUMNS * depth);
  tk_gemm_args factors = {.depth = depth, .columns = columns, .b = weight,
                          .copy = tk_aligned(memory), .b_down = adjoint ? features : 1,
                          .b_across = adjoint ? 1 : features};
  tk_pack_b((void *[]){&factors}, 0, panels);
  return memory;
}

static TK_WIDE void tk_convolve_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  float *x = memory[1], *panels = memory[2], *bias = memory[3], *y = memory[4];
  float *columns = tk_columns();
  int64_t features = tk_features(s), windows = s->lines * s->places, block = tk_block(s);
  for (int64_t n = start; n < stop; n++)
    for (int64_t first = 0; first < windows; first += block) {
      int64_t count = tk_min_i64(block, windows - first);
      float *products = y + (n * windows + first) * s->outputs;
      tk_move_columns(s, x + n * s->x_sample, first, count, columns, TK_DOWN, 0);
      tk_gemm_panel(count, features, s->outputs, columns, TK_DOWN, 1, panels, TK_COLUMNS,
                    TK_COLUMNS * features, products, 0);
      for (int64_t w = 0; bias && w < count; w++, products += s->outputs)
        for (int64_t o = 0; o < s->outputs; o++) products[o] += bias[o];
    }
}

EXPORT void convolve(const tk_sizes *s, const float *x, const float *weight, const float *bias,
                     float *y) {
  void *memory = tk_filter_panels(s, weight, 0);
  tk_parallel_for(tk_convolve_samples,
                  (void *[]){(void *)s, (void *)x, tk_aligned(memory), (void *)bias, y},
                  s->samples, 1);
  free(memory);
}

static TK_WIDE void tk_spread_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  float *g = memory[1], *panels = memory[2], *x = memory[3];
  float *columns = tk_columns(), *rows = columns + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  int64_t features = tk_features(s), windows = s->lines * s->places, block = tk_block(s);
  for (int64_t n = start; n < stop; n++) {
    memset(x + n * s->x_sample, 0, sizeof(float) * s->height * s->width * s->channels);
    for (int64_t first = 0; first < windows; first += block) {
      int64_t count = tk_min_i64(block, windows - first);
      tk_copy_rows(g + (n * windows + first) * s->outputs, count, s->outputs, rows);
      tk_gemm_panel(count, s->outputs, features, rows, TK_DOWN, 1, panels, TK_COLUMNS,
                    TK_COLUMNS * s->outputs, columns, 0);
      tk_move_columns(s, x + n * s->x_sample, first, count, columns, features, 1);
    }
  }
}

/* Writes x with channels last. */
EXPORT void convolve_transposed(const tk_sizes *s, const float *g, const float *weight, float *x) {
  void *memory = tk_filter_panels(s, weight, 1);
  tk_parallel_for(tk_spread_samples, (void *[]){(void *)s, (void *)g, tk_aligned(memory), x},
                  s->samples, 1);
  free(memory);
}

static int64_t tk_pieces(const tk_sizes *s) {
  int64_t few = TK_SUMS / (tk_features(s) * s->outputs);
  return tk_min_i64(s->samples, few < 4 ? 4 : tk_min_i64(few, TK_PIECES));
}

static TK_WIDE void tk_sum_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  float *x = memory[1], *g = memory[2], *sums = memory[3];
  float *columns = tk_columns(), *rows = columns + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  int64_t features = tk_features(s), windows = s->lines * s->places, block = tk_block(s);
  int64_t pieces = tk_pieces(s);
  for (int64_t piece = start; piece < stop; piece++) {
    float *sum = sums + piece * features * s->outputs;
    int accumulate = 0;
    for (int64_t n = piece * s->samples / pieces; n < (piece + 1) * s->samples / pieces; n++)
      for (int64_t first = 0; first < windows; first += block, accumulate = 1) {
        int64_t count = tk_min_i64(block, windows - first);
        tk_move_columns(s, x + n * s->x_sample, first, count, columns, TK_DOWN, 0);
        tk_copy_rows(g + (n * windows + first) * s->outputs, count, s->outputs, rows);
        tk_gemm_panel(features, count, s->outputs, columns, 1, TK_DOWN, rows, TK_DOWN, TK_COLUMNS,
                      sum, accumulate);
      }
  }
}

/* The gradient (features, outputs) of the weight. */
EXPORT void convolve_weight(const tk_sizes *s, const float *x, const float *g, float *weight) {
  int64_t size = tk_features(s) * s->outputs, pieces = tk_pieces(s);
  float *sums = tk_new(pieces * size);
  tk_parallel_for(tk_sum_samples, (void *[]){(void *)s, (void *)x, (void *)g, sums}, pieces, 1);
  memcpy(weight, sums, sizeof(float) * size);
  for (int64_t piece = 1; piece < pieces; piece++)
    for (int64_t i = 0; i < size; i++) weight[i] += sums[piece * size + i];
  free(sums);
}
