/* Convolutions for eager mode: sizes come at run time. Outputs have channels last. Sums do not
   depend on the number of cores. TK_REAL is float or double; TK_NAME(name) is the name of gemm.h for
   that type. */

#define TK_LANES (TK_BYTES / (int)sizeof(TK_REAL)) /* elements of a vector */
#define TK_PANEL (TK_VECTORS * TK_LANES)           /* columns of a tile */

#define TK_MOST 2304             /* limit: features, outputs */
#define TK_DOWN (TK_MOST + 16)   /* row stride of `columns`: constant for `TK_NAME(tk_gemm_panel)`, padded
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

/* Samples whose windows are in one block. */
static int64_t tk_together(const tk_sizes *s) {
  int64_t most = tk_block(s) / (s->lines * s->places);
  return most < 1 ? 1 : tk_min_i64(most, s->samples);
}

/* Scratch memory for the columns of a block, as many rows of outputs, and a plane. */
static TK_REAL *tk_columns(const tk_sizes *s) {
  return TK_NAME(tk_room)(2 * (TK_WINDOWS + TK_ROWS) * TK_DOWN + tk_plane_size(s));
}

static TK_REAL *tk_new_reals(int64_t elements) {
  return tk_new(elements * (int64_t)(sizeof(TK_REAL) / sizeof(float)));
}

static TK_REAL *tk_aligned_reals(void *memory) { return (TK_REAL *)tk_aligned(memory); }

/* Some rows, from `first` of the padded ones on, of `lanes` channels of a sample: channels last,
   `width` for each column, with zeros around and between. `x`: the first channel. */
static TK_WIDE void tk_read_plane(const tk_sizes *s, const TK_REAL *x, int64_t lanes, int64_t width,
                                  int64_t first, int64_t rows, TK_REAL *plane) {
  int64_t across = tk_plane_width(s), skip = s->before < 0 ? -s->before : 0;
  int64_t start = tk_min_i64(s->before + skip, across);
  int64_t stop = tk_min_i64(across, s->width + s->before);
  int plain = s->x_channel == 1 && s->x_column == width && lanes == width;
  int single = s->x_column == 1 && width == 1;
  for (int64_t r = first - s->above; r < first - s->above + rows; r++, plane += across * width) {
    if (r < 0 || r >= s->height || stop <= start) {
      memset(plane, 0, sizeof(TK_REAL) * across * width);
      continue;
    }
    const TK_REAL *from = x + r * s->x_row + skip * s->x_column;
    TK_REAL *to = plane + start * width;
    memset(plane, 0, sizeof(TK_REAL) * start * width);
    if (plain || single) memcpy(to, from, sizeof(TK_REAL) * (stop - start) * width);
    else TK_NAME(tk_copy)(width, lanes, stop - start, from, s->x_channel, s->x_column, to);
    memset(plane + stop * width, 0, sizeof(TK_REAL) * (across - stop) * width);
  }
}

/* Copies `count` elements, and up to TK_LANES - 1 beyond. */
static inline TK_WIDE __attribute__((always_inline)) void tk_copy_run(const TK_REAL *from,
                                                                      int64_t count, TK_REAL *to) {
  if (count <= 16 / (int)sizeof(TK_REAL)) {
    *(TK_NAME(tk_near_four) *)to = *(const TK_NAME(tk_near_four) *)from;
    return;
  }
  for (int64_t i = 0; i < count; i += TK_LANES)
    *(TK_NAME(tk_loaded) *)(to + i) = *(const TK_NAME(tk_loaded) *)(from + i);
}

/* im2col: copies `count` windows of a plane to rows TK_DOWN apart. What is copied beyond a row of a
   filter is overwritten by the next, or lies between the rows of `columns`. */
