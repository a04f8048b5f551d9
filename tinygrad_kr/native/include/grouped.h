/* Convolutions in groups of few channels or outputs, for eager mode: a vector holds neighbouring
   windows. Outputs as columns of a product would be a handful. Channels come first, dense, in
   what is written; sums do not depend on the number of cores. */

typedef struct {
  tk_sizes all;                    /* `channels` and `outputs` of all groups */
  int64_t groups;
  int64_t ins, outs;               /* of a group */
  int64_t plane_rows, plane_width; /* a padded channel; columns that a step of `across` joins lie
                                      side by side, in `all.across` parts of plane_width columns */
  int64_t plane;                   /* elements */
  int64_t elements, windows;
  int64_t chunk;                   /* channels whose columns are packed at once */
} tk_groups;

static tk_groups tk_grouped(const tk_sizes *s, int64_t groups) {
  tk_groups g = {.all = *s, .groups = groups, .ins = s->channels / groups,
                 .outs = s->outputs / groups, .elements = s->rows * s->columns,
                 .windows = s->lines * s->places};
  g.plane_rows = (s->lines - 1) * s->down + (s->rows - 1) * s->apart_down + 1;
  g.plane_width = tk_divided(tk_plane_width(s), s->across);
  g.plane = s->across * g.plane_rows * g.plane_width;
  int64_t most = TK_BLOCK_BYTES / (int)sizeof(TK_REAL) / g.elements;
  g.chunk = most < 1 ? 1 : tk_min_i64(most, g.ins);
  return g;
}

/* Where the elements that a filter's element (a, b) meets begin in a plane. */
static inline int64_t tk_offset(const tk_groups *g, int64_t a, int64_t b) {
  int64_t column = b * g->all.apart_across;
  int64_t part = column % g->all.across * g->plane_rows + a * g->all.apart_down;
  return part * g->plane_width + column / g->all.across;
}

static int64_t *tk_offsets(const tk_groups *g, int64_t *room) {
  for (int64_t a = 0, e = 0; a < g->all.rows; a++)
    for (int64_t b = 0; b < g->all.columns; b++) room[e++] = tk_offset(g, a, b);
  return room;
}

/* A row of a channel: `count` elements, `step` apart outside of a plane. */
static inline __attribute__((always_inline)) void tk_move_row(TK_REAL *x, int64_t step,
                                                              TK_REAL *plane, int64_t count,
                                                              int write) {
  enum { FOUR = 16 / (int)sizeof(TK_REAL) };
  if (step == 1 && count >= FOUR) { /* the last vector overlaps the one before */
    for (int64_t i = 0; i < count; i += FOUR) {
      int64_t at = tk_min_i64(i, count - FOUR);
      if (write) *(TK_NAME(tk_near_four) *)(x + at) = *(TK_NAME(tk_near_four) *)(plane + at);
      else *(TK_NAME(tk_near_four) *)(plane + at) = *(TK_NAME(tk_near_four) *)(x + at);
    }
    return;
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i++) {
    if (write) x[i * step] = plane[i];
    else plane[i] = x[i * step];
  }
}

/* A channel: read into a plane with zeros around it, which are there already, or written from one.
   across: that of the windows, a constant where that saves divisions. */
static inline __attribute__((always_inline)) void tk_move_plane(
    const tk_groups *g, int64_t across, TK_REAL *x, int64_t x_row, int64_t x_column,
    TK_REAL *plane, int write) {
  const tk_sizes *s = &g->all;
  int64_t step = across * x_column;
  for (int64_t part = 0; part < across; part++) {
    int64_t first = part - s->before;
    int64_t start = first < 0 ? (across - 1 - first) / across : 0;
    int64_t stop = tk_min_i64(g->plane_width, (s->width - first + across - 1) / across);
    int64_t top = tk_min_i64(s->above, g->plane_rows);
    int64_t bottom = tk_min_i64(g->plane_rows, s->height + s->above);
    TK_REAL *to = plane + part * g->plane_rows * g->plane_width + start;
    for (int64_t r = top < 0 ? 0 : top; r < bottom && start < stop; r++) {
      TK_REAL *from = x + (r - s->above) * x_row + first * x_column + start * step;
      if (step == 1) tk_move_row(from, 1, to + r * g->plane_width, stop - start, write);
      else if (step == 2) tk_move_row(from, 2, to + r * g->plane_width, stop - start, write);
      else tk_move_row(from, step, to + r * g->plane_width, stop - start, write);
    }
  }
}

