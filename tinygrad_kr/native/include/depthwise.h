/* Convolutions of float32 of each channel by itself (depthwise), for eager mode. A vector holds
   neighbouring channels of one place, so strides, dilation and short lines cost nothing. What is
   written has channels last; sums do not depend on the number of cores. */

#define TK_TOGETHER 8 /* windows whose sums are in registers at once */
#define TK_TAPS 9     /* elements of a filter whose sums are in registers at once */

typedef struct {
  const tk_sizes *s;
  int64_t elements, windows, blocks; /* blocks of TK_WIDTH channels */
  int64_t rows, size;                /* of a plane: rows, elements */
  int64_t *offsets, *places;         /* of elements of a filter and of windows, in a plane */
  float *filters;                    /* (blocks, elements, TK_WIDTH) */
} tk_depthwise;

/* Plans a convolution. The memory is to be freed. weight (channels, elements), or 0. */
static void *tk_plan_depthwise(const tk_sizes *s, const float *weight, tk_depthwise *d) {
  int64_t across = tk_plane_width(s) * TK_WIDTH;
  *d = (tk_depthwise){.s = s, .elements = s->rows * s->columns, .windows = s->lines * s->places};
  d->blocks = tk_divided(s->channels, TK_WIDTH);
  d->rows = tk_rows_of(s, s->lines);
  d->size = d->rows * across;
  int64_t places = 2 * (d->elements + d->windows) + 16;
  void *memory = tk_new(places + d->blocks * d->elements * TK_WIDTH);
  d->offsets = (int64_t *)tk_aligned(memory);
  d->places = d->offsets + d->elements;
  d->filters = (float *)d->offsets + places / 16 * 16;
  for (int64_t e = 0; e < d->elements; e++)
    d->offsets[e] = e / s->columns * s->apart_down * across +
                    e % s->columns * s->apart_across * TK_WIDTH;
  for (int64_t w = 0; w < d->windows; w++)
    d->places[w] = w / s->places * s->down * across + w % s->places * s->across * TK_WIDTH;
  for (int64_t i = 0; weight && i < d->blocks * TK_WIDTH; i++)
    for (int64_t e = 0; e < d->elements; e++)
      d->filters[(i / TK_WIDTH * d->elements + e) * TK_WIDTH + i % TK_WIDTH] =
          i < s->channels ? weight[i * d->elements + e] : 0;
  return memory;
}

static int64_t tk_lanes_of(const tk_depthwise *d, int64_t block) {
  return tk_min_i64(TK_WIDTH, d->s->channels - block * TK_WIDTH);
}

/* The first channels of a vector. */
static inline TK_WIDE __attribute__((always_inline)) void tk_store_lanes(tk_vector x,
                                                                         int64_t lanes, float *to) {
  if (lanes == TK_WIDTH) {
    *(tk_loaded *)to = x;
    return;
  }
  float kept[TK_WIDTH] __attribute__((aligned(64)));
  *(tk_loaded *)kept = x;
  for (int64_t i = 0; i < lanes; i++) to[i] = kept[i];
}

/* `count`, a constant, windows from one on. */
static inline TK_WIDE __attribute__((always_inline)) void tk_depthwise_tile(
    int count, const tk_depthwise *d, const float *plane, int64_t window, const float *filter,
    tk_vector bias, int64_t lanes, float *y) {
  TK_CONTRACT
  tk_vector sum[TK_TOGETHER];
  const float *from[TK_TOGETHER];
  int64_t elements = d->elements;
  const int64_t *offsets = d->offsets;
#pragma GCC unroll 8
  for (int t = 0; t < count; t++) {
    sum[t] = bias;
    from[t] = plane + d->places[window + t];
  }
  for (int64_t e = 0; e < elements; e++) {
    tk_vector w = *(const tk_loaded *)(filter + e * TK_WIDTH);
#pragma GCC unroll 8
    for (int t = 0; t < count; t++) sum[t] = w * *(const tk_loaded *)(from[t] + offsets[e]) + sum[t];
  }
#pragma GCC unroll 8
  for (int t = 0; t < count; t++) tk_store_lanes(sum[t], lanes, y + t * d->s->channels);
}

