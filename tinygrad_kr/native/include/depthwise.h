/* Convolutions of each channel by itself (depthwise), for eager mode. A vector holds
   neighbouring channels of one place, so strides, dilation and short lines cost nothing. What is
   written has channels last; sums do not depend on the number of cores. */

#define TK_TOGETHER 8 /* windows whose sums are in registers at once */
#define TK_TAPS 9     /* elements of a filter whose sums are in registers at once */

typedef struct {
  const tk_sizes *s;
  int64_t elements, windows, blocks; /* blocks of TK_LANES channels */
  int64_t rows, size;                /* of a plane: rows, elements */
  int64_t *offsets, *places;         /* of elements of a filter and of windows, in a plane */
  TK_REAL *filters;                    /* (blocks, elements, TK_LANES) */
} tk_depthwise;

/* Plans a convolution. The memory is to be freed. weight (channels, elements), or 0. */
static void *tk_plan_depthwise(const tk_sizes *s, const TK_REAL *weight, tk_depthwise *d) {
  int64_t across = tk_plane_width(s) * TK_LANES;
  *d = (tk_depthwise){.s = s, .elements = s->rows * s->columns, .windows = s->lines * s->places};
  d->blocks = tk_divided(s->channels, TK_LANES);
  d->rows = tk_rows_of(s, s->lines);
  d->size = d->rows * across;
  int64_t places = 2 * (d->elements + d->windows) + 16;
  void *memory = tk_new_reals(places + d->blocks * d->elements * TK_LANES);
  d->offsets = (int64_t *)tk_aligned(memory);
  d->places = d->offsets + d->elements;
  d->filters = (TK_REAL *)d->offsets + places / 16 * 16;
  for (int64_t e = 0; e < d->elements; e++)
    d->offsets[e] = e / s->columns * s->apart_down * across +
                    e % s->columns * s->apart_across * TK_LANES;
  for (int64_t w = 0; w < d->windows; w++)
    d->places[w] = w / s->places * s->down * across + w % s->places * s->across * TK_LANES;
  for (int64_t i = 0; weight && i < d->blocks * TK_LANES; i++)
    for (int64_t e = 0; e < d->elements; e++)
      d->filters[(i / TK_LANES * d->elements + e) * TK_LANES + i % TK_LANES] =
          i < s->channels ? weight[i * d->elements + e] : 0;
  return memory;
}

static int64_t tk_lanes_of(const tk_depthwise *d, int64_t block) {
  return tk_min_i64(TK_LANES, d->s->channels - block * TK_LANES);
}

/* The first channels of a vector. */
static inline TK_WIDE __attribute__((always_inline)) void tk_store_lanes(TK_NAME(tk_vector) x,
                                                                         int64_t lanes, TK_REAL *to) {
  if (lanes == TK_LANES) {
    *(TK_NAME(tk_loaded) *)to = x;
    return;
  }
  TK_REAL kept[TK_LANES] __attribute__((aligned(64)));
  *(TK_NAME(tk_loaded) *)kept = x;
  for (int64_t i = 0; i < lanes; i++) to[i] = kept[i];
}

/* `count`, a constant, windows from one on. */
static inline TK_WIDE __attribute__((always_inline)) void tk_depthwise_tile(
    int count, const tk_depthwise *d, const TK_REAL *plane, int64_t window, const TK_REAL *filter,
    TK_NAME(tk_vector) bias, int64_t lanes, TK_REAL *y) {
  TK_CONTRACT
  TK_NAME(tk_vector) sum[TK_TOGETHER];
  const TK_REAL *from[TK_TOGETHER];
  int64_t elements = d->elements;
  const int64_t *offsets = d->offsets;
#pragma GCC unroll 8
  for (int t = 0; t < count; t++) {
    sum[t] = bias;
    from[t] = plane + d->places[window + t];
  }
  for (int64_t e = 0; e < elements; e++) {
    TK_NAME(tk_vector) w = *(const TK_NAME(tk_loaded) *)(filter + e * TK_LANES);
#pragma GCC unroll 8
    for (int t = 0; t < count; t++) sum[t] = w * *(const TK_NAME(tk_loaded) *)(from[t] + offsets[e]) + sum[t];
  }
#pragma GCC unroll 8
  for (int t = 0; t < count; t++) tk_store_lanes(sum[t], lanes, y + t * d->s->channels);
}