/* Some channels of a group of a sample. */
static inline void tk_read_planes(const tk_groups *g, const TK_REAL *x, int64_t sample,
                                  int64_t channel, int64_t count, TK_REAL *planes) {
  const tk_sizes *s = &g->all;
  for (int64_t c = 0; c < count; c++) {
    TK_REAL *from = (TK_REAL *)x + sample * s->x_sample + (channel + c) * s->x_channel;
    TK_REAL *to = planes + c * g->plane;
    if (s->across == 1) tk_move_plane(g, 1, from, s->x_row, s->x_column, to, 0);
    else if (s->across == 2) tk_move_plane(g, 2, from, s->x_row, s->x_column, to, 0);
    else tk_move_plane(g, s->across, from, s->x_row, s->x_column, to, 0);
  }
}

/* All bits of 64 bytes, then none of 64: a mask of the first n bytes begins n before the middle. */
typedef unsigned char tk_bytes __attribute__((vector_size(TK_BYTES)));
typedef unsigned char tk_mask __attribute__((vector_size(TK_BYTES), aligned(1), may_alias));
static const int32_t tk_masks[32] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                     -1, -1, -1, -1, -1, -1, -1, -1};

/* The first `count` elements of a vector, at most all of them; zeros beyond. */
static inline TK_WIDE __attribute__((always_inline)) TK_NAME(tk_vector) tk_first(
    TK_NAME(tk_vector) x, int64_t count) {
  const unsigned char *middle = (const unsigned char *)(tk_masks + 16);
  int64_t bytes = count * (int64_t)sizeof(TK_REAL);
  return (TK_NAME(tk_vector))((tk_bytes)x & *(const tk_mask *)(middle - bytes));
}

#define TK_MOST_WINDOWS 512 /* limit: windows whose columns are packed at once */

/* Neighbouring windows of one line: where they begin in a plane, and how many they are. */
typedef struct {
  int64_t pieces;
  int64_t from[TK_MOST_WINDOWS], count[TK_MOST_WINDOWS];
} tk_pieces_of_lines;

static void tk_cut(const tk_groups *g, int64_t first, int64_t count, tk_pieces_of_lines *cut) {
  int64_t line = first / g->all.places, place = first % g->all.places;
  for (cut->pieces = 0; count; cut->pieces++, line++, place = 0) {
    int64_t some = tk_min_i64(count, g->all.places - place);
    cut->from[cut->pieces] = line * g->all.down * g->plane_width + place;
    cut->count[cut->pieces] = some;
    count -= some;
  }
}

/* im2col, transposed: a row of `width` windows for each element of the filters of `channels`
   channels, of rows `start` ... `stop` of the filters. The order: rows, channels, columns. Rows of
   windows end with zeros from `count` on. */
static inline TK_WIDE __attribute__((always_inline)) void tk_pack_windows(
    const tk_groups *g, const tk_pieces_of_lines *cut, int64_t channels, int64_t start,
    int64_t stop, const int64_t *offsets, const TK_REAL *planes, int64_t width, int64_t count,
    TK_REAL *to) {
  int64_t columns = g->all.columns, rows = (stop - start) * channels;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t b = 0; b < columns; b++, to += width) {
      const TK_REAL *from = planes + i % channels * g->plane;
      TK_REAL *at = to; /* what is copied beyond a piece is overwritten by the next */
      from += offsets[(start + i / channels) * columns + b];
      for (int64_t p = 0; p < cut->pieces; at += cut->count[p++])
        for (int64_t v = 0; v < cut->count[p]; v += TK_LANES)
          *(TK_NAME(tk_loaded) *)(at + v) =
              *(const TK_NAME(tk_loaded) *)(from + cut->from[p] + v);
      for (int64_t v = count; v < width; v++) to[v] = 0;
    }
}

