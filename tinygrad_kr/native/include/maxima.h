/* Maxima of windows and of an element and 0, and their derivatives. */

enum { TK_PART = 8192, TK_ROOM = 256 }; /* elements that a thread takes at once; of scratch */

/* ------------------------------------------------------------------ relu */

static void tk_relu_of(int64_t n, const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] <= 0 ? 0 : x[i];
}

/* g where y is not 0. */
static void tk_relu_vjp_of(int64_t n, const TK_REAL *restrict g, const TK_REAL *restrict y,
                           TK_REAL *restrict dx) {
  for (int64_t i = 0; i < n; i++) dx[i] = y[i] == 0 ? 0 : g[i];
}

static void tk_relu_part(void **memory, int64_t start, int64_t stop) {
  tk_relu_of(stop - start, (const TK_REAL *)memory[0] + start, (TK_REAL *)memory[1] + start);
}

static void tk_relu_vjp_part(void **memory, int64_t start, int64_t stop) {
  tk_relu_vjp_of(stop - start, (const TK_REAL *)memory[0] + start,
                 (const TK_REAL *)memory[1] + start, (TK_REAL *)memory[2] + start);
}

/* given: the number of elements, then the addresses of the arrays. */
static int64_t tk_parts_of(const int64_t *given, tk_work_piece work, tk_share_work share) {
  void *memory[3];
  for (int i = 0; i < 3; i++) memory[i] = (void *)(intptr_t)given[i + 1];
  if (share)
    share(work, memory, given[0], TK_PART);
  else
    work(memory, 0, given[0]);
  return 0;
}

EXPORT int64_t relu(const int64_t *given, tk_share_work share) {
  return tk_parts_of(given, tk_relu_part, share);
}

EXPORT int64_t relu_vjp(const int64_t *given, tk_share_work share) {
  return tk_parts_of(given, tk_relu_vjp_part, share);
}

/* ------------------------------------------------------------------ windows */

/* Planes are dense: [height][width][channels], one channel where channels come first. */
typedef struct {
  int64_t planes, height, width, channels, lines, places; /* the last two: number of windows */
  int64_t rows, columns, down, across;                    /* of a window, and its strides */
  int64_t apart_down, apart_across, step; /* dilation; planes that a thread takes at once */
  const TK_REAL *x, *g;
  TK_REAL *y, *dx;
} tk_windows;

/* Elements of windows that lie side by side: all channels of a window, or windows of a line. */
static int64_t tk_run(const tk_windows *s) { return s->channels > 1 ? s->channels : s->places; }

static int64_t tk_runs(const tk_windows *s) { return s->lines * s->places * s->channels / tk_run(s); }

/* Where in a plane the first element of the windows of a run is. */
static int64_t tk_start(const tk_windows *s, int64_t run) {
  int64_t line = s->channels > 1 ? run / s->places : run;
  int64_t place = s->channels > 1 ? run % s->places : 0;
  return (line * s->down * s->width + place * s->across) * s->channels;
}

static int64_t tk_offset(const tk_windows *s, int64_t row, int64_t column) {
  return (row * s->apart_down * s->width + column * s->apart_across) * s->channels;
}

/* NaN wins. */
TK_INLINE void tk_larger(int64_t n, int64_t step, const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL value = x[j * step];
    y[j] = value <= y[j] || y[j] != y[j] ? y[j] : value;
  }
}

/* Adds what is left of the cotangent where x is the maximum y, and takes it from what is left. */
TK_INLINE void tk_give(int64_t n, int64_t step, const TK_REAL *restrict x,
                       const TK_REAL *restrict y, TK_REAL *restrict left, TK_REAL *restrict dx) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL value = x[j * step], largest = y[j];
    int found = (value == largest) | ((value != value) & (largest != largest));
    dx[j * step] += found ? left[j] : 0;
    left[j] = found ? 0 : left[j];
  }
}

