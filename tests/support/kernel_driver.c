/* The kernels of products and convolutions against naive loops, for a processor that runs no Python
   here: the shapes at the edges of tiles and blocks. Prints the number of comparisons, or what is
   wrong. Built with the macros of the target (TK_AVX2, ...), TK_F64 and TK_HELPERS. */

#define EXPORT static __attribute__((unused))
#include "threads.h"

#include "gemm.h"

#ifdef CONVOLUTIONS_F64
#define TK_REAL double
#define TK_NAME(name) name##_f64
#define UNIT 1e-14
#else
#define TK_REAL float
#define TK_NAME(name) name
#define UNIT 1e-6
#endif
#include "convolution.h"
#include "depthwise.h"

#include "grouped.h"

#include <math.h>
#include <stdio.h>

#define BEYOND 12345.0f

static unsigned state = 1;
static long compared = 0;

static double draw(void) {
  state = state * 1103515245u + 12345u;
  return (state >> 9 & 0xffff) / 65536.0 - 0.5;
}

static void fail(const char *what, const int64_t *sizes, int count) {
  printf("wrong: %s", what);
  for (int i = 0; i < count; i++) printf(" %lld", (long long)sizes[i]);
  printf("\n");
  exit(1);
}

static void compare(double found, double exact, double unit, const char *what,
                    const int64_t *sizes, int count) {
  compared++;
  if (!(fabs(found - exact) <= unit)) fail(what, sizes, count);
}

/* ------------------------------------------------------------------ products */