/* The adjoint of `tk_pack_windows`, for all rows of the filters. */
static TK_WIDE void tk_add_windows(const tk_groups *g, const tk_pieces_of_lines *cut,
                                   int64_t channels, const int64_t *offsets, const TK_REAL *from,
                                   TK_REAL *planes) {
  int64_t columns = g->all.columns, rows = g->all.rows * channels;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t b = 0; b < columns; b++, from += TK_PANEL) {
      TK_REAL *plane = planes + i % channels * g->plane + offsets[i / channels * columns + b];
      const TK_REAL *at = from;
      for (int64_t p = 0; p < cut->pieces; at += cut->count[p++]) {
        TK_REAL *to = plane + cut->from[p];
        int64_t count = cut->count[p], v = 0;
        for (; v + TK_LANES <= count; v += TK_LANES)
          *(TK_NAME(tk_loaded) *)(to + v) += *(const TK_NAME(tk_loaded) *)(at + v);
        if (v < count) {
          TK_NAME(tk_vector) last = tk_first(*(const TK_NAME(tk_loaded) *)(at + v), count - v);
          *(TK_NAME(tk_loaded) *)(to + v) += last;
        }
      }
    }
}

/* The height of the tile of a packed matrix that begins where `left` rows are left. */
static inline int64_t tk_height(int64_t left) {
  if (left <= 2 * TK_LEAST_ROWS && left <= TK_FEWER_ROWS) return TK_LEAST_ROWS;
  return left <= TK_FEWER_ROWS ? TK_FEWER_ROWS : TK_ROWS;
}

static int64_t tk_height_of_all(int64_t rows) {
  int64_t sum = 0;
  while (sum < rows) sum += tk_height(rows - sum);
  return sum;
}

/* Packs a matrix into tiles of rows, one after the other: columns of a tile are neighbours. Rows are
   outputs and columns are features, or, for the adjoint, the other way round. `order`: where the
   elements of a filter lie. */
static void tk_pack_tiles(int64_t rows, int64_t depth, const TK_REAL *a, const int64_t *order,
                          int64_t features, int adjoint, TK_REAL *to) {
  for (int64_t i = 0, height; i < rows; i += height) {
    height = tk_height(rows - i);
    for (int64_t k = 0; k < depth; k++)
      for (int64_t r = i; r < i + height; r++) {
        int64_t at = adjoint ? k * features : order[k];
        if (r < rows) at += adjoint ? order[r] : r * features;
        *to++ = r < rows ? a[at] : 0;
      }
  }
}

/* Where the elements of the filters of some channels lie: in the order rows, channels, columns. */
static void tk_order(const tk_groups *g, int64_t channels, int64_t *order) {
  for (int64_t a = 0; a < g->all.rows; a++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t b = 0; b < g->all.columns; b++)
        *order++ = c * g->elements + a * g->all.columns + b;
}

/* The product of columns `from` ... `from` + `depth` of a packed matrix of `all` columns with a panel
   of `columns`. */
