/* The text of grouped.h for vectors of LANES float32. NAME(name) is a name of that width. */

typedef float NAME(tk_lanes) __attribute__((vector_size(4 * LANES)));
typedef float NAME(tk_read) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(tk_bits) __attribute__((vector_size(4 * LANES)));
typedef int32_t NAME(tk_mask) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* The first `count` elements of a vector, at most LANES; zeros beyond. */
static inline TK_WIDE __attribute__((always_inline)) NAME(tk_lanes) NAME(tk_first)(
    NAME(tk_lanes) x, int64_t count) {
  return (NAME(tk_lanes))((NAME(tk_bits))x & *(const NAME(tk_mask) *)(tk_masks + 16 - count));
}

/* `height` lines, a constant, of two vectors of windows of one output, which may overlap. `x`: where
   the first window begins; the second lies `apart` to the right. */
static inline TK_WIDE __attribute__((always_inline)) void NAME(tk_block_of_windows)(
    int height, const tk_groups *g, const float *x, int64_t apart, const int64_t *offsets,
    const float *weight, float bias, float *y) {
  TK_CONTRACT
  const tk_sizes *s = &g->all;
  int64_t elements = s->rows * s->columns, pitch = s->down * g->plane_width;
  NAME(tk_lanes) sum[4][2];
  for (int i = 0; i < height; i++) sum[i][0] = sum[i][1] = bias - (NAME(tk_lanes)){0};
  for (int64_t c = 0; c < g->ins; c++, x += g->plane)
    for (int64_t e = 0; e < elements; e++) {
      NAME(tk_lanes) w = *weight++ - (NAME(tk_lanes)){0};
      const float *from = x + offsets[e];
#pragma GCC unroll 4
      for (int i = 0; i < height; i++, from += pitch) {
        sum[i][0] = w * *(const NAME(tk_read) *)from + sum[i][0];
        sum[i][1] = w * *(const NAME(tk_read) *)(from + apart) + sum[i][1];
      }
    }
#pragma GCC unroll 4
  for (int i = 0; i < height; i++, y += s->places) {
    *(NAME(tk_read) *)y = sum[i][0];
    *(NAME(tk_read) *)(y + apart) = sum[i][1];
  }
}

/* All windows of one output: at least LANES in a line. Blocks at the edges overlap. */
static TK_WIDE void NAME(tk_windows)(const tk_groups *g, const float *planes,
                                     const int64_t *offsets, const float *weight, float bias,
                                     float *y) {
  const tk_sizes *s = &g->all;
  int64_t step = s->down * g->plane_width, last = s->places - LANES;
  for (int64_t place = 0; place < s->places; place += 2 * LANES) {
    int64_t first = tk_min_i64(place, last), apart = tk_min_i64(place + LANES, last) - first;
    if (s->lines < 4) {
      for (int64_t i = 0; i < s->lines; i++)
        NAME(tk_block_of_windows)(1, g, planes + i * step + first, apart, offsets, weight, bias,
                                  y + i * s->places + first);
      continue;
    }
    for (int64_t line = 0; line < s->lines; line += 4) {
      int64_t i = tk_min_i64(line, s->lines - 4);
      NAME(tk_block_of_windows)(4, g, planes + i * step + first, apart, offsets, weight, bias,
                                y + i * s->places + first);
    }
  }
}

/* Adds to `sums`, TK_WIDTH apart, the products of all windows of a cotangent with x, for `taps`, a
   constant, elements of a filter. */
static inline TK_WIDE __attribute__((always_inline)) void NAME(tk_sum_taps)(
    int taps, const tk_sizes *s, const float *c, const float *x, const int64_t *offsets,
    int64_t step, float *sums) {
  TK_CONTRACT
  NAME(tk_lanes) sum[9];
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) sum[t] = *(NAME(tk_read) *)(sums + t * TK_WIDTH);
  for (int64_t line = 0; line < s->lines; line++, x += step, c += s->places) {
    int64_t place = 0;
    for (; place + LANES <= s->places; place += LANES) {
      NAME(tk_lanes) g = *(const NAME(tk_read) *)(c + place);
#pragma GCC unroll 9
      for (int t = 0; t < taps; t++)
        sum[t] = g * *(const NAME(tk_read) *)(x + offsets[t] + place) + sum[t];
    }
    if (place == s->places) continue;
    int64_t rest = s->places - place;
    NAME(tk_lanes) g = NAME(tk_first)(*(const NAME(tk_read) *)(c + place), rest);
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++)
      sum[t] += g * NAME(tk_first)(*(const NAME(tk_read) *)(x + offsets[t] + place), rest);
  }
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) *(NAME(tk_read) *)(sums + t * TK_WIDTH) = sum[t];
}

/* The same for all elements of a filter. */
static TK_WIDE void NAME(tk_sum_filter)(const tk_sizes *s, const float *c, const float *x,
                                        const int64_t *offsets, int64_t step, float *sums) {
  int64_t elements = s->rows * s->columns, e = 0;
  for (; e + 9 <= elements; e += 9)
    NAME(tk_sum_taps)(9, s, c, x, offsets + e, step, sums + e * TK_WIDTH);
  for (; e < elements; e++) NAME(tk_sum_taps)(1, s, c, x, offsets + e, step, sums + e * TK_WIDTH);
}

/* Adds w times a cotangent to where its windows meet one element of the filter in a plane. */
static TK_WIDE void NAME(tk_spread)(const tk_groups *g, float w, const float *c, float *to) {
  TK_CONTRACT
  const tk_sizes *s = &g->all;
  for (int64_t line = 0; line < s->lines; line++, c += s->places) {
    float *x = to + line * s->down * g->plane_width;
    int64_t place = 0;
    for (; place + LANES <= s->places; place += LANES)
      *(NAME(tk_read) *)(x + place) = w * *(const NAME(tk_read) *)(c + place) +
                                      *(const NAME(tk_read) *)(x + place);
    if (place < s->places)
      *(NAME(tk_read) *)(x + place) +=
          NAME(tk_first)(w * *(const NAME(tk_read) *)(c + place), s->places - place);
  }
}
