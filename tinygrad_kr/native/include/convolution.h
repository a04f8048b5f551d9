/* Convolutions of float32 for eager mode: sizes come at run time. Outputs have channels last. Sums
   do not depend on the number of cores. */

#define TK_MOST 2304             /* limit: features, outputs */
#define TK_DOWN (TK_MOST + 16)   /* row stride of `columns`: constant for `tk_gemm_panel`, padded
                                    because a tile reads past the last row */
#define TK_WINDOWS (8 * TK_ROWS) /* limit: windows in a block */
#define TK_BLOCK 65536           /* limit: elements of a block; they fit in the L2 cache */
#define TK_PIECES 16             /* limit: partial sums of the weight's gradient */
#define TK_SUMS 524288           /* limit: elements of all partial sums */

#define TK_PLANE 131072          /* limit: elements of a plane of more than one line of windows */

typedef struct {
  int64_t samples, channels, outputs;
  int64_t height, width;               /* of a sample of x */
  int64_t rows, columns;               /* of a filter */
  int64_t lines, places;               /* number of windows, down and across */
  int64_t down, across;                /* strides of the windows */
  int64_t above, before;               /* padding at the top and left */
  int64_t apart_down, apart_across;    /* dilation */
  int64_t x_sample, x_channel, x_row, x_column; /* strides of x */
  int64_t c_sample, c_channel, c_row, c_column; /* strides of the cotangent */
  int64_t groups;
} tk_sizes;

/* Channels and outputs of a group, elements of a filter. */
static int64_t tk_ins(const tk_sizes *s) { return s->channels / s->groups; }
static int64_t tk_outs(const tk_sizes *s) { return s->outputs / s->groups; }
static int64_t tk_features(const tk_sizes *s) { return s->rows * s->columns * tk_ins(s); }

/* Windows in a block: at least two tiles, because features are limited to TK_MOST. */
static int64_t tk_block(const tk_sizes *s) {
  return tk_min_i64(TK_BLOCK / tk_features(s) / TK_ROWS * TK_ROWS, TK_WINDOWS);
}

/* Rows of x that `lines` lines of windows reach, and columns that all windows of a line do. */
static int64_t tk_rows_of(const tk_sizes *s, int64_t lines) {
  return (lines - 1) * s->down + (s->rows - 1) * s->apart_down + 1;
}
static int64_t tk_plane_width(const tk_sizes *s) {
  return (s->places - 1) * s->across + (s->columns - 1) * s->apart_across + 1;
}

/* Lines of windows of a plane. */
static int64_t tk_band(const tk_sizes *s) {
  int64_t rows = TK_PLANE / (tk_plane_width(s) * tk_ins(s)) - tk_rows_of(s, 1);
  return rows < 0 ? 1 : tk_min_i64(s->lines, rows / s->down + 1);
}

static int64_t tk_plane_size(const tk_sizes *s) {
  return (tk_rows_of(s, tk_band(s)) * tk_plane_width(s) * tk_ins(s) + 63) / 16 * 16;
}

/* Scratch memory for the columns of a block, as many rows of outputs, and a plane. */
static float *tk_columns(const tk_sizes *s) {
  return tk_scratch(2 * (TK_WINDOWS + TK_ROWS) * TK_DOWN + tk_plane_size(s));
}

/* Some rows, from `first` of the padded ones on, of `lanes` channels of a sample: channels last,
   `width` for each column, with zeros around and between. `x`: the first channel. */
static TK_WIDE void tk_read_plane(const tk_sizes *s, const float *x, int64_t lanes, int64_t width,
                                  int64_t first, int64_t rows, float *plane) {
  int64_t across = tk_plane_width(s), skip = s->before < 0 ? -s->before : 0;
  int64_t start = tk_min_i64(s->before + skip, across);
  int64_t stop = tk_min_i64(across, s->width + s->before);
  int plain = s->x_channel == 1 && s->x_column == width && lanes == width;
  int single = s->x_column == 1 && width == 1;
  for (int64_t r = first - s->above; r < first - s->above + rows; r++, plane += across * width) {
    if (r < 0 || r >= s->height || stop <= start) {
      memset(plane, 0, sizeof(float) * across * width);
      continue;
    }
    const float *from = x + r * s->x_row + skip * s->x_column;
    float *to = plane + start * width;
    memset(plane, 0, sizeof(float) * start * width);
    if (plain || single) memcpy(to, from, sizeof(float) * (stop - start) * width);
    else tk_copy(width, lanes, stop - start, from, s->x_channel, s->x_column, to);
    memset(plane + stop * width, 0, sizeof(float) * (across - stop) * width);
  }
}

/* Copies `count` elements, and up to TK_WIDTH - 1 beyond. */
static inline TK_WIDE __attribute__((always_inline)) void tk_copy_run(const float *from,
                                                                      int64_t count, float *to) {
  if (count <= 4) {
    *(tk_near_four *)to = *(const tk_near_four *)from;
    return;
  }
  for (int64_t i = 0; i < count; i += TK_WIDTH)
    *(tk_loaded *)(to + i) = *(const tk_loaded *)(from + i);
}