static TK_WIDE void tk_multiply_tiles(int64_t rows, int64_t all, int64_t from, int64_t depth,
                                      int64_t columns, const TK_REAL *tiles, const TK_REAL *b,
                                      int64_t b_down, TK_REAL *c, int64_t c_down,
                                      int accumulate) {
  for (int64_t i = 0, height; i < rows; i += height) {
    height = tk_height(rows - i);
    const TK_REAL *a = tiles + height * from;
#define TK_USE(height, vectors)                                                                    \
  TK_NAME(tk_tile)(height, vectors, depth, a, 1, height, b, b_down, c, c_down, rows - i, columns,  \
                   accumulate)
    if (height == TK_LEAST_ROWS && columns > TK_LANES) TK_USE(TK_LEAST_ROWS, TK_VECTORS);
    else if (height == TK_LEAST_ROWS) TK_USE(TK_LEAST_ROWS, 1);
    else if (height == TK_ROWS && columns > TK_LANES) TK_USE(TK_ROWS, TK_VECTORS);
    else if (height == TK_ROWS) TK_USE(TK_ROWS, 1);
    else if (columns > TK_LANES) TK_USE(TK_FEWER_ROWS, TK_VECTORS);
    else TK_USE(TK_FEWER_ROWS, 1);
#undef TK_USE
    tiles += height * all;
    c += height * c_down;
  }
}

/* Whether windows are elements of a channel in order, and need no packing. */
static int tk_is_pointwise(const tk_groups *g) {
  const tk_sizes *s = &g->all;
  int single = g->elements == 1 && s->down == 1 && s->across == 1;
  int whole = s->lines == s->height && s->places == s->width && !s->above && !s->before;
  return single && whole && s->x_column == 1 && (s->x_row == s->width || s->height == 1);
}

/* The products of the filters of one group with the windows of one sample, for some channels.
   skipping: whether rows of filters in the padding can be left out. */
static TK_WIDE void tk_convolve_chunk(const tk_groups *g, const TK_REAL *x, int64_t channels,
                                      const int64_t *offsets, const TK_REAL *filters, int skipping,
                                      TK_REAL *panel, TK_REAL *y, int accumulate) {
  const tk_sizes *s = &g->all;
  int64_t start = 0, stop = s->rows;
  for (int64_t first = 0; first < g->windows; first += TK_PANEL) {
    int64_t count = tk_min_i64(g->windows - first, TK_PANEL), down = TK_PANEL;
    int64_t run = channels * s->columns;
    const TK_REAL *b = panel;
    if (offsets) {
      tk_pieces_of_lines cut;
      tk_cut(g, first, count, &cut);
      if (skipping) tk_rows_inside(s, first, first + count - 1, &start, &stop);
      tk_pack_windows(g, &cut, channels, start, stop, offsets, x, TK_PANEL, TK_PANEL, panel);
    } else if (count == TK_PANEL) {
      b = x + first;
      down = s->x_channel;
    } else {
      for (int64_t c = 0; c < channels; c++)
        memcpy(panel + c * TK_PANEL, x + c * s->x_channel + first, sizeof(TK_REAL) * count);
    }
    tk_multiply_tiles(g->outs, channels * g->elements, start * run, (stop - start) * run, count,
                      filters, b, down, y + first, g->windows, accumulate);
  }
}

static TK_WIDE void tk_convolve_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const TK_REAL *x = memory[1], *filters = memory[2], *bias = memory[3];
  int64_t room[TK_MOST], features = g->ins * g->elements, height = tk_height_of_all(g->outs);
  int64_t size = g->chunk * g->plane + 64, columns = g->chunk * g->elements * TK_PANEL + 64;
  TK_REAL *planes = TK_NAME(tk_room)(size + columns), *panel = planes + size;
  const int64_t *offsets = tk_is_pointwise(g) ? 0 : tk_offsets(g, room);
  int skipping = *(const int *)memory[5];
  memset(planes, 0, sizeof(TK_REAL) * size);
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item / g->groups, group = item % g->groups;
    TK_REAL *y = (TK_REAL *)memory[4] + (n * s->outputs + group * g->outs) * g->windows;
    for (int64_t c = 0; c < g->ins; c += g->chunk) {
      int64_t count = tk_min_i64(g->chunk, g->ins - c), channel = group * g->ins + c;
      const TK_REAL *from = x + n * s->x_sample + channel * s->x_channel;
      if (offsets) tk_read_planes(g, x, n, channel, count, planes);
      tk_convolve_chunk(g, offsets ? planes : from, count, offsets,
                        filters + (group * features + c * g->elements) * height, skipping, panel, y,
                        c > 0);
    }
    for (int64_t o = 0; bias && o < g->outs; o++)
      for (int64_t w = 0; w < g->windows; w++) y[o * g->windows + w] += bias[group * g->outs + o];
  }
}

