/* Convolutions of float32 in groups of few channels, for eager mode: a sum over the elements of a
   filter for neighbouring windows at once. A product of matrices would be of a handful of
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

/* A row of a channel: `count` elements, `step` apart outside of a plane. */
static inline __attribute__((always_inline)) void tk_move_row(float *x, int64_t step,
                                                              float *plane, int64_t count,
                                                              int write) {
  if (step == 1 && count >= 4) { /* the last vector overlaps the one before */
    for (int64_t i = 0; i < count; i += 4) {
      int64_t at = tk_min_i64(i, count - 4);
      if (write) *(tk_near_four *)(x + at) = *(tk_near_four *)(plane + at);
      else *(tk_near_four *)(plane + at) = *(tk_near_four *)(x + at);
    }
    return;
  }
  if (step == 2 && count >= 4 && !write) { /* of seven elements every other */
    for (int64_t i = 0; i < count; i += 4) {
      int64_t at = tk_min_i64(i, count - 4);
      tk_four first = *(const tk_near_four *)(x + 2 * at);
      tk_four last = *(const tk_near_four *)(x + 2 * at + 3);
      *(tk_near_four *)(plane + at) = TK_SHUFFLE(tk_places_f32, first, last, 0, 2, 5, 7);
    }
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    if (write) x[i * step] = plane[i];
    else plane[i] = x[i * step];
  }
}

/* A channel: read into a plane with zeros around it, which are there already, or written from one.
   across: that of the windows, a constant where that saves divisions. */
static inline __attribute__((always_inline)) void tk_move_plane(
    const tk_groups *g, int64_t across, float *x, int64_t x_row, int64_t x_column, float *plane,
    int write) {
  const tk_sizes *s = &g->all;
  int64_t step = across * x_column;
  for (int64_t part = 0; part < across; part++) {
    int64_t first = part - s->before;
    int64_t start = first < 0 ? (across - 1 - first) / across : 0;
    int64_t stop = tk_min_i64(g->plane_width, (s->width - first + across - 1) / across);
    int64_t top = tk_min_i64(s->above, g->plane_rows);
    int64_t bottom = tk_min_i64(g->plane_rows, s->height + s->above);
    float *to = plane + part * g->plane_rows * g->plane_width + start;
    for (int64_t r = top; r < bottom && start < stop; r++) {
      float *from = x + (r - s->above) * x_row + first * x_column + start * step;
      if (step == 1) tk_move_row(from, 1, to + r * g->plane_width, stop - start, write);
      else if (step == 2) tk_move_row(from, 2, to + r * g->plane_width, stop - start, write);
      else tk_move_row(from, step, to + r * g->plane_width, stop - start, write);
    }
  }
}

static inline void tk_read_planes(const tk_groups *g, const float *x, int64_t sample,
                                  int64_t group, float *planes) {
  const tk_sizes *s = &g->all;
  for (int64_t c = 0; c < g->ins; c++) {
    float *from = (float *)x + sample * s->x_sample + (group * g->ins + c) * s->x_channel;
    float *to = planes + c * g->plane;
    if (s->across == 1) tk_move_plane(g, 1, from, s->x_row, s->x_column, to, 0);
    else if (s->across == 2) tk_move_plane(g, 2, from, s->x_row, s->x_column, to, 0);
    else tk_move_plane(g, s->across, from, s->x_row, s->x_column, to, 0);
  }
}

/* All bits of 16 elements, then none of 16: a mask of the first n begins at 16 - n. */
static const int32_t tk_masks[32] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                     -1, -1, -1, -1, -1, -1, -1, -1};

#define LANES 4
#define NAME(name) name##_4
#include "lanes.h"
#undef LANES
#undef NAME
#if TK_WIDTH >= 8
#define LANES 8
#define NAME(name) name##_8
#include "lanes.h"
#undef LANES
#undef NAME
#endif
#if TK_WIDTH >= 16
#define LANES 16
#define NAME(name) name##_16
#include "lanes.h"
#undef LANES
#undef NAME
#endif