/* im2col: copies `count` windows of a plane to rows TK_DOWN apart. What is copied beyond a row of a
   filter is overwritten by the next, or lies between the rows of `columns`. */
static TK_WIDE void tk_read_columns(const tk_sizes *s, const float *plane, int64_t first,
                                    int64_t count, float *columns) {
  int64_t ins = tk_ins(s), run = s->columns * ins, across = tk_plane_width(s) * ins;
  int64_t place = first % s->places, line = first / s->places;
  for (int64_t w = 0; w < count; w++, columns += TK_DOWN) {
    const float *from = plane + line * s->down * across + place * s->across * ins;
    float *to = columns;
    for (int64_t a = 0; a < s->rows; a++, from += s->apart_down * across, to += run) {
      if (s->apart_across == 1) tk_copy_run(from, run, to);
      else
        for (int64_t b = 0; b < s->columns; b++)
          tk_copy_run(from + b * s->apart_across * ins, ins, to + b * ins);
    }
    if (++place == s->places) place = 0, line++;
  }
}

/* col2im: adds `count` windows of one group, dense, to its channels of a sample of x, which is
   dense with channels last. */
static TK_WIDE void tk_add_columns(const tk_sizes *s, float *restrict x, int64_t first,
                                   int64_t count, const float *restrict columns) {
  int64_t ins = tk_ins(s), channels = s->channels, run = s->columns * ins;
  for (int64_t w = first; w < first + count; w++) {
    int64_t top = w / s->places * s->down - s->above;
    int64_t left = w % s->places * s->across - s->before;
    int64_t right = left + (s->columns - 1) * s->apart_across;
    int together = s->groups == 1 && s->apart_across == 1 && left >= 0 && right < s->width;
    for (int64_t a = 0; a < s->rows; a++, columns += run) {
      int64_t row = top + a * s->apart_down;
      if (row < 0 || row >= s->height) continue;
      float *to = x + (row * s->width + left) * channels;
      if (together) {
        for (int64_t i = 0; i < run; i++) to[i] += columns[i];
        continue;
      }
      for (int64_t b = 0; b < s->columns; b++) {
        int64_t column = left + b * s->apart_across;
        float *each = to + b * s->apart_across * channels;
        if (column < 0 || column >= s->width) continue;
        for (int64_t i = 0; i < ins; i++) each[i] += columns[b * ins + i];
      }
    }
  }
}

/* The cotangent of `count` windows of one group: rows TK_DOWN apart. `c`: its first output. */
static TK_WIDE void tk_read_rows(const tk_sizes *s, const float *c, int64_t first, int64_t count,
                                 float *rows) {
  int64_t outs = tk_outs(s);
  for (int64_t w = first; w < first + count; w++, rows += TK_DOWN) {
    const float *from = c + w / s->places * s->c_row + w % s->places * s->c_column;
    if (s->c_channel == 1) memcpy(rows, from, sizeof(float) * outs);
    else
      for (int64_t o = 0; o < outs; o++) rows[o] = from[o * s->c_channel];
  }
}

/* Allocates memory and packs the filters (outputs, features) of each group into panels, aligned to
   a cache line. The adjoint uses the transposed filters. */
static int64_t tk_panels_size(const tk_sizes *s, int adjoint) {
  int64_t columns = adjoint ? tk_features(s) : tk_outs(s);
  int64_t depth = adjoint ? tk_outs(s) : tk_features(s);
  return tk_divided(columns, TK_COLUMNS) * TK_COLUMNS * depth;
}

static void *tk_filter_panels(const tk_sizes *s, const float *weight, int adjoint) {
  int64_t features = tk_features(s), outs = tk_outs(s), size = tk_panels_size(s, adjoint);
  int64_t columns = adjoint ? features : outs, depth = adjoint ? outs : features;
  void *memory = tk_new(s->groups * size);
  for (int64_t group = 0; group < s->groups; group++) {
    tk_gemm_args factors = {.depth = depth, .columns = columns,
                            .b = weight + group * outs * features,
                            .copy = tk_aligned(memory) + group * size,
                            .b_down = adjoint ? features : 1, .b_across = adjoint ? 1 : features};
    tk_pack_b((void *[]){&factors}, 0, tk_divided(columns, TK_COLUMNS));
  }
  return memory;
}

static TK_WIDE void tk_convolve_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  float *x = memory[1], *panels = memory[2], *bias = memory[3], *y = memory[4];
  float *columns = tk_columns(s), *plane = columns + 2 * (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  int64_t features = tk_features(s), ins = tk_ins(s), outs = tk_outs(s), block = tk_block(s);
  int64_t band = tk_band(s);
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item / s->groups, group = item % s->groups;
    const float *from = x + n * s->x_sample + group * ins * s->x_channel;
    const float *filters = panels + group * tk_panels_size(s, 0);
    for (int64_t line = 0; line < s->lines; line += band) {
      int64_t lines = tk_min_i64(band, s->lines - line), windows = lines * s->places;
      tk_read_plane(s, from, ins, ins, line * s->down, tk_rows_of(s, lines), plane);
      for (int64_t first = 0; first < windows; first += block) {
        int64_t count = tk_min_i64(block, windows - first);
        int64_t at = (n * s->lines + line) * s->places + first;
        float *products = y + at * s->outputs + group * outs;
        tk_read_columns(s, plane, first, count, columns);
        tk_gemm_panel(count, features, outs, columns, TK_DOWN, 1, filters, TK_COLUMNS,
                      TK_COLUMNS * features, products, s->outputs, 0);
        for (int64_t w = 0; bias && w < count; w++, products += s->outputs)
          for (int64_t o = 0; o < outs; o++) products[o] += bias[group * outs + o];
      }
    }
  }
}