/* A block of channels of a sample. */
static TK_WIDE void tk_convolve_blocks(void **memory, int64_t start, int64_t stop) {
  const tk_depthwise *d = memory[0];
  const tk_sizes *s = d->s;
  const TK_REAL *x = memory[1], *bias = memory[2];
  TK_REAL *plane = TK_NAME(tk_room)(d->size), *y = memory[3];
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item / d->blocks, block = item % d->blocks, channel = block * TK_LANES;
    int64_t lanes = tk_lanes_of(d, block);
    const TK_REAL *filter = d->filters + block * d->elements * TK_LANES;
    TK_REAL kept[TK_LANES] __attribute__((aligned(64))) = {0};
    for (int64_t i = 0; bias && i < lanes; i++) kept[i] = bias[channel + i];
    TK_NAME(tk_vector) constant = *(const TK_NAME(tk_loaded) *)kept;
    tk_read_plane(s, x + n * s->x_sample + channel * s->x_channel, lanes, TK_LANES, 0, d->rows,
                  plane);
    TK_REAL *to = y + n * d->windows * s->channels + channel;
    if (d->windows < TK_TOGETHER) {
      for (int64_t w = 0; w < d->windows; w++)
        tk_depthwise_tile(1, d, plane, w, filter, constant, lanes, to + w * s->channels);
      continue;
    }
    for (int64_t w = 0; w < d->windows; w += TK_TOGETHER) { /* the last may overlap */
      int64_t first = tk_min_i64(w, d->windows - TK_TOGETHER);
      tk_depthwise_tile(TK_TOGETHER, d, plane, first, filter, constant, lanes,
                        to + first * s->channels);
    }
  }
}

/* weight (channels, elements); y: channels last. */
EXPORT void convolve_depthwise(const tk_sizes *s, const TK_REAL *x, const TK_REAL *weight,
                               const TK_REAL *bias, TK_REAL *y) {
  tk_depthwise d;
  void *memory = tk_plan_depthwise(s, weight, &d);
  tk_parallel_for(tk_convolve_blocks, (void *[]){&d, (void *)x, (void *)bias, y},
                  s->samples * d.blocks, 1);
  free(memory);
}

/* The cotangent of a block of channels of a sample: a vector for each window, `*step` apart. Where
   it is not so already, a copy in `room`. */
static TK_WIDE const TK_REAL *tk_block_cotangent(const tk_depthwise *d, const TK_REAL *c, int64_t n,
                                               int64_t block, TK_REAL *room, int64_t *step) {
  const tk_sizes *s = d->s;
  int64_t lanes = tk_lanes_of(d, block);
  const TK_REAL *from = c + n * s->c_sample + block * TK_LANES * s->c_channel;
  *step = s->c_column;
  if (s->c_channel == 1 && lanes == TK_LANES && s->c_row == s->places * s->c_column) return from;
  for (int64_t line = 0; line < s->lines; line++)
    TK_NAME(tk_copy)(TK_LANES, lanes, s->places, from + line * s->c_row, s->c_channel, s->c_column,
            room + line * s->places * TK_LANES);
  *step = TK_LANES;
  return room;
}

/* Adds the products of a block's cotangent with `taps`, a constant, elements to a plane. */
static inline TK_WIDE __attribute__((always_inline)) void tk_spread_some_taps(
    int taps, const tk_depthwise *d, TK_REAL *plane, const int64_t *offsets, const TK_REAL *filter,
    const TK_REAL *c, int64_t step) {
  TK_CONTRACT
  TK_NAME(tk_vector) tap[TK_TAPS];
  TK_REAL *to[TK_TAPS];
  const int64_t *places = d->places;
  int64_t windows = d->windows;
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) {
    tap[t] = *(const TK_NAME(tk_loaded) *)(filter + t * TK_LANES);
    to[t] = plane + offsets[t];
  }
  for (int64_t w = 0; w < windows; w++, c += step) {
    TK_NAME(tk_vector) g = *(const TK_NAME(tk_loaded) *)c;
    int64_t place = places[w];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++)
      *(TK_NAME(tk_loaded) *)(to[t] + place) = g * tap[t] + *(const TK_NAME(tk_loaded) *)(to[t] + place);
  }
}

/* Calls work(taps, e) for elements e, e + 1, ..., e + taps - 1 of a filter, until all are done. */
#define TK_FOR_TAPS(elements, work)                                                                \
  do {                                                                                             \
    int64_t e = 0;                                                                                 \
    for (; e + 9 <= elements; e += 9) work(9, e);                                                  \
    for (; e + 7 <= elements; e += 7) work(7, e);                                                  \
    for (; e + 4 <= elements; e += 4) work(4, e);                                                  \
    for (; e < elements; e++) work(1, e);                                                          \
  } while (0)