static void tk_maxima_of_run(const tk_windows *s, int64_t n, int64_t step, const TK_REAL *x,
                             TK_REAL *y) {
  for (int64_t j = 0; j < n; j++) y[j] = x[j * step];
  for (int64_t a = 0; a < s->rows; a++)
    for (int64_t b = a ? 0 : 1; b < s->columns; b++) {
      const TK_REAL *from = x + tk_offset(s, a, b);
      if (step == 1) tk_larger(n, 1, from, y);
      else if (step == 2) tk_larger(n, 2, from, y);
      else tk_larger(n, step, from, y);
    }
}

static void tk_spread_run(const tk_windows *s, int64_t n, int64_t step, const TK_REAL *g,
                          const TK_REAL *x, const TK_REAL *y, TK_REAL *dx) {
  TK_REAL left[TK_ROOM];
  for (int64_t first = 0; first < n; first += TK_ROOM) {
    int64_t count = n - first < TK_ROOM ? n - first : TK_ROOM;
    memcpy(left, g + first, sizeof(TK_REAL) * count);
    for (int64_t a = 0; a < s->rows; a++)
      for (int64_t b = 0; b < s->columns; b++) {
        int64_t at = tk_offset(s, a, b) + first * step;
        if (step == 1) tk_give(count, 1, x + at, y + first, left, dx + at);
        else if (step == 2) tk_give(count, 2, x + at, y + first, left, dx + at);
        else tk_give(count, step, x + at, y + first, left, dx + at);
      }
  }
}

static void tk_maxima_of_planes(void **memory, int64_t start, int64_t stop) {
  const tk_windows *s = memory[0];
  int64_t plane = s->height * s->width * s->channels, runs = tk_runs(s), n = tk_run(s);
  int64_t step = s->channels > 1 ? 1 : s->across;
  for (int64_t p = start; p < stop; p++)
    for (int64_t run = 0; run < runs; run++)
      tk_maxima_of_run(s, n, step, s->x + p * plane + tk_start(s, run),
                       s->y + (p * runs + run) * n);
}

static void tk_spread_planes(void **memory, int64_t start, int64_t stop) {
  const tk_windows *s = memory[0];
  int64_t plane = s->height * s->width * s->channels, runs = tk_runs(s), n = tk_run(s);
  int64_t step = s->channels > 1 ? 1 : s->across;
  for (int64_t p = start; p < stop; p++) {
    memset(s->dx + p * plane, 0, sizeof(TK_REAL) * plane);
    for (int64_t run = 0; run < runs; run++) {
      int64_t from = p * plane + tk_start(s, run), to = (p * runs + run) * n;
      tk_spread_run(s, n, step, s->g + to, s->x + from, s->y + to, s->dx + from);
    }
  }
}

/* given: the numbers and addresses of `tk_windows`, in order. */
static int64_t tk_each_plane(const int64_t *given, tk_work_piece work, tk_share_work share) {
  tk_windows s;
  int64_t *numbers[] = {&s.planes,  &s.height, &s.width,  &s.channels,   &s.lines,
                        &s.places,  &s.rows,   &s.columns, &s.down,      &s.across,
                        &s.apart_down, &s.apart_across, &s.step};
  for (int i = 0; i < 13; i++) *numbers[i] = given[i];
  s.x = (const TK_REAL *)(intptr_t)given[13];
  s.g = (const TK_REAL *)(intptr_t)given[14];
  s.y = (TK_REAL *)(intptr_t)given[15];
  s.dx = (TK_REAL *)(intptr_t)given[16];
  void *memory[1] = {&s};
  if (share)
    share(work, memory, s.planes, s.step);
  else
    work(memory, 0, s.planes);
  return 0;
}

EXPORT int64_t max_pool(const int64_t *given, tk_share_work share) {
  return tk_each_plane(given, tk_maxima_of_planes, share);
}

EXPORT int64_t max_pool_vjp(const int64_t *given, tk_share_work share) {
  return tk_each_plane(given, tk_spread_planes, share);
}