/* The filters of all groups, chunk by chunk of channels, in tiles of outputs; or, for the adjoint, of
   features. To be freed. */
static void *tk_pack_filters(const tk_groups *g, const TK_REAL *weight, int adjoint) {
  int64_t features = g->ins * g->elements, most = g->chunk * g->elements;
  int64_t chunks = tk_divided(g->ins, g->chunk);
  int64_t size = adjoint ? chunks * tk_height_of_all(most) * g->outs
                         : tk_height_of_all(g->outs) * features;
  int64_t order[TK_MOST];
  void *memory = tk_new_reals(g->groups * size);
  for (int64_t group = 0; group < g->groups; group++) {
    TK_REAL *to = tk_aligned_reals(memory) + group * size;
    for (int64_t f = 0; f < features; f += most) {
      const TK_REAL *from = weight + group * g->outs * features + f;
      int64_t count = tk_min_i64(most, features - f);
      tk_order(g, count / g->elements, order);
      if (adjoint) {
        tk_pack_tiles(count, g->outs, from, order, features, 1, to);
        to += tk_height_of_all(most) * g->outs;
      } else {
        tk_pack_tiles(g->outs, count, from, order, features, 0, to);
        to += tk_height_of_all(g->outs) * count;
      }
    }
  }
  return memory;
}

EXPORT void convolve_groups(const tk_sizes *s, int64_t groups, const TK_REAL *x,
                            const TK_REAL *weight, const TK_REAL *bias, TK_REAL *y) {
  tk_groups g = tk_grouped(s, groups);
  void *memory = tk_pack_filters(&g, weight, 0);
  int skipping = tk_skips_padding(s, weight);
  tk_parallel_for(tk_convolve_groups,
                  (void *[]){&g, (void *)x, tk_aligned_reals(memory), (void *)bias, y, &skipping},
                  s->samples * groups, 1 + groups / 4);
  free(memory);
}

/* The windows of a cotangent from `first` on, in rows for each output of a group: in place where that
   can be read, or copied to `panel`. */
static const TK_REAL *tk_cotangent_panel(const tk_groups *g, const TK_REAL *c, int64_t first,
                                         int64_t count, TK_REAL *panel, int64_t *down) {
  *down = g->windows;
  if (count == TK_PANEL) return c + first;
  for (int64_t o = 0; o < g->outs; o++)
    memcpy(panel + o * TK_PANEL, c + o * g->windows + first, sizeof(TK_REAL) * count);
  *down = TK_PANEL;
  return panel;
}