static TK_WIDE void tk_spread_blocks(void **memory, int64_t start, int64_t stop) {
  const tk_depthwise *d = memory[0];
  const tk_sizes *s = d->s;
  int64_t across = tk_plane_width(s), step;
  TK_REAL *plane = TK_NAME(tk_room)(d->size + d->windows * TK_LANES), *x = memory[2];
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item / d->blocks, block = item % d->blocks, lanes = tk_lanes_of(d, block);
    const TK_REAL *filter = d->filters + block * d->elements * TK_LANES;
    const TK_REAL *c = tk_block_cotangent(d, memory[1], n, block, plane + d->size, &step);
    memset(plane, 0, sizeof(TK_REAL) * d->size);
#define TK_SPREAD(taps, e)                                                                         \
  tk_spread_some_taps(taps, d, plane, d->offsets + e, filter + e * TK_LANES, c, step)
    TK_FOR_TAPS(d->elements, TK_SPREAD);
    TK_REAL *out = x + n * s->height * s->width * s->channels + block * TK_LANES;
    for (int64_t i = 0; i < s->height * s->width; i++, out += s->channels) {
      int64_t r = i / s->width + s->above, column = i % s->width + s->before;
      int inside = r >= 0 && r < d->rows && column >= 0 && column < across;
      TK_NAME(tk_vector) value = {0};
      if (inside) value = *(const TK_NAME(tk_loaded) *)(plane + (r * across + column) * TK_LANES);
      tk_store_lanes(value, lanes, out);
    }
  }
}

/* x: channels last. */
EXPORT void convolve_depthwise_transposed(const tk_sizes *s, const TK_REAL *c, const TK_REAL *weight,
                                          TK_REAL *x) {
  tk_depthwise d;
  void *memory = tk_plan_depthwise(s, weight, &d);
  tk_parallel_for(tk_spread_blocks, (void *[]){&d, (void *)c, x}, s->samples * d.blocks, 1);
  free(memory);
}

/* Adds to `sums` the products of all windows of a block with `taps`, a constant, elements. */
static inline TK_WIDE __attribute__((always_inline)) void tk_sum_some_taps(
    int taps, const tk_depthwise *d, const TK_REAL *plane, const int64_t *offsets, const TK_REAL *c,
    int64_t step, TK_REAL *sums) {
  TK_CONTRACT
  TK_NAME(tk_vector) sum[TK_TAPS];
  const TK_REAL *from[TK_TAPS];
  const int64_t *places = d->places;
  int64_t windows = d->windows;
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) {
    sum[t] = *(const TK_NAME(tk_loaded) *)(sums + t * TK_LANES);
    from[t] = plane + offsets[t];
  }
  for (int64_t w = 0; w < windows; w++, c += step) {
    TK_NAME(tk_vector) g = *(const TK_NAME(tk_loaded) *)c;
    int64_t place = places[w];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++) sum[t] = g * *(const TK_NAME(tk_loaded) *)(from[t] + place) + sum[t];
  }
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) *(TK_NAME(tk_loaded) *)(sums + t * TK_LANES) = sum[t];
}

/* The sums of a block of channels. */
static TK_WIDE void tk_sum_blocks(void **memory, int64_t start, int64_t stop) {
  const tk_depthwise *d = memory[0];
  const tk_sizes *s = d->s;
  const TK_REAL *x = memory[1];
  int64_t step, elements = d->elements;
  TK_REAL *plane = TK_NAME(tk_room)(d->size + (d->windows + elements) * TK_LANES), *weight = memory[3];
  TK_REAL *sums = plane + d->size + d->windows * TK_LANES;
  for (int64_t block = start; block < stop; block++) {
    int64_t lanes = tk_lanes_of(d, block), channel = block * TK_LANES;
    memset(sums, 0, sizeof(TK_REAL) * elements * TK_LANES);
    for (int64_t n = 0; n < s->samples; n++) {
      tk_read_plane(s, x + n * s->x_sample + channel * s->x_channel, lanes, TK_LANES, 0, d->rows,
                    plane);
      const TK_REAL *c = tk_block_cotangent(d, memory[2], n, block, plane + d->size, &step);
#define TK_SUM(taps, e)                                                                            \
  tk_sum_some_taps(taps, d, plane, d->offsets + e, c, step, sums + e * TK_LANES)
      TK_FOR_TAPS(elements, TK_SUM);
    }
    for (int64_t i = 0; i < lanes; i++)
      for (int64_t e = 0; e < elements; e++)
        weight[(channel + i) * elements + e] = sums[e * TK_LANES + i];
  }
}

/* The gradient (channels, elements) of the weight. */
EXPORT void convolve_depthwise_weight(const tk_sizes *s, const TK_REAL *x, const TK_REAL *c,
                                      TK_REAL *weight) {
  tk_depthwise d;
  void *memory = tk_plan_depthwise(s, 0, &d);
  tk_parallel_for(tk_sum_blocks, (void *[]){&d, (void *)x, (void *)c, weight}, d.blocks, 1);
  free(memory);
}