static TK_WIDE void tk_read_columns(const tk_sizes *s, const TK_REAL *plane, int64_t first,
                                    int64_t count, TK_REAL *columns) {
  int64_t ins = tk_ins(s), run = s->columns * ins, across = tk_plane_width(s) * ins;
  int64_t place = first % s->places, line = first / s->places;
  for (int64_t w = 0; w < count; w++, columns += TK_DOWN) {
    const TK_REAL *from = plane + line * s->down * across + place * s->across * ins;
    TK_REAL *to = columns;
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
static TK_WIDE void tk_add_columns(const tk_sizes *s, TK_REAL *restrict x, int64_t first,
                                   int64_t count, const TK_REAL *restrict columns) {
  int64_t ins = tk_ins(s), channels = s->channels, run = s->columns * ins;
  for (int64_t w = first; w < first + count; w++) {
    int64_t top = w / s->places * s->down - s->above;
    int64_t left = w % s->places * s->across - s->before;
    int64_t right = left + (s->columns - 1) * s->apart_across;
    int together = s->groups == 1 && s->apart_across == 1 && left >= 0 && right < s->width;
    for (int64_t a = 0; a < s->rows; a++, columns += run) {
      int64_t row = top + a * s->apart_down;
      if (row < 0 || row >= s->height) continue;
      TK_REAL *to = x + (row * s->width + left) * channels;
      if (together) {
        for (int64_t i = 0; i < run; i++) to[i] += columns[i];
        continue;
      }
      for (int64_t b = 0; b < s->columns; b++) {
        int64_t column = left + b * s->apart_across;
        TK_REAL *each = to + b * s->apart_across * channels;
        if (column < 0 || column >= s->width) continue;
        for (int64_t i = 0; i < ins; i++) each[i] += columns[b * ins + i];
      }
    }
  }
}

/* The cotangent of `count` windows of one group of a sample: rows TK_DOWN apart. `c`: its first
   output. */
static TK_WIDE void tk_read_rows(const tk_sizes *s, const TK_REAL *c, int64_t first, int64_t count,
                                 TK_REAL *rows) {
  int64_t outs = tk_outs(s), stop = first + count;
  int dense = s->c_row == s->places * s->c_column;
  for (int64_t w = first, some; w < stop; w += some, rows += some * TK_DOWN) {
    some = dense ? count : tk_min_i64(stop - w, s->places - w % s->places);
    const TK_REAL *from = c + w / s->places * s->c_row + w % s->places * s->c_column;
    if (s->c_channel == 1)
      for (int64_t i = 0; i < some; i++)
        memcpy(rows + i * TK_DOWN, from + i * s->c_column, sizeof(TK_REAL) * outs);
    else TK_NAME(tk_copy_lanes)(TK_DOWN, outs, some, from, s->c_channel, s->c_column, rows);
  }
}

/* Allocates memory and packs the filters (outputs, features) of each group into panels, aligned to
   a cache line. The adjoint uses the transposed filters. */
static int64_t tk_panels_size(const tk_sizes *s, int adjoint) {
  int64_t columns = adjoint ? tk_features(s) : tk_outs(s);
  int64_t depth = adjoint ? tk_outs(s) : tk_features(s);
  return tk_divided(columns, TK_PANEL) * TK_PANEL * depth;
}

static void *tk_filter_panels(const tk_sizes *s, const TK_REAL *weight, int adjoint) {
  int64_t features = tk_features(s), outs = tk_outs(s), size = tk_panels_size(s, adjoint);
  int64_t columns = adjoint ? features : outs, depth = adjoint ? outs : features;
  void *memory = tk_new_reals(s->groups * size);
  for (int64_t group = 0; group < s->groups; group++) {
    TK_NAME(tk_gemm_args) factors = {.depth = depth, .columns = columns,
                            .b = weight + group * outs * features,
                            .copy = tk_aligned_reals(memory) + group * size,
                            .b_down = adjoint ? features : 1, .b_across = adjoint ? 1 : features};
    TK_NAME(tk_pack_b)((void *[]){&factors}, 0, tk_divided(columns, TK_PANEL));
  }
  return memory;
}

/* Whether much of the filters meets padding, and their products with its zeros are zero. */
static int tk_skips_padding(const tk_sizes *s, const TK_REAL *weight) {
  TK_REAL sum = 0;
  if (s->rows == 1 || (s->rows - 1) * s->apart_down * 4 < s->height) return 0;
  for (int64_t i = 0; i < tk_features(s) * s->outputs; i++) sum += weight[i] * 0;
  return sum == 0;
}

/* The rows of a filter that meet more than padding in windows `first` ... `last` of all samples. */
static inline void tk_rows_inside(const tk_sizes *s, int64_t first, int64_t last, int64_t *start,
                                  int64_t *stop) {
  int64_t windows = s->lines * s->places;
  *start = 0, *stop = s->rows;
  if (first / windows != last / windows) return;
  int64_t top = first % windows / s->places * s->down - s->above;
  int64_t bottom = last % windows / s->places * s->down - s->above;
  if (bottom < 0) *start = tk_min_i64(tk_divided(-bottom, s->apart_down), s->rows);
  int64_t below = s->height - top; /* the first row of x beyond, from the top line */
  *stop = below <= 0 ? 0 : tk_min_i64(tk_divided(below, s->apart_down), s->rows);
  if (*stop < *start) *stop = *start;
}

/* The products of windows `at`, ... of all samples, of one group, with its filters. skipping: whether
   rows of filters in the padding can be left out. */
static TK_WIDE void tk_convolve_block(const tk_sizes *s, int64_t at, int64_t count,
                                      const TK_REAL *columns, const TK_REAL *filters,
                                      const TK_REAL *bias, int skipping, TK_REAL *y) {
  int64_t features = tk_features(s), outs = tk_outs(s), run = features / s->rows;
  int64_t part = skipping ? TK_ROWS : count;
  for (int64_t i = 0; i < count; i += part) {
    int64_t some = tk_min_i64(part, count - i), start = 0, stop = s->rows;
    if (skipping) tk_rows_inside(s, at + i, at + i + some - 1, &start, &stop);
    TK_NAME(tk_gemm_panel)(some, (stop - start) * run, outs, columns + i * TK_DOWN + start * run,
                           TK_DOWN, 1, filters + start * run * TK_PANEL, TK_PANEL,
                           TK_PANEL * features, y + i * s->outputs, s->outputs, 0);
  }
  for (int64_t w = 0; bias && w < count; w++, y += s->outputs)
    for (int64_t o = 0; o < outs; o++) y[o] += bias[o];
}

static TK_WIDE void tk_convolve_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  const TK_REAL *x = memory[1], *panels = memory[2], *bias = memory[3];
  TK_REAL *columns = tk_columns(s), *plane = columns + 2 * (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  TK_REAL *y = memory[4];
  int64_t ins = tk_ins(s), outs = tk_outs(s), block = tk_block(s), band = tk_band(s);
  int64_t together = tk_together(s);
  int skipping = *(const int *)memory[5];
  for (int64_t item = start; item < stop; item++) {
    int64_t group = item % s->groups, n = item / s->groups * together, filled = 0;
    int64_t end = tk_min_i64(n + together, s->samples);
    const TK_REAL *filters = panels + group * tk_panels_size(s, 0);
    const TK_REAL *constant = bias ? bias + group * outs : 0;
    int64_t at = n * s->lines * s->places;
    for (; n < end; n++)
      for (int64_t line = 0; line < s->lines; line += band) {
        int64_t lines = tk_min_i64(band, s->lines - line), windows = lines * s->places;
        const TK_REAL *from = x + n * s->x_sample + group * ins * s->x_channel;
        tk_read_plane(s, from, ins, ins, line * s->down, tk_rows_of(s, lines), plane);
        for (int64_t first = 0, count; first < windows; first += count) {
          count = tk_min_i64(block - filled, windows - first);
          tk_read_columns(s, plane, first, count, columns + filled * TK_DOWN);
          filled += count;
          int last = n + 1 == end && line + lines == s->lines && first + count == windows;
          if (filled < block && !last) continue;
          tk_convolve_block(s, at, filled, columns, filters, constant, skipping,
                            y + at * s->outputs + group * outs);
          at += filled;
          filled = 0;
        }
      }
  }
}

/* y: channels last. */
EXPORT void convolve(const tk_sizes *s, const TK_REAL *x, const TK_REAL *weight,
                     const TK_REAL *bias, TK_REAL *y) {
  void *memory = tk_filter_panels(s, weight, 0);
  int skipping = tk_skips_padding(s, weight);
  tk_parallel_for(tk_convolve_samples,
                  (void *[]){(void *)s, (void *)x, tk_aligned_reals(memory), (void *)bias, y,
                             &skipping},
                  tk_divided(s->samples, tk_together(s)) * s->groups, 1);
  free(memory);
}

/* col2im of windows `at`, at + 1, ... of all samples. */
static TK_WIDE void tk_add_block(const tk_sizes *s, TK_REAL *x, int64_t group, int64_t at,
                                 int64_t count, const TK_REAL *columns) {
  int64_t windows = s->lines * s->places, ins = tk_ins(s), features = tk_features(s);
  for (int64_t some; count; count -= some, at += some, columns += some * features) {
    some = tk_min_i64(count, windows - at % windows);
    TK_REAL *sample = x + at / windows * s->height * s->width * s->channels;
    tk_add_columns(s, sample + group * ins, at % windows, some, columns);
  }
}

static TK_WIDE void tk_spread_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  const TK_REAL *c = memory[1], *panels = memory[2];
  TK_REAL *columns = tk_columns(s), *rows = columns + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  TK_REAL *x = memory[3];
  int64_t features = tk_features(s), windows = s->lines * s->places, block = tk_block(s);
  int64_t outs = tk_outs(s), together = tk_together(s);
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item * together, end = tk_min_i64(n + together, s->samples);
    int64_t sample = s->height * s->width * s->channels;
    memset(x + n * sample, 0, sizeof(TK_REAL) * (end - n) * sample);
    for (int64_t group = 0; group < s->groups; group++) {
      const TK_REAL *filters = panels + group * tk_panels_size(s, 1);
      for (int64_t at = n * windows, filled; at < end * windows; at += filled) {
        for (filled = 0; filled < block && at + filled < end * windows;) {
          int64_t first = (at + filled) % windows, of = (at + filled) / windows;
          int64_t count = tk_min_i64(block - filled, windows - first);
          const TK_REAL *from = c + of * s->c_sample + group * outs * s->c_channel;
          tk_read_rows(s, from, first, count, rows + filled * TK_DOWN);
          filled += count;
        }
        TK_NAME(tk_gemm_panel)(filled, outs, features, rows, TK_DOWN, 1, filters, TK_PANEL,
                               TK_PANEL * outs, columns, features, 0);
        tk_add_block(s, x, group, at, filled, columns);
      }
    }
  }
}

