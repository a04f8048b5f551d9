/* Convolutions of float32 in groups of few channels, for eager mode: a sum over the elements of a
   filter for TK_WIDTH neighbouring windows at once. A product of matrices would be of a handful of
   columns. Channels come first, dense, in what is written; sums do not depend on the number of
   cores. */

typedef struct {
  tk_sizes all;                    /* `channels` and `outputs` of all groups */
  int64_t groups;
  int64_t ins, outs;               /* of a group */
  int64_t plane_rows, plane_width; /* a padded channel; columns that a step of `across` joins lie
                                      side by side, in `all.across` parts of plane_width columns */
  int64_t plane;                   /* elements */
} tk_groups;

static tk_groups tk_grouped(const tk_sizes *s, int64_t groups) {
  tk_groups g = {.all = *s, .groups = groups, .ins = s->channels / groups,
                 .outs = s->outputs / groups};
  int64_t reach = (s->places - 1) * s->across + (s->columns - 1) * s->apart_across + 1;
  g.plane_rows = (s->lines - 1) * s->down + (s->rows - 1) * s->apart_down + 1;
  g.plane_width = (reach + s->across - 1) / s->across;
  g.plane = s->across * g.plane_rows * g.plane_width;
  return g;
}

/* Where the elements that a filter's element (a, b) meets begin in a plane. */
static inline int64_t tk_offset(const tk_groups *g, int64_t a, int64_t b) {
  int64_t column = b * g->all.apart_across;
  int64_t part = column % g->all.across * g->plane_rows + a * g->all.apart_down;
  return part * g->plane_width + column / g->all.across;
}

/* A channel: read into a plane with zeros around it, or written from one. step: the stride of its
   elements that lie side by side in a plane. */
static inline __attribute__((always_inline)) void tk_move_plane(
    const tk_groups *g, float *x, int64_t x_row, int64_t x_column, int64_t step, float *plane,
    int write) {
  const tk_sizes *s = &g->all;
  if (!write) memset(plane, 0, sizeof(float) * g->plane);
  for (int64_t part = 0; part < s->across; part++)
    for (int64_t r = 0; r < g->plane_rows; r++, plane += g->plane_width) {
      int64_t row = r - s->above, first = part - s->before;
      if (row < 0 || row >= s->height) continue;
      int64_t start = first < 0 ? (s->across - 1 - first) / s->across : 0;
      int64_t stop = tk_min_i64(g->plane_width, (s->width - first + s->across - 1) / s->across);
      float *from = x + row * x_row + first * x_column;
      for (int64_t i = start; i < stop; i++) {
        if (write) from[i * step] = plane[i];
        else plane[i] = from[i * step];
      }
    }
}

static inline void tk_read_planes(const tk_groups *g, const float *x, int64_t sample,
                                  int64_t group, float *planes) {
  const tk_sizes *s = &g->all;
  for (int64_t c = 0; c < g->ins; c++) {
    float *from = (float *)x + sample * s->x_sample + (group * g->ins + c) * s->x_channel;
    float *to = planes + c * g->plane;
    int64_t step = s->across * s->x_column;
    if (step == 1) tk_move_plane(g, from, s->x_row, 1, 1, to, 0);
    else tk_move_plane(g, from, s->x_row, s->x_column, step, to, 0);
  }
}

typedef int32_t tk_lanes __attribute__((vector_size(TK_BYTES)));

