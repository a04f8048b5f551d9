/* Maxima and sums of windows, and their derivatives. */

enum { TK_ROOM = 256 }; /* elements of scratch */

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
    TK_REAL value = x[j * step], known = y[j];
    y[j] = (value <= known) | (known != known) ? known : value;
  }
}

/* Adds what is left of the cotangent where x is the maximum y, and takes it from what is left.
   Each element is read before the choice: a read inside of it would be a branch, and no vector. */
TK_INLINE void tk_give(int64_t n, int64_t step, const TK_REAL *restrict x,
                       const TK_REAL *restrict y, TK_REAL *restrict left, TK_REAL *restrict dx) {
  for (int64_t j = 0; j < n; j++) {
    TK_REAL value = x[j * step], largest = y[j], rest = left[j], sum = dx[j * step] + rest;
    int found = (value == largest) | ((value != value) & (largest != largest));
    dx[j * step] = found ? sum : dx[j * step];
    left[j] = found ? 0 : rest;
  }
}

TK_INLINE void tk_add(int64_t n, int64_t step, const TK_REAL *restrict x, TK_REAL *restrict y) {
  for (int64_t j = 0; j < n; j++) y[j] += x[j * step];
}

TK_INLINE void tk_add_back(int64_t n, int64_t step, const TK_REAL *restrict g,
                           TK_REAL *restrict dx) {
  for (int64_t j = 0; j < n; j++) dx[j * step] += g[j];
}

/* Calls a function with the step as a constant, where it is 1 or 2. */
#define TK_BY_STEP(name, n, step, ...)              \
  do {                                              \
    if (step == 1) name(n, 1, __VA_ARGS__);         \
    else if (step == 2) name(n, 2, __VA_ARGS__);    \
    else name(n, step, __VA_ARGS__);                \
  } while (0)

static void tk_maxima_of_run(const tk_windows *s, int64_t n, int64_t step, const TK_REAL *x,
                             TK_REAL *y) {
  for (int64_t j = 0; j < n; j++) y[j] = x[j * step];
  for (int64_t a = 0; a < s->rows; a++)
    for (int64_t b = a ? 0 : 1; b < s->columns; b++)
      TK_BY_STEP(tk_larger, n, step, x + tk_offset(s, a, b), y);
}

static void tk_sums_of_run(const tk_windows *s, int64_t n, int64_t step, const TK_REAL *x,
                           TK_REAL *y) {
  for (int64_t j = 0; j < n; j++) y[j] = x[j * step];
  for (int64_t a = 0; a < s->rows; a++)
    for (int64_t b = a ? 0 : 1; b < s->columns; b++)
      TK_BY_STEP(tk_add, n, step, x + tk_offset(s, a, b), y);
}

static void tk_share_run(const tk_windows *s, int64_t n, int64_t step, const TK_REAL *g,
                         TK_REAL *dx) {
  for (int64_t a = 0; a < s->rows; a++)
    for (int64_t b = 0; b < s->columns; b++)
      TK_BY_STEP(tk_add_back, n, step, g, dx + tk_offset(s, a, b));
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
        TK_BY_STEP(tk_give, count, step, x + at, y + first, left, dx + at);
      }
  }
}

TK_INLINE void tk_read_windows(const tk_windows *s, int64_t start, int64_t stop, int sums) {
  int64_t plane = s->height * s->width * s->channels, runs = tk_runs(s), n = tk_run(s);
  int64_t step = s->channels > 1 ? 1 : s->across;
  for (int64_t p = start; p < stop; p++)
    for (int64_t run = 0; run < runs; run++) {
      const TK_REAL *x = s->x + p * plane + tk_start(s, run);
      TK_REAL *y = s->y + (p * runs + run) * n;
      if (sums) tk_sums_of_run(s, n, step, x, y);
      else tk_maxima_of_run(s, n, step, x, y);
    }
}

TK_INLINE void tk_write_windows(const tk_windows *s, int64_t start, int64_t stop, int sums) {
  int64_t plane = s->height * s->width * s->channels, runs = tk_runs(s), n = tk_run(s);
  int64_t step = s->channels > 1 ? 1 : s->across;
  for (int64_t p = start; p < stop; p++) {
    memset(s->dx + p * plane, 0, sizeof(TK_REAL) * plane);
    for (int64_t run = 0; run < runs; run++) {
      int64_t from = p * plane + tk_start(s, run), to = (p * runs + run) * n;
      if (sums) tk_share_run(s, n, step, s->g + to, s->dx + from);
      else tk_spread_run(s, n, step, s->g + to, s->x + from, s->y + to, s->dx + from);
    }
  }
}

static void tk_maxima_of_planes(void **memory, int64_t start, int64_t stop) {
  tk_read_windows(memory[0], start, stop, 0);
}

static void tk_sums_of_planes(void **memory, int64_t start, int64_t stop) {
  tk_read_windows(memory[0], start, stop, 1);
}

static void tk_spread_planes(void **memory, int64_t start, int64_t stop) {
  tk_write_windows(memory[0], start, stop, 0);
}

static void tk_share_planes(void **memory, int64_t start, int64_t stop) {
  tk_write_windows(memory[0], start, stop, 1);
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
  tk_on_pieces(share, work, memory, s.planes, s.step);
  return 0;
}

EXPORT int64_t max_pool(const int64_t *given, tk_share_work share) {
  return tk_each_plane(given, tk_maxima_of_planes, share);
}

EXPORT int64_t max_pool_vjp(const int64_t *given, tk_share_work share) {
  return tk_each_plane(given, tk_spread_planes, share);
}

EXPORT int64_t sum_pool(const int64_t *given, tk_share_work share) {
  return tk_each_plane(given, tk_sums_of_planes, share);
}

EXPORT int64_t sum_pool_vjp(const int64_t *given, tk_share_work share) {
  return tk_each_plane(given, tk_share_planes, share);
}