/* x: channels last. */
EXPORT void convolve_transposed(const tk_sizes *s, const TK_REAL *c, const TK_REAL *weight,
                                TK_REAL *x) {
  void *memory = tk_filter_panels(s, weight, 1);
  tk_parallel_for(tk_spread_samples,
                  (void *[]){(void *)s, (void *)c, tk_aligned_reals(memory), x},
                  tk_divided(s->samples, tk_together(s)), 1);
  free(memory);
}

static int64_t tk_pieces(const tk_sizes *s) {
  int64_t few = TK_SUMS / (tk_features(s) * s->outputs);
  return tk_min_i64(s->samples, few < 4 ? 4 : tk_min_i64(few, TK_PIECES));
}

/* Whether the outputs are the rows of the product: then fewer elements of tiles are idle. */
static int tk_is_turned(const tk_sizes *s) {
  int64_t features = tk_features(s), outs = tk_outs(s);
  int64_t turned = tk_rows_in_tiles(outs) * tk_divided(features, TK_LANES);
  return turned < tk_rows_in_tiles(features) * tk_divided(outs, TK_LANES);
}

/* The sums of one group for a piece of the samples. */
static TK_WIDE void tk_sum_samples(void **memory, int64_t start, int64_t stop) {
  const tk_sizes *s = memory[0];
  const TK_REAL *x = memory[1], *c = memory[2];
  TK_REAL *columns = tk_columns(s), *rows = columns + (TK_WINDOWS + TK_ROWS) * TK_DOWN;
  TK_REAL *plane = rows + (TK_WINDOWS + TK_ROWS) * TK_DOWN, *sums = memory[3];
  int64_t features = tk_features(s), ins = tk_ins(s), outs = tk_outs(s), block = tk_block(s);
  int64_t pieces = tk_pieces(s), band = tk_band(s);
  int turned = tk_is_turned(s);
  for (int64_t item = start; item < stop; item++) {
    int64_t piece = item / s->groups, group = item % s->groups, filled = 0;
    int64_t n = piece * s->samples / pieces, end = (piece + 1) * s->samples / pieces;
    TK_REAL *sum = sums + item * features * outs;
    int accumulate = 0;
    for (; n < end; n++) {
      const TK_REAL *from = x + n * s->x_sample + group * ins * s->x_channel;
      const TK_REAL *cotangent = c + n * s->c_sample + group * outs * s->c_channel;
      for (int64_t line = 0; line < s->lines; line += band) {
        int64_t lines = tk_min_i64(band, s->lines - line), windows = lines * s->places;
        tk_read_plane(s, from, ins, ins, line * s->down, tk_rows_of(s, lines), plane);
        for (int64_t first = 0, count; first < windows; first += count) {
          count = tk_min_i64(block - filled, windows - first);
          int64_t room = filled * TK_DOWN;
          tk_read_columns(s, plane, first, count, columns + room);
          tk_read_rows(s, cotangent, line * s->places + first, count, rows + room);
          filled += count;
          int last = n + 1 == end && line + lines == s->lines && first + count == windows;
          if (filled < block && !last) continue;
          if (turned)
            TK_NAME(tk_gemm_panel)(outs, filled, features, rows, 1, TK_DOWN, columns, TK_DOWN,
                                   TK_PANEL, sum, features, accumulate);
          else
            TK_NAME(tk_gemm_panel)(features, filled, outs, columns, 1, TK_DOWN, rows, TK_DOWN,
                                   TK_PANEL, sum, outs, accumulate);
          accumulate = 1;
          filled = 0;
        }
      }
    }
  }
}

/* The gradient (outputs, features) of the weight. */
EXPORT void convolve_weight(const tk_sizes *s, const TK_REAL *x, const TK_REAL *c,
                            TK_REAL *weight) {
  int64_t features = tk_features(s), outs = tk_outs(s), size = features * s->outputs;
  int64_t pieces = tk_pieces(s);
  TK_REAL *sums = tk_new_reals(pieces * size);
  tk_parallel_for(tk_sum_samples, (void *[]){(void *)s, (void *)x, (void *)c, sums},
                  pieces * s->groups, 1);
  for (int64_t piece = 1; piece < pieces; piece++)
    for (int64_t i = 0; i < size; i++) sums[i] += sums[piece * size + i];
  for (int64_t group = 0; group < s->groups; group++) {
    const TK_REAL *sum = sums + group * features * outs;
    TK_REAL *to = weight + group * features * outs;
    if (tk_is_turned(s)) memcpy(to, sum, sizeof(TK_REAL) * features * outs);
    else TK_NAME(tk_copy_lanes)(features, features, outs, sum, outs, 1, to);
  }
  free(sums);
}