/* Calls the function `name` for the widest vectors of which a line of windows has one. */
#if TK_WIDTH == 16
#define TK_WIDEST(places, name, ...)                                                               \
  (places >= 16 ? name##_16(__VA_ARGS__) : places >= 8 ? name##_8(__VA_ARGS__)                     \
                                                       : name##_4(__VA_ARGS__))
#elif TK_WIDTH == 8
#define TK_WIDEST(places, name, ...)                                                               \
  (places >= 8 ? name##_8(__VA_ARGS__) : name##_4(__VA_ARGS__))
#else
#define TK_WIDEST(places, name, ...) name##_4(__VA_ARGS__)
#endif

static int64_t *tk_offsets(const tk_groups *g, int64_t *room) {
  for (int64_t a = 0, e = 0; a < g->all.rows; a++)
    for (int64_t b = 0; b < g->all.columns; b++) room[e++] = tk_offset(g, a, b);
  return room;
}

/* All windows of one output where a line has fewer than a vector. */
static void tk_few_windows(const tk_groups *g, const float *planes, const int64_t *offsets,
                           const float *weight, float bias, float *y) {
  const tk_sizes *s = &g->all;
  int64_t elements = s->rows * s->columns;
  for (int64_t i = 0; i < s->lines * s->places; i++) {
    const float *x = planes + i / s->places * s->down * g->plane_width + i % s->places;
    float sum = bias;
    for (int64_t c = 0; c < g->ins; c++)
      for (int64_t e = 0; e < elements; e++)
        sum += weight[c * elements + e] * x[c * g->plane + offsets[e]];
    y[i] = sum;
  }
}

static TK_WIDE void tk_convolve_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const float *weight = memory[2], *bias = memory[3];
  int64_t offsets[TK_MOST], features = g->ins * s->rows * s->columns;
  float *planes = tk_scratch(g->ins * g->plane + TK_WIDTH), *y = memory[4];
  tk_offsets(g, offsets);
  memset(planes, 0, sizeof(float) * g->ins * g->plane);
  for (int64_t item = start; item < stop; item++) {
    tk_read_planes(g, memory[1], item / g->groups, item % g->groups, planes);
    for (int64_t o = item % g->groups * g->outs, end = o + g->outs; o < end; o++) {
      float *to = y + (item / g->groups * s->outputs + o) * s->lines * s->places;
      const float *filter = weight + o * features;
      float constant = bias ? bias[o] : 0;
      if (s->places < 4) tk_few_windows(g, planes, offsets, filter, constant, to);
      else TK_WIDEST(s->places, tk_windows, g, planes, offsets, filter, constant, to);
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

/* The cotangent of one output of one sample; near the end of c a copy, as vectors read beyond. */
static const float *tk_cotangent(const tk_sizes *s, const float *c, int64_t item, float *copy) {
  int64_t windows = s->lines * s->places, after = s->samples * s->outputs - 1 - item;
  const float *from = c + item * windows;
  return after * windows < TK_WIDTH ? memcpy(copy, from, sizeof(float) * windows) : from;
}

static TK_WIDE void tk_spread_groups(void **memory, int64_t start, int64_t stop) {
  const tk_groups *g = memory[0];
  const tk_sizes *s = &g->all;
  const float *c = memory[1], *weight = memory[2];
  int64_t offsets[TK_MOST], elements = s->rows * s->columns, features = g->ins * elements;
  int64_t windows = s->lines * s->places;
  float *plane = tk_scratch(g->plane + windows + 2 * TK_WIDTH), *x = memory[3];
  float *last = plane + g->plane + TK_WIDTH;
  tk_offsets(g, offsets);
  for (int64_t n = start; n < stop; n++) { /* a channel of a sample */
    int64_t sample = n / s->channels, channel = n % s->channels;
    int64_t group = channel / g->ins;
    memset(plane, 0, sizeof(float) * g->plane);
    for (int64_t o = group * g->outs; o < (group + 1) * g->outs; o++) {
      int64_t item = sample * s->outputs + o;
      const float *from = tk_cotangent(s, c, item, last);
      const float *filter = weight + o * features + channel % g->ins * elements;
      for (int64_t e = 0; e < elements; e++)
        TK_WIDEST(s->places, tk_spread, g, filter[e], from, plane + offsets[e]);
    }
    float *to = x + n * s->height * s->width;
    memset(to, 0, sizeof(float) * s->height * s->width);
    if (s->across == 2) tk_move_plane(g, 2, to, s->width, 1, plane, 1);
    else tk_move_plane(g, s->across, to, s->width, 1, plane, 1);
  }
}

EXPORT void convolve_groups_transposed(const tk_sizes *s, int64_t groups, const float *c,
                                       const float *weight, float *x) {
  tk_groups g = tk_grouped(s, groups);
  tk_parallel_for(tk_spread_groups, (void *[]){&g, (void *)c, (void *)weight, x},
                  s->samples * s->channels, 1 + s->channels / 4);
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
  float *planes = sums + count * TK_WIDTH, *last = planes + room;
  tk_offsets(g, offsets);
  memset(planes, 0, sizeof(float) * g->ins * g->plane);
  for (int64_t group = start; group < stop; group++) {
    memset(sums, 0, sizeof(float) * count * TK_WIDTH);
    for (int64_t n = 0; n < s->samples; n++) {
      tk_read_planes(g, memory[1], n, group, planes);
      for (int64_t i = 0; i < g->outs * g->ins; i++) {
        int64_t item = n * s->outputs + group * g->outs + i / g->ins;
        const float *from = tk_cotangent(s, c, item, last), *x = planes + i % g->ins * g->plane;
        TK_WIDEST(s->places, tk_sum_filter, s, from, x, offsets, step,
                  sums + i * elements * TK_WIDTH);
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