static TK_WIDE void tk_spread_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const TK_REAL *c = memory[1], *filters = memory[2];
  TK_REAL *x = memory[3];
  int64_t room[TK_MOST], most = g->chunk * g->elements, down, chunks = tk_divided(g->ins, g->chunk);
  int64_t size = g->chunk * g->plane + 64, columns = most * TK_PANEL + 64;
  TK_REAL *planes = TK_NAME(tk_room)(size + columns + g->outs * TK_PANEL);
  TK_REAL *products = planes + size, *panel = products + columns;
  int pointwise = tk_is_pointwise(g);
  tk_offsets(g, room);
  for (int64_t item = start; item < stop; item++) { /* some channels of a sample */
    int64_t n = item / (g->groups * chunks), group = item / chunks % g->groups;
    int64_t channel = item % chunks * g->chunk, count = tk_min_i64(g->chunk, g->ins - channel);
    const TK_REAL *from = c + (n * s->outputs + group * g->outs) * g->windows;
    const TK_REAL *each =
        filters + (group * chunks + item % chunks) * tk_height_of_all(most) * g->outs;
    TK_REAL *to = x + (n * s->channels + group * g->ins + channel) * s->height * s->width;
    if (!pointwise) memset(planes, 0, sizeof(TK_REAL) * count * g->plane);
    for (int64_t first = 0; first < g->windows; first += TK_PANEL) {
      int64_t some = tk_min_i64(g->windows - first, TK_PANEL);
      const TK_REAL *b = tk_cotangent_panel(g, from, first, some, panel, &down);
      if (pointwise) {
        tk_multiply_tiles(count, g->outs, 0, g->outs, some, each, b, down, to + first, g->windows, 0);
        continue;
      }
      tk_pieces_of_lines cut;
      tk_cut(g, first, some, &cut);
      tk_multiply_tiles(count * g->elements, g->outs, 0, g->outs, some, each, b, down, products,
                        TK_PANEL, 0);
      tk_add_windows(g, &cut, count, room, products, planes);
    }
    if (pointwise) continue;
    memset(to, 0, sizeof(TK_REAL) * count * s->height * s->width);
    for (int64_t i = 0; i < count; i++, to += s->height * s->width) {
      if (s->across == 1) tk_move_plane(g, 1, to, s->width, 1, planes + i * g->plane, 1);
      else if (s->across == 2) tk_move_plane(g, 2, to, s->width, 1, planes + i * g->plane, 1);
      else tk_move_plane(g, s->across, to, s->width, 1, planes + i * g->plane, 1);
    }
  }
}

EXPORT void convolve_groups_transposed(const tk_sizes *s, int64_t groups, const TK_REAL *c,
                                       const TK_REAL *weight, TK_REAL *x) {
  tk_groups g = tk_grouped(s, groups);
  int64_t items = groups * tk_divided(g.ins, g.chunk);
  void *memory = tk_pack_filters(&g, weight, 1);
  tk_parallel_for(tk_spread_groups, (void *[]){&g, (void *)c, tk_aligned_reals(memory), x},
                  s->samples * items, 1 + items / 4);
  free(memory);
}

/* ------------------------------------------------------------------ the gradient of the weight */

#define TK_DOT_ROWS 4 /* outputs and features whose products are in registers at once */
#define TK_DOT_COLUMNS (TK_ROWS > 6 ? 6 : 3)

/* Adds to `sums`, vectors, the products of `height` rows of a cotangent with `width` rows of columns,
   both constants, for `vectors` vectors of windows; the last of the cotangent are in `tails`. */