#define PRODUCTS(TYPE, SUFFIX, UNIT)                                                               \
  static void product##SUFFIX(int64_t stack, int64_t rows, int64_t depth, int64_t columns,         \
                              int layout) {                                                        \
    int64_t sizes[] = {stack, rows, depth, columns, layout}, all = stack ? stack : 1;              \
    TYPE *a = malloc(sizeof(TYPE) * all * rows * depth);                                           \
    TYPE *b = malloc(sizeof(TYPE) * all * depth * columns);                                        \
    TYPE *room = malloc(sizeof(TYPE) * (all * rows * columns + 2)), *c = room + 1;                 \
    int64_t end = all * rows * columns;                                                            \
    for (int64_t i = 0; i < all * rows * depth; i++) a[i] = draw();                                \
    for (int64_t i = 0; i < all * depth * columns; i++) b[i] = draw();                             \
    for (int64_t i = 0; i < end; i++) c[i] = NAN;                                                  \
    c[-1] = c[end] = BEYOND;                                                                       \
    int64_t a_down = layout & 1 ? 1 : depth, a_across = layout & 1 ? rows : 1;                     \
    int64_t b_down = layout & 2 ? 1 : columns, b_across = layout & 2 ? depth : 1;                  \
    tk_stack s = {1, all, rows, depth, columns, {0, rows * depth, a_down, a_across},               \
                  {0, depth * columns, b_down, b_across}};                                         \
    if (stack)                                                                                     \
      tk_gemm_stack##SUFFIX(&s, a, b, c);                                                          \
    else                                                                                           \
      tk_gemm##SUFFIX(rows, depth, columns, a, a_down, a_across, b, b_down, b_across, c);          \
    if (c[-1] != BEYOND || c[end] != BEYOND) fail("beyond a product" #SUFFIX, sizes, 5);           \
    for (int64_t n = 0; n < all; n++)                                                              \
      for (int64_t i = 0; i < rows; i++)                                                           \
        for (int64_t j = 0; j < columns; j++) {                                                    \
          double exact = 0, size = 0;                                                              \
          for (int64_t k = 0; k < depth; k++) {                                                    \
            double term = (double)a[n * s.a[1] + i * a_down + k * a_across] *                      \
                          b[n * s.b[1] + k * b_down + j * b_across];                               \
            exact += term;                                                                         \
            size += fabs(term);                                                                    \
          }                                                                                        \
          compare(c[(n * rows + i) * columns + j], exact, UNIT * (depth + 1) * size + 1e-300,      \
                  "product" #SUFFIX, sizes, 5);                                                    \
        }                                                                                          \
    free(a);                                                                                       \
    free(b);                                                                                       \
    free(room);                                                                                    \
  }

PRODUCTS(float, , 0x1p-24)
PRODUCTS(double, _f64, 0x1p-52)

static void products(void) {
  const int64_t shapes[][4] = {
      {0, TK_ROWS, 513, TK_COLUMNS}, {0, 4 * TK_ROWS - 1, 255, 2 * TK_COLUMNS - 1},
      {0, 4 * TK_ROWS + 1, 257, 3 * TK_COLUMNS + 1}, {0, 300, 1, 300}, {0, 90, 64, 90},
      {0, 101, 515, 257}, {0, 130, 257, 131}, {0, 8, 700, 200}, {0, 200, 70, 8}, {0, 1, 1, 1},
      {3, 20, 30, 40}, {40, 32, 16, 32}, {33, 32, 32, 16}, {2, 70, 300, 33}, {50, 9, 8, 16},
      {2, 130, 260, 150}, {70, 1, 5, 1}, {5, 61, 1030, 17},
  };
  for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int layout = 0; layout < 4; layout++) {
      const int64_t *s = shapes[i];
      product(s[0], s[1], s[2], s[3], layout);
      product_f64(s[0], s[1], s[2], s[3], layout);
    }
  for (int64_t rows = 1; rows < 2 * TK_ROWS + 2; rows++)
    for (int64_t columns = 1; columns < 2 * TK_COLUMNS + 2; columns += 3) {
      product(0, rows, 5, columns, rows & 3);
      product_f64(0, rows, 5, columns, rows & 3);
    }
}

/* ------------------------------------------------------------------ convolutions */

static TK_REAL *drawn(int64_t size) {
  TK_REAL *x = malloc(sizeof(TK_REAL) * size);
  for (int64_t i = 0; i < size; i++) x[i] = draw();
  return x;
}

static double *zeros(int64_t size) { return calloc(size, sizeof(double)); }

/* All three of a convolution by every kernel that is for it. Operands have channels first, the
   cotangent of all but grouped.h channels last. */
static void convolution(int64_t samples, int64_t channels, int64_t outputs, int64_t height,
                        int64_t width, int64_t kernel, int64_t stride, int64_t padding,
                        int64_t dilation, int64_t groups) {
  int64_t reach = dilation * (kernel - 1) + 1;
  int64_t lines = (height + 2 * padding - reach) / stride + 1;
  int64_t places = (width + 2 * padding - reach) / stride + 1;
  int64_t given[] = {samples, channels, outputs, height, width, kernel, stride, padding, dilation,
                     groups};
  tk_sizes s = {samples, channels, outputs, height, width, kernel, kernel, lines, places, stride,
                stride, padding, padding, dilation, dilation, channels * height * width,
                height * width, width, 1, outputs * lines * places, 1, places * outputs, outputs,
                groups};
  int64_t ins = channels / groups, outs = outputs / groups, taps = kernel * kernel;
  int64_t size_x = samples * channels * height * width, size_w = outputs * ins * taps;
  int64_t windows = lines * places, size_y = samples * outputs * windows;
  TK_REAL *x = drawn(size_x), *w = drawn(size_w), *bias = drawn(outputs), *g = drawn(size_y);
  TK_REAL *y = drawn(size_y), *dx = drawn(size_x), *dw = drawn(size_w);
  TK_REAL *last_w = drawn(size_w), *last_g = drawn(size_y);
  double *y_exact = zeros(size_y), *dx_exact = zeros(size_x), *dw_exact = zeros(size_w);
  for (int64_t n = 0; n < samples; n++)
    for (int64_t o = 0; o < outputs; o++)
      for (int64_t i = 0; i < windows; i++) {
        int64_t at = (n * outputs + o) * windows + i;
        y_exact[at] = bias[o];
        last_g[(n * windows + i) * outputs + o] = g[at];
        for (int64_t c = 0; c < ins; c++)
          for (int64_t t = 0; t < taps; t++) {
            int64_t row = i / places * stride - padding + t / kernel * dilation;
            int64_t column = i % places * stride - padding + t % kernel * dilation;
            int64_t f = (o * ins + c) * taps + t;
            last_w[(o * taps + t) * ins + c] = w[f];
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            int64_t from = ((n * channels + o / outs * ins + c) * height + row) * width + column;
            y_exact[at] += (double)w[f] * x[from];
            dx_exact[from] += (double)w[f] * g[at];
            dw_exact[f] += (double)g[at] * x[from];
          }
      }
  double unit = UNIT * (10 + taps * (ins + outs)), sums = UNIT * (10 + samples * windows);
  for (int kind = 0; kind < (ins == 1 && outs == 1 ? 3 : 2); kind++) { /* many, few, depthwise */
    int first = kind == 1;
    if (kind == 0) {
      convolve(&s, x, last_w, bias, y);
      convolve_weight(&s, x, last_g, dw);
      convolve_transposed(&s, last_g, last_w, dx);
    } else if (kind == 1) {
      convolve_groups(&s, groups, x, w, bias, y);
      convolve_groups_weight(&s, groups, x, g, dw);
      convolve_groups_transposed(&s, groups, g, w, dx);
    } else {
      convolve_depthwise(&s, x, w, bias, y);
      convolve_depthwise_weight(&s, x, last_g, dw);
      convolve_depthwise_transposed(&s, last_g, w, dx);
    }
    for (int64_t i = 0; i < size_y; i++) {
      int64_t n = i / (outputs * windows), o = i / windows % outputs, at = i % windows;
      int64_t found = first ? i : (n * windows + at) * outputs + o;
      compare(y[found], y_exact[i], unit, "convolution", given, 10);
    }
    for (int64_t i = 0; i < size_x; i++) {
      int64_t n = i / (channels * height * width), at = i % (height * width);
      int64_t c = i / (height * width) % channels;
      int64_t found = first ? i : (n * height * width + at) * channels + c;
      compare(dx[found], dx_exact[i], unit, "gradient of the input", given, 10);
    }
    for (int64_t i = 0; i < size_w; i++) {
      int64_t o = i / (ins * taps), c = i / taps % ins, t = i % taps;
      int64_t found = (o * taps + t) * ins + c;
      compare(dw[kind == 0 ? found : i], dw_exact[i], sums, "gradient of the weight", given, 10);
    }
  }
  void *all[] = {x, w, bias, g, y, dx, dw, last_w, last_g, y_exact, dx_exact, dw_exact};
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void convolutions(void) {
  const int64_t shapes[][10] = {
      {5, 1, 3, 9, 7, 3, 1, 1, 1, 1},    {1, 3, 10, 10, 11, 3, 1, 0, 1, 1},
      {7, 33, 65, 6, 5, 3, 1, 1, 1, 1},  {3, 33, 10, 9, 9, 2, 2, 1, 2, 1},
      {9, 16, 32, 6, 6, 1, 1, 0, 1, 1},  {2, 2, 3, 3, 3, 5, 3, 2, 1, 1},
      {1, 1, 1, 1, 1, 1, 1, 0, 1, 1},    {4, 12, 40, 20, 20, 3, 1, 1, 1, 1},
      {2, 70, 9, 8, 40, 4, 1, 2, 1, 1},  {3, 32, 32, 12, 12, 3, 1, 1, 1, 32},
      {3, 8, 16, 17, 33, 3, 2, 1, 1, 8}, {2, 12, 8, 9, 16, 2, 1, 1, 2, 4},
      {2, 6, 6, 5, 5, 3, 3, 2, 2, 6},    {1, 4, 4, 1, 1, 1, 1, 0, 1, 2},
      {2, 21, 21, 9, 10, 5, 2, 2, 1, 21}, {2, 40, 40, 7, 7, 7, 1, 3, 1, 40},
      {2, 34, 36, 9, 8, 3, 2, 1, 1, 2},  {1, 20, 6, 12, 90, 3, 1, 1, 2, 2},
      {1, 64, 8, 20, 50, 3, 2, 1, 1, 1},
      {2, 60, 3, 9, 20, 3, 1, 1, 1, 1},  {1, 2, 5, 30, 40, 3, 1, 1, 1, 1},  {3, 24, 6, 12, 12, 5, 2, 2, 1, 3},
  };
  for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const int64_t *s = shapes[i];
    convolution(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9]);
  }
}

int main(void) {
  products();
  convolutions();
  printf("%ld right\n", compared);
  return 0;
}