/* A block of channels of a sample. */
static TK_WIDE void tk_convolve_blocks(void **memory, int64_t start, int64_t stop) {
  const tk_depthwise *d = memory[0];
  const tk_sizes *s = d->s;
  const float *x = memory[1], *bias = memory[2];
  float *plane = tk_scratch(d->size), *y = memory[3];
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item / d->blocks, block = item % d->blocks, channel = block * TK_WIDTH;
    int64_t lanes = tk_lanes_of(d, block);
    const float *filter = d->filters + block * d->elements * TK_WIDTH;
    float kept[TK_WIDTH] __attribute__((aligned(64))) = {0};
    for (int64_t i = 0; bias && i < lanes; i++) kept[i] = bias[channel + i];
    tk_vector constant = *(const tk_loaded *)kept;
    tk_read_plane(s, x + n * s->x_sample + channel * s->x_channel, lanes, TK_WIDTH, 0, d->rows,
                  plane);
    float *to = y + n * d->windows * s->channels + channel;
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
EXPORT void convolve_depthwise(const tk_sizes *s, const float *x, const float *weight,
                               const float *bias, float *y) {
  tk_depthwise d;
  void *memory = tk_plan_depthwise(s, weight, &d);
  tk_parallel_for(tk_convolve_blocks, (void *[]){&d, (void *)x, (void *)bias, y},
                  s->samples * d.blocks, 1);
  free(memory);
}

/* The cotangent of a block of channels of a sample: a vector for each window, `*step` apart. Where
   it is not so already, a copy in `room`. */
static TK_WIDE const float *tk_block_cotangent(const tk_depthwise *d, const float *c, int64_t n,
                                               int64_t block, float *room, int64_t *step) {
  const tk_sizes *s = d->s;
  int64_t lanes = tk_lanes_of(d, block);
  const float *from = c + n * s->c_sample + block * TK_WIDTH * s->c_channel;
  *step = s->c_column;
  if (s->c_channel == 1 && lanes == TK_WIDTH && s->c_row == s->places * s->c_column) return from;
  for (int64_t line = 0; line < s->lines; line++)
    tk_copy(TK_WIDTH, lanes, s->places, from + line * s->c_row, s->c_channel, s->c_column,
            room + line * s->places * TK_WIDTH);
  *step = TK_WIDTH;
  return room;
}

/* Adds the products of a block's cotangent with `taps`, a constant, elements to a plane. */
static inline TK_WIDE __attribute__((always_inline)) void tk_spread_some_taps(
    int taps, const tk_depthwise *d, float *plane, const int64_t *offsets, const float *filter,
    const float *c, int64_t step) {
  TK_CONTRACT
  tk_vector tap[TK_TAPS];
  float *to[TK_TAPS];
  const int64_t *places = d->places;
  int64_t windows = d->windows;
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) {
    tap[t] = *(const tk_loaded *)(filter + t * TK_WIDTH);
    to[t] = plane + offsets[t];
  }
  for (int64_t w = 0; w < windows; w++, c += step) {
    tk_vector g = *(const tk_loaded *)c;
    int64_t place = places[w];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++)
      *(tk_loaded *)(to[t] + place) = g * tap[t] + *(const tk_loaded *)(to[t] + place);
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
  float *plane = tk_scratch(d->size + d->windows * TK_WIDTH), *x = memory[2];
  for (int64_t item = start; item < stop; item++) {
    int64_t n = item / d->blocks, block = item % d->blocks, lanes = tk_lanes_of(d, block);
    const float *filter = d->filters + block * d->elements * TK_WIDTH;
    const float *c = tk_block_cotangent(d, memory[1], n, block, plane + d->size, &step);
    memset(plane, 0, sizeof(float) * d->size);
#define TK_SPREAD(taps, e)                                                                         \
  tk_spread_some_taps(taps, d, plane, d->offsets + e, filter + e * TK_WIDTH, c, step)
    TK_FOR_TAPS(d->elements, TK_SPREAD);
    float *out = x + n * s->height * s->width * s->channels + block * TK_WIDTH;
    for (int64_t i = 0; i < s->height * s->width; i++, out += s->channels) {
      int64_t r = i / s->width + s->above, column = i % s->width + s->before;
      int inside = r >= 0 && r < d->rows && column >= 0 && column < across;
      tk_vector value = {0};
      if (inside) value = *(const tk_loaded *)(plane + (r * across + column) * TK_WIDTH);
      tk_store_lanes(value, lanes, out);
    }
  }
}