static inline TK_WIDE __attribute__((always_inline)) void tk_dot_tile(
    int height, int width, int64_t vectors, const TK_REAL *c, int64_t c_down,
    const TK_REAL *tails, const TK_REAL *columns, int64_t down, TK_REAL *sums,
    int64_t sums_down) {
  TK_CONTRACT
  TK_NAME(tk_vector) sum[TK_DOT_ROWS][6];
#pragma GCC unroll 4
  for (int i = 0; i < height; i++)
#pragma GCC unroll 6
    for (int j = 0; j < width; j++)
      sum[i][j] = *(TK_NAME(tk_loaded) *)(sums + i * sums_down + j * TK_LANES);
  for (int64_t v = 0; v < vectors; v++, columns += TK_LANES, c += TK_LANES) {
    TK_NAME(tk_vector) right[6];
    if (v + 1 == vectors && tails) c = tails, c_down = TK_LANES;
#pragma GCC unroll 6
    for (int j = 0; j < width; j++) right[j] = *(const TK_NAME(tk_loaded) *)(columns + j * down);
#pragma GCC unroll 4
    for (int i = 0; i < height; i++) {
      TK_NAME(tk_vector) left = *(const TK_NAME(tk_loaded) *)(c + i * c_down);
#pragma GCC unroll 6
      for (int j = 0; j < width; j++) sum[i][j] = left * right[j] + sum[i][j];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < height; i++)
#pragma GCC unroll 6
    for (int j = 0; j < width; j++)
      *(TK_NAME(tk_loaded) *)(sums + i * sums_down + j * TK_LANES) = sum[i][j];
}

/* The same for all outputs of a group and `features` rows of columns. */
static TK_WIDE void tk_dot(int64_t outs, int64_t features, int64_t count, const TK_REAL *c,
                           int64_t c_down, const TK_REAL *tails, const TK_REAL *columns,
                           int64_t down, TK_REAL *sums) {
  int64_t vectors = tk_divided(count, TK_LANES), step = features * TK_LANES;
  for (int64_t i = 0, height; i < outs; i += height) {
    height = outs - i < TK_DOT_ROWS ? 1 : TK_DOT_ROWS;
    for (int64_t j = 0, width; j < features; j += width) {
      width = features - j < TK_DOT_COLUMNS ? 1 : TK_DOT_COLUMNS;
      TK_REAL *sum = sums + i * step + j * TK_LANES;
#define TK_USE(height, width)                                                                      \
  tk_dot_tile(height, width, vectors, c + i * c_down, c_down, tails ? tails + i * TK_LANES : 0,    \
              columns + j * down, down, sum, step)
      if (height > 1 && width > 1) TK_USE(TK_DOT_ROWS, TK_DOT_COLUMNS);
      else if (height > 1) TK_USE(TK_DOT_ROWS, 1);
      else if (width > 1) TK_USE(1, TK_DOT_COLUMNS);
      else TK_USE(1, 1);
#undef TK_USE
    }
  }
}

/* The sum of a vector's elements: of halves, then of quarters, ... */
static TK_REAL tk_added(TK_REAL *sums) {
  for (int half = TK_LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) sums[i] += sums[i + half];
  return *sums;
}

/* Pieces of the samples whose sums are separate. */
static int64_t tk_pieces_of_groups(const tk_groups *g) {
  return tk_min_i64(g->all.samples, tk_divided(TK_PIECES, g->groups));
}

/* Adds the products of windows `first`, ... of one sample: vectors of sums for each output and each
   element of the filters of some channels. Columns lie `down` apart, and end with zeros. */
static TK_WIDE void tk_sum_windows(const tk_groups *g, int64_t features, int64_t first,
                                   int64_t count, const TK_REAL *c, TK_REAL *tails,
                                   const TK_REAL *columns, int64_t down, TK_REAL *sums) {
  int64_t rest = count % TK_LANES;
  for (int64_t o = 0; rest && o < g->outs; o++) {
    memset(tails + o * TK_LANES, 0, sizeof(TK_REAL) * TK_LANES);
    memcpy(tails + o * TK_LANES, c + (o * g->windows + first + count - rest),
           sizeof(TK_REAL) * rest);
  }
  tk_dot(g->outs, features, count, c + first, g->windows, rest ? tails : 0, columns, down, sums);
}

/* The same for all windows of a sample. offsets: 0 where windows are elements of x in order. */
static TK_WIDE void tk_sum_planes(const tk_groups *g, const TK_REAL *x, int64_t channels,
                                  const int64_t *offsets, const TK_REAL *c, TK_REAL *tails,
                                  TK_REAL *columns, TK_REAL *sums) {
  int64_t features = channels * g->elements, first = 0;
  int64_t most = TK_BLOCK / features / TK_LANES * TK_LANES;
  int64_t block = tk_min_i64(most < TK_LANES ? TK_LANES : most, TK_MOST_WINDOWS);
  if (!offsets && g->windows >= TK_LANES) {
    first = g->windows - g->windows % TK_LANES;
    tk_sum_windows(g, features, 0, first, c, tails, x, g->all.x_channel, sums);
  }
  for (; first < g->windows; first += block) {
    int64_t count = tk_min_i64(block, g->windows - first);
    int64_t width = tk_divided(count, TK_LANES) * TK_LANES;
    tk_pieces_of_lines cut;
    if (offsets) {
      tk_cut(g, first, count, &cut);
      tk_pack_windows(g, &cut, channels, 0, g->all.rows, offsets, x, width, count, columns);
    } else {
      memset(columns, 0, sizeof(TK_REAL) * channels * width);
      for (int64_t i = 0; i < channels; i++)
        memcpy(columns + i * width, x + i * g->all.x_channel + first, sizeof(TK_REAL) * count);
    }
    tk_sum_windows(g, features, first, count, c, tails, columns, width, sums);
  }
}

/* The sums of one group for a piece of the samples. */
static TK_WIDE void tk_sum_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const TK_REAL *x = memory[1], *c = memory[2];
  int64_t room[TK_MOST], features = g->ins * g->elements, most = g->chunk * g->elements;
  int64_t pieces = tk_pieces_of_groups(g), size = g->chunk * g->plane + 64;
  int64_t columns = (most > TK_BLOCK / TK_LANES ? most * TK_LANES : TK_BLOCK) + 64;
  TK_REAL *planes = TK_NAME(tk_room)(size + columns + g->outs * (most + 1) * TK_LANES);
  TK_REAL *packed = planes + size, *tails = packed + columns, *sums = tails + g->outs * TK_LANES;
  int64_t order[TK_MOST];
  const int64_t *offsets = tk_is_pointwise(g) ? 0 : tk_offsets(g, room);
  memset(planes, 0, sizeof(TK_REAL) * size);
  for (int64_t item = start; item < stop; item++) {
    int64_t piece = item / g->groups, group = item % g->groups;
    TK_REAL *weight = (TK_REAL *)memory[3] + item * g->outs * features;
    for (int64_t channel = 0; channel < g->ins; channel += g->chunk) {
      int64_t count = tk_min_i64(g->chunk, g->ins - channel), some = count * g->elements;
      memset(sums, 0, sizeof(TK_REAL) * g->outs * some * TK_LANES);
      int64_t n = piece * s->samples / pieces, end = (piece + 1) * s->samples / pieces;
      for (; n < end; n++) {
        const TK_REAL *from = x + n * s->x_sample + (group * g->ins + channel) * s->x_channel;
        if (offsets) tk_read_planes(g, x, n, group * g->ins + channel, count, planes);
        tk_sum_planes(g, offsets ? planes : from, count, offsets,
                      c + (n * s->outputs + group * g->outs) * g->windows, tails, packed, sums);
      }
      tk_order(g, count, order);
      for (int64_t o = 0; o < g->outs; o++)
        for (int64_t i = 0; i < some; i++)
          weight[o * features + channel * g->elements + order[i]] =
              tk_added(sums + (o * some + i) * TK_LANES);
    }
  }
}

/* The gradient of the weight (outputs, channels of a group, rows, columns). */
EXPORT void convolve_groups_weight(const tk_sizes *s, int64_t groups, const TK_REAL *x,
                                   const TK_REAL *c, TK_REAL *weight) {
  tk_groups g = tk_grouped(s, groups);
  int64_t pieces = tk_pieces_of_groups(&g), size = g.ins * g.elements * s->outputs;
  TK_REAL *sums = tk_new_reals(pieces * size);
  tk_parallel_for(tk_sum_groups, (void *[]){&g, (void *)x, (void *)c, sums}, pieces * groups,
                  1 + groups / 16);
  for (int64_t piece = 1; piece < pieces; piece++)
    for (int64_t i = 0; i < size; i++) sums[i] += sums[piece * size + i];
  memcpy(weight, sums, sizeof(TK_REAL) * size);
  free(sums);
}