/* The first `count` elements of a vector; zeros beyond. */
static inline TK_WIDE __attribute__((always_inline)) tk_vector tk_first(tk_vector x,
                                                                        int64_t count) {
  static const int32_t lanes[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  typedef int32_t loaded __attribute__((vector_size(TK_BYTES), aligned(4), may_alias));
  return (tk_vector)((tk_lanes)x & *(const loaded *)(lanes + 16 - tk_min_i64(count, TK_WIDTH)));
}

/* Stores the first `count` elements. */
static inline TK_WIDE __attribute__((always_inline)) void tk_put(float *to, tk_vector x,
                                                                 int64_t count) {
  if (count >= TK_WIDTH) {
    *(tk_loaded *)to = x;
    return;
  }
  float kept[TK_WIDTH] __attribute__((aligned(TK_BYTES)));
  *(tk_vector *)kept = x;
  for (int64_t i = 0; count >= 4 && i < count; i += 4) {
    int64_t at = tk_min_i64(i, count - 4);
    *(tk_near_four *)(to + at) = *(const tk_near_four *)(kept + at);
  }
  for (int64_t i = 0; count < 4 && i < count; i++) to[i] = kept[i];
}

/* `height` lines, a constant, of TK_WIDTH windows of one output; `rest` windows are stored. */
static inline TK_WIDE __attribute__((always_inline)) void tk_windows(
    int height, const tk_groups *g, const float *planes, const int64_t *offsets,
    const float *weight, float bias, float *y, int64_t rest) {
  TK_CONTRACT
  const tk_sizes *s = &g->all;
  int64_t elements = s->rows * s->columns, pitch = s->down * g->plane_width;
  tk_vector sum[4];
  for (int i = 0; i < height; i++) sum[i] = bias - (tk_vector){0};
  for (int64_t c = 0; c < g->ins; c++, planes += g->plane)
    for (int64_t e = 0; e < elements; e++) {
      tk_vector w = *weight++ - (tk_vector){0};
      const float *x = planes + offsets[e];
      for (int i = 0; i < height; i++)
        sum[i] = w * *(const tk_loaded *)(x + i * pitch) + sum[i];
    }
  for (int i = 0; i < height; i++) tk_put(y + i * s->places, sum[i], rest);
}

static int64_t *tk_offsets(const tk_groups *g, int64_t *room) {
  for (int64_t a = 0, e = 0; a < g->all.rows; a++)
    for (int64_t b = 0; b < g->all.columns; b++) room[e++] = tk_offset(g, a, b);
  return room;
}

static TK_WIDE void tk_convolve_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const float *weight = memory[2], *bias = memory[3];
  int64_t offsets[TK_MOST], features = g->ins * s->rows * s->columns;
  float *planes = tk_scratch(g->ins * g->plane + TK_WIDTH), *y = memory[4];
  tk_offsets(g, offsets);
  for (int64_t item = start; item < stop; item++) {
    tk_read_planes(g, memory[1], item / g->groups, item % g->groups, planes);
    for (int64_t o = item % g->groups * g->outs, end = o + g->outs; o < end; o++) {
      float *to = y + (item / g->groups * s->outputs + o) * s->lines * s->places;
      const float *filter = weight + o * features;
      float constant = bias ? bias[o] : 0;
      for (int64_t place = 0; place < s->places; place += TK_WIDTH) {
        const float *x = planes + place;
        int64_t line = 0, rest = s->places - place, step = s->down * g->plane_width;
        for (; line + 4 <= s->lines; line += 4)
          tk_windows(4, g, x + line * step, offsets, filter, constant,
                     to + line * s->places + place, rest);
        for (; line < s->lines; line++)
          tk_windows(1, g, x + line * step, offsets, filter, constant,
                     to + line * s->places + place, rest);
      }
    }
  }
}

EXPORT void convolve_groups(const tk_sizes *s, int64_t groups, const float *x, const float *weight,
                            const float *bias, float *y) {
  tk_groups g = tk_grouped(s, groups);
  tk_parallel_for(tk_convolve_groups,
                  (void *[]){&g, (void *)x, (void *)weight, (void *)bias, y},
                  s->samples * groups, 1 + groups / 4);
}

static TK_WIDE void tk_spread_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const float *c = memory[1], *weight = memory[2];
  int64_t offsets[TK_MOST], elements = s->rows * s->columns, features = g->ins * elements;
  int64_t windows = s->lines * s->places;
  float *plane = tk_scratch(g->plane + windows + 2 * TK_WIDTH), *x = memory[3];
  float *copy = plane + g->plane + TK_WIDTH;
  tk_offsets(g, offsets);
  for (int64_t item = start; item < stop; item++) { /* a channel of a sample */
    int64_t sample = item / s->channels, channel = item % s->channels;
    int64_t group = channel / g->ins;
    memset(plane, 0, sizeof(float) * g->plane);
    for (int64_t o = group * g->outs; o < (group + 1) * g->outs; o++) {
      const float *filter = weight + o * features + channel % g->ins * elements;
      memcpy(copy, c + (sample * s->outputs + o) * windows, sizeof(float) * windows);
      for (int64_t e = 0; e < elements; e++) {
        tk_vector w = filter[e] - (tk_vector){0};
        for (int64_t line = 0; line < s->lines; line++) {
          float *to = plane + offsets[e] + line * s->down * g->plane_width;
          for (int64_t place = 0; place < s->places; place += TK_WIDTH) {
            tk_vector value = w * *(const tk_loaded *)(copy + line * s->places + place);
            *(tk_loaded *)(to + place) += tk_first(value, s->places - place);
          }
        }
      }
    }
    float *to = x + item * s->height * s->width;
    memset(to, 0, sizeof(float) * s->height * s->width);
    if (s->across == 1) tk_move_plane(g, to, s->width, 1, 1, plane, 1);
    else tk_move_plane(g, to, s->width, 1, s->across, plane, 1);
  }
}