/* y: channels last. */
EXPORT void convolve(const tk_sizes *s, const float *x, const float *weight, const float *bias,
                     float *y) {
  void *memory = tk_filter_panels(s, weight, 0);
  tk_parallel_for(tk_convolve_samples,
                  (void *[]){(void *)s, (void *)x, tk_aligned(memory), (void *)bias, y},
                  s->samples * s->groups, 1);
  free(memory);
}

static TK_WIDE void tk_spread_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  float *c = memory[1], *panels = memory[2], *x = memory[3];
  float *columns = tk_columns(s), *rows = columns + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  int64_t features = tk_features(s), windows = s->lines * s->places, block = tk_block(s);
  int64_t ins = tk_ins(s), outs = tk_outs(s);
  for (int64_t n = start; n < stop; n++) {
    float *sample = x + n * s->height * s->width * s->channels;
    memset(sample, 0, sizeof(float) * s->height * s->width * s->channels);
    for (int64_t group = 0; group < s->groups; group++)
      for (int64_t first = 0; first < windows; first += block) {
        int64_t count = tk_min_i64(block, windows - first);
        tk_read_rows(s, c + n * s->c_sample + group * outs * s->c_channel, first, count, rows);
        tk_gemm_panel(count, outs, features, rows, TK_DOWN, 1,
                      panels + group * tk_panels_size(s, 1), TK_COLUMNS, TK_COLUMNS * outs,
                      columns, features, 0);
        tk_add_columns(s, sample + group * ins, first, count, columns);
      }
  }
}

/* x: channels last. */
EXPORT void convolve_transposed(const tk_sizes *s, const float *c, const float *weight, float *x) {
  void *memory = tk_filter_panels(s, weight, 1);
  tk_parallel_for(tk_spread_samples, (void *[]){(void *)s, (void *)c, tk_aligned(memory), x},
                  s->samples, 1);
  free(memory);
}

static int64_t tk_pieces(const tk_sizes *s) {
  int64_t few = TK_SUMS / (tk_features(s) * s->outputs);
  return tk_min_i64(s->samples, few < 4 ? 4 : tk_min_i64(few, TK_PIECES));
}

/* The sums of one group for a piece of the samples. */
static TK_WIDE void tk_sum_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  float *x = memory[1], *c = memory[2], *sums = memory[3];
  float *columns = tk_columns(s), *rows = columns + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  float *plane = rows + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  int64_t features = tk_features(s), ins = tk_ins(s), outs = tk_outs(s), block = tk_block(s);
  int64_t pieces = tk_pieces(s), band = tk_band(s);
  for (int64_t item = start; item < stop; item++) {
    int64_t piece = item / s->groups, group = item % s->groups;
    float *sum = sums + item * features * outs;
    int accumulate = 0;
    for (int64_t n = piece * s->samples / pieces; n < (piece + 1) * s->samples / pieces; n++) {
      const float *from = x + n * s->x_sample + group * ins * s->x_channel;
      const float *cotangent = c + n * s->c_sample + group * outs * s->c_channel;
      for (int64_t line = 0; line < s->lines; line += band) {
        int64_t lines = tk_min_i64(band, s->lines - line), windows = lines * s->places;
        tk_read_plane(s, from, ins, ins, line * s->down, tk_rows_of(s, lines), plane);
        for (int64_t first = 0; first < windows; first += block, accumulate = 1) {
          int64_t count = tk_min_i64(block, windows - first);
          tk_read_columns(s, plane, first, count, columns);
          tk_read_rows(s, cotangent, line * s->places + first, count, rows);
          tk_gemm_panel(features, count, outs, columns, 1, TK_DOWN, rows, TK_DOWN, TK_COLUMNS, sum,
                        outs, accumulate);
        }
      }
    }
  }
}

/* The gradient (groups, features, outputs of a group) of the weight. */
EXPORT void convolve_weight(const tk_sizes *s, const float *x, const float *c, float *weight) {
  int64_t size = tk_features(s) * s->outputs, pieces = tk_pieces(s);
  float *sums = tk_new(pieces * size);
  tk_parallel_for(tk_sum_samples, (void *[]){(void *)s, (void *)x, (void *)c, sums},
                  pieces * s->groups, 1);
  memcpy(weight, sums, sizeof(float) * size);
  for (int64_t piece = 1; piece < pieces; piece++)
    for (int64_t i = 0; i < size; i++) weight[i] += sums[piece * size + i];
  free(sums);
}