/* x: channels last. */
EXPORT void convolve_depthwise_transposed(const tk_sizes *s, const float *c, const float *weight,
                                          float *x) {
  tk_depthwise d;
  void *memory = tk_plan_depthwise(s, weight, &d);
  tk_parallel_for(tk_spread_blocks, (void *[]){&d, (void *)c, x}, s->samples * d.blocks, 1);
  free(memory);
}

/* Adds to `sums` the products of all windows of a block with `taps`, a constant, elements. */
static inline TK_WIDE __attribute__((always_inline)) void tk_sum_some_taps(
    int taps, const tk_depthwise *d, const float *plane, const int64_t *offsets, const float *c,
    int64_t step, float *sums) {
  TK_CONTRACT
  tk_vector sum[TK_TAPS];
  const float *from[TK_TAPS];
  const int64_t *places = d->places;
  int64_t windows = d->windows;
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) {
    sum[t] = *(const tk_loaded *)(sums + t * TK_WIDTH);
    from[t] = plane + offsets[t];
  }
  for (int64_t w = 0; w < windows; w++, c += step) {
    tk_vector g = *(const tk_loaded *)c;
    int64_t place = places[w];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++) sum[t] = g * *(const tk_loaded *)(from[t] + place) + sum[t];
  }
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) *(tk_loaded *)(sums + t * TK_WIDTH) = sum[t];
}

/* The sums of a block of channels. */
static TK_WIDE void tk_sum_blocks(void **memory, int64_t start, int64_t stop) {
  const tk_depthwise *d = memory[0];
  const tk_sizes *s = d->s;
  const float *x = memory[1];
  int64_t step, elements = d->elements;
  float *plane = tk_scratch(d->size + (d->windows + elements) * TK_WIDTH), *weight = memory[3];
  float *sums = plane + d->size + d->windows * TK_WIDTH;
  for (int64_t block = start; block < stop; block++) {
    int64_t lanes = tk_lanes_of(d, block), channel = block * TK_WIDTH;
    memset(sums, 0, sizeof(float) * elements * TK_WIDTH);
    for (int64_t n = 0; n < s->samples; n++) {
      tk_read_plane(s, x + n * s->x_sample + channel * s->x_channel, lanes, TK_WIDTH, 0, d->rows,
                    plane);
      const float *c = tk_block_cotangent(d, memory[2], n, block, plane + d->size, &step);
#define TK_SUM(taps, e)                                                                            \
  tk_sum_some_taps(taps, d, plane, d->offsets + e, c, step, sums + e * TK_WIDTH)
      TK_FOR_TAPS(elements, TK_SUM);
    }
    for (int64_t i = 0; i < lanes; i++)
      for (int64_t e = 0; e < elements; e++)
        weight[(channel + i) * elements + e] = sums[e * TK_WIDTH + i];
  }
}

/* The gradient (channels, elements) of the weight. */
EXPORT void convolve_depthwise_weight(const tk_sizes *s, const float *x, const float *c,
                                      float *weight) {
  tk_depthwise d;
  void *memory = tk_plan_depthwise(s, 0, &d);
  tk_parallel_for(tk_sum_blocks, (void *[]){&d, (void *)x, (void *)c, weight}, d.blocks, 1);
  free(memory);
}