EXPORT void convolve_groups_transposed(const tk_sizes *s, int64_t groups, const float *c,
                                       const float *weight, float *x) {
  tk_groups g = tk_grouped(s, groups);
  tk_parallel_for(tk_spread_groups, (void *[]){&g, (void *)c, (void *)weight, x},
                  s->samples * s->channels, 1 + s->channels / 4);
}

/* The sum of the products of all windows of a cotangent with x, whose lines are `step` apart. */
static inline TK_WIDE __attribute__((always_inline)) tk_vector tk_sum_lines(
    const tk_sizes *s, const float *c, const float *x, int64_t step) {
  TK_CONTRACT
  tk_vector sum = {0}, other = {0};
  for (int64_t place = 0; place < s->places; place += TK_WIDTH) {
    int64_t rest = s->places - place, line = 0;
    for (; line + 2 <= s->lines; line += 2) {
      const float *a = c + line * s->places + place, *b = x + line * step + place;
      sum = tk_first(*(const tk_loaded *)a, rest) * tk_first(*(const tk_loaded *)b, rest) + sum;
      a += s->places;
      b += step;
      other =
          tk_first(*(const tk_loaded *)a, rest) * tk_first(*(const tk_loaded *)b, rest) + other;
    }
    if (line < s->lines) {
      const float *a = c + line * s->places + place, *b = x + line * step + place;
      sum = tk_first(*(const tk_loaded *)a, rest) * tk_first(*(const tk_loaded *)b, rest) + sum;
    }
  }
  return sum + other;
}

/* The sum of a vector's elements: of halves, then of quarters, ... */
static float tk_added(float *sums) {
  for (int half = TK_WIDTH / 2; half; half /= 2)
    for (int i = 0; i < half; i++) sums[i] += sums[i + half];
  return *sums;
}

/* The sums of one group: a vector for each element of its filters. */
static TK_WIDE void tk_sum_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const float *c = memory[2];
  int64_t offsets[TK_MOST], elements = s->rows * s->columns, features = g->ins * elements;
  int64_t count = g->outs * features, step = s->down * g->plane_width;
  int64_t windows = s->lines * s->places, room = g->ins * g->plane + TK_WIDTH;
  float *sums = tk_scratch(count * TK_WIDTH + room + windows + TK_WIDTH), *weight = memory[3];
  float *planes = sums + count * TK_WIDTH, *copy = planes + room;
  tk_offsets(g, offsets);
  for (int64_t group = start; group < stop; group++) {
    memset(sums, 0, sizeof(float) * count * TK_WIDTH);
    for (int64_t n = 0; n < s->samples; n++) {
      tk_read_planes(g, memory[1], n, group, planes);
      for (int64_t i = 0; i < count; i++) {
        int64_t o = i / features, f = i % features;
        const float *from = c + (n * s->outputs + group * g->outs + o) * windows;
        const float *x = planes + f / elements * g->plane + offsets[f % elements];
        if (f == 0) memcpy(copy, from, sizeof(float) * windows);
        *(tk_loaded *)(sums + i * TK_WIDTH) += tk_sum_lines(s, copy, x, step);
      }
    }
    for (int64_t i = 0; i < count; i++)
      weight[group * count + i] = tk_added(sums + i * TK_WIDTH);
  }
}

/* The gradient of the weight (outputs, channels of a group, rows, columns). */
EXPORT void convolve_groups_weight(const tk_sizes *s, int64_t groups, const float *x,
                                   const float *c, float *weight) {
  tk_groups g = tk_grouped(s, groups);
  tk_parallel_for(tk_sum_groups, (void *[]){&g, (void *)x, (void *)c, weight}, groups,
                  1 + groups / 16);
}
