#include <math.h>
#include <stdint.h>
#include <string.h>
#include "mathematics.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif
#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif
#if defined(__GNUC__) && !defined(__clang__)
#define QUICK __attribute__((optimize("O1"))) /* runs briefly: compiled soon */
#else
#define QUICK
#endif

static inline float tk_absf(float x) { return fabsf(x); }
static inline double tk_abs(double x) { return fabs(x); }
static inline float tk_inverse_rootf(float x) {
  return x == -INFINITY ? 0 : fabsf(1 / tk_sqrtf(x));
}
static inline double tk_inverse_root(double x) {
  return x == -INFINITY ? 0 : fabs(1 / tk_sqrt(x));
}
static inline float tk_fourth_powerf(float x) { return x * x * (x * x); }
static inline double tk_fourth_power(double x) { return x * x * (x * x); }
static inline float tk_inverse_squaref(float x) { return 1 / x * (1 / x); }
static inline double tk_inverse_square(double x) { return 1 / x * (1 / x); }
static inline float tk_floorf(float x) { return floorf(x); }
static inline double tk_floor(double x) { return floor(x); }
static inline float tk_ceilf(float x) { return ceilf(x); }
static inline double tk_ceil(double x) { return ceil(x); }

static inline double tk_logistic_term(double x, double a) {
  double weight = x < 0 ? -a : 1 - a, tail = tk_log1p(tk_exp(-fabs(x)));
  double finite = tk_max(x, 0) - x * a, limit = weight == 0 ? 0 : weight * x;
  return (fabs(x) == INFINITY ? limit : finite) + tail;
}

static inline double tk_logistic_slope(double x, double a) {
  double e = tk_exp(-fabs(x)), flat = e / (e + 1);
  return x != x ? x : (x >= 0 ? 1 - a - flat : flat - a);
}



/* The elements of array i of the tuple that a function is called with. */
static inline void *tk_elements(const void *call, int64_t i) {
  const char *array = *(char **)((const char *)call + 24 + i * (int64_t)sizeof(void *));
  return *(void **)(array + 16);
}

static APART void part0_0(const float *restrict x_0, const float *restrict y_1, float *restrict net_0_weight_2, float *restrict net_0_bias_3, float *restrict net_2_weight_6, float *restrict net_2_bias_7, const double *restrict lr_28, const float *restrict constant_11, float *restrict matmul_42, float *restrict sigmoid_5, float *restrict subtract_19, float *restrict matmul_45, double *restrict logistic_term_47, float *restrict multiply_13, double *restrict sum_50, float *restrict loss_9, float *restrict astype_29, float *restrict multiply_20, float *restrict grad_of_net_2_weight_24, float *restrict grad_of_net_2_bias_25, float *restrict grad_of_net_0_weight_26, float *restrict grad_of_net_0_bias_27) {
  /* matmul, xor_step.py:14 */
  for (int64_t i = 0; i < 4; i++) {
    float row[10] = {0};
    for (int64_t k = 0; k < 2; k++) {
      float x = x_0[i * 2 + k];
      for (int64_t j = 0; j < 10; j++) row[j] += x * net_0_weight_2[k + j * 2];
    }
    for (int64_t j = 0; j < 10; j++) matmul_42[i * 10 + j] = row[j];
  }
  for (int64_t i0 = 0; i0 < 4; i0++) {
    for (int64_t i1 = 0; i1 < 10; i1++) {
      float net_0_bias_3_i = net_0_bias_3[i1];
      float matmul_42_i = matmul_42[i0 * 10 + i1];
      float add_4_i = (matmul_42_i + net_0_bias_3_i);  /* add, xor_step.py:14 */
      float sigmoid_5_i = tk_sigmoidf(add_4_i);  /* sigmoid, xor_step.py:14 */
      float subtract_19_i = (0x1.0000000000000p+0f - sigmoid_5_i);  /* subtract, xor_step.py:15 */
      sigmoid_5[i0 * 10 + i1] = sigmoid_5_i;
      subtract_19[i0 * 10 + i1] = subtract_19_i;
    }
  }
  /* matmul, xor_step.py:14 */
  for (int64_t i = 0; i < 4; i++) {
    float row[1] = {0};
    for (int64_t k = 0; k < 10; k++) {
      float x = sigmoid_5[i * 10 + k];
      for (int64_t j = 0; j < 1; j++) row[j] += x * net_2_weight_6[k + j * 10];
    }
    for (int64_t j = 0; j < 1; j++) matmul_45[i + j] = row[j];
  }
  for (int64_t i0 = 0; i0 < 4; i0++) {
    float y_1_i = y_1[i0];
    float net_2_bias_7_i = net_2_bias_7[0];
    float constant_11_i = constant_11[0];
    float matmul_45_i = matmul_45[i0];
    float add_8_i = (matmul_45_i + net_2_bias_7_i);  /* add, xor_step.py:14 */
    double logistic_term_47_i = tk_logistic_term(add_8_i, y_1_i);  /* logistic_term, xor_step.py:14 */
    float bce_with_logits_vjp_12_i = ((float)tk_logistic_slope(add_8_i, y_1_i));  /* bce_with_logits_vjp, xor_step.py:15 */
    float multiply_13_i = (constant_11_i * bce_with_logits_vjp_12_i);  /* multiply, xor_step.py:15 */
    logistic_term_47[i0] = logistic_term_47_i;
    multiply_13[i0] = multiply_13_i;
  }
  /* sum, xor_step.py:14 */
   {
    double sum = 0;
    for (int64_t j0 = 0; j0 < 4; j0++) {
      sum += logistic_term_47[j0];
    }
    sum_50[0] = (double)sum;
  }
   {
    double lr_28_i = lr_28[0];
    double sum_50_i = sum_50[0];
    double divide_48_i = (sum_50_i / 0x1.0000000000000p+2);  /* divide, xor_step.py:14 */
    float loss_9_i = ((float)divide_48_i);  /* astype, xor_step.py:14 */
    float astype_29_i = ((float)lr_28_i);  /* astype, xor_step.py:16 */
    loss_9[0] = loss_9_i;
    astype_29[0] = astype_29_i;
  }
  for (int64_t i0 = 0; i0 < 4; i0++) {
    for (int64_t i1 = 0; i1 < 10; i1++) {
      float sigmoid_5_i = sigmoid_5[i0 * 10 + i1];
      float net_2_weight_6_i = net_2_weight_6[i1];
      float multiply_13_i = multiply_13[i0];
      float subtract_19_i = subtract_19[i0 * 10 + i1];
      float multiply_14_i = (multiply_13_i * net_2_weight_6_i);  /* multiply, xor_step.py:15 */
      float multiply_18_i = (multiply_14_i * sigmoid_5_i);  /* multiply, xor_step.py:15 */
      float multiply_20_i = (multiply_18_i * subtract_19_i);  /* multiply, xor_step.py:15 */
      multiply_20[i0 * 10 + i1] = multiply_20_i;
    }
  }
  /* matmul, xor_step.py:15 */
  for (int64_t i = 0; i < 1; i++) {
    float row[10] = {0};
    for (int64_t k = 0; k < 4; k++) {
      float x = multiply_13[i + k];
      for (int64_t j = 0; j < 10; j++) row[j] += x * sigmoid_5[k * 10 + j];
    }
    for (int64_t j = 0; j < 10; j++) grad_of_net_2_weight_24[i * 10 + j] = row[j];
  }
  /* sum, xor_step.py:15 */
   {
    double sum = 0;
    for (int64_t j0 = 0; j0 < 4; j0++) {
      sum += multiply_13[j0];
    }
    grad_of_net_2_bias_25[0] = (float)sum;
  }
  /* matmul, xor_step.py:15 */
  for (int64_t i = 0; i < 10; i++) {
    float row[2] = {0};
    for (int64_t k = 0; k < 4; k++) {
      float x = multiply_20[i + k * 10];
      for (int64_t j = 0; j < 2; j++) row[j] += x * x_0[k * 2 + j];
    }
    for (int64_t j = 0; j < 2; j++) grad_of_net_0_weight_26[i * 2 + j] = row[j];
  }
  /* sum, xor_step.py:15 */
  for (int64_t b = 0; b < 10; b += 10) {
    int64_t n = 10 - b < 10 ? 10 - b : 10;
    double row[10];
    for (int64_t c = 0; c < n; c++) row[c] = 0;
    for (int64_t j0 = 0; j0 < 4; j0++) {
      for (int64_t c = 0; c < n; c++) row[c] += multiply_20[(b + c) + j0 * 10];
    }
    for (int64_t c = 0; c < n; c++) grad_of_net_0_bias_27[(b + c)] = (float)row[c];
  }
  for (int64_t i0 = 0; i0 < 20; i0++) {
    float net_0_weight_2_i = net_0_weight_2[i0];
    float grad_of_net_0_weight_26_i = grad_of_net_0_weight_26[i0];
    float astype_29_i = astype_29[0];
    float multiply_30_i = (astype_29_i * grad_of_net_0_weight_26_i);  /* multiply, xor_step.py:16 */
    float subtract_31_i = (net_0_weight_2_i - multiply_30_i);  /* subtract, xor_step.py:16 */
    net_0_weight_2[i0] = subtract_31_i;
  }
  for (int64_t i0 = 0; i0 < 10; i0++) {
    float net_0_bias_3_i = net_0_bias_3[i0];
    float grad_of_net_0_bias_27_i = grad_of_net_0_bias_27[i0];
    float astype_29_i = astype_29[0];
    float multiply_33_i = (astype_29_i * grad_of_net_0_bias_27_i);  /* multiply, xor_step.py:16 */
    float subtract_34_i = (net_0_bias_3_i - multiply_33_i);  /* subtract, xor_step.py:16 */
    net_0_bias_3[i0] = subtract_34_i;
  }
  for (int64_t i0 = 0; i0 < 10; i0++) {
    float net_2_weight_6_i = net_2_weight_6[i0];
    float grad_of_net_2_weight_24_i = grad_of_net_2_weight_24[i0];
    float astype_29_i = astype_29[0];
    float multiply_36_i = (astype_29_i * grad_of_net_2_weight_24_i);  /* multiply, xor_step.py:16 */
    float subtract_37_i = (net_2_weight_6_i - multiply_36_i);  /* subtract, xor_step.py:16 */
    net_2_weight_6[i0] = subtract_37_i;
  }
   {
    float net_2_bias_7_i = net_2_bias_7[0];
    float grad_of_net_2_bias_25_i = grad_of_net_2_bias_25[0];
    float astype_29_i = astype_29[0];
    float multiply_39_i = (astype_29_i * grad_of_net_2_bias_25_i);  /* multiply, xor_step.py:16 */
    float subtract_40_i = (net_2_bias_7_i - multiply_39_i);  /* subtract, xor_step.py:16 */
    net_2_bias_7[0] = subtract_40_i;
  }
}

static void part0_(void **memory) {
  part0_0(memory[0], memory[1], memory[2], memory[3], memory[4], memory[5], memory[6], memory[7], memory[8], memory[10], memory[11], memory[12], memory[14], memory[16], memory[17], memory[19], memory[20], memory[23], memory[24], memory[25], memory[26], memory[27]);
}
EXPORT QUICK int64_t loop(const void *call, int64_t start, int64_t stop,
                          int64_t advancing, const int64_t *roots,
                          const int64_t *steps, float *results) {
  void *memory[36];
  memory[0] = tk_elements(call, 0);
  memory[1] = tk_elements(call, 1);
  memory[2] = tk_elements(call, 2);
  memory[3] = tk_elements(call, 3);
  memory[4] = tk_elements(call, 4);
  memory[5] = tk_elements(call, 5);
  memory[6] = tk_elements(call, 6);
  memory[7] = tk_elements(call, 7);
  memory[19] = tk_elements(call, 8);
  memory[24] = tk_elements(call, 9);
  memory[25] = tk_elements(call, 10);
  memory[26] = tk_elements(call, 11);
  memory[27] = tk_elements(call, 12);
  char *arena = tk_elements(call, 13);
  memory[8] = arena + 0;
  memory[10] = arena + 256;
  memory[11] = arena + 512;
  memory[12] = arena + 1152;
  memory[14] = arena + 1024;
  memory[16] = arena + 1280;
  memory[17] = arena + 1408;
  memory[20] = arena + 1536;
  memory[23] = arena + 768;
  for (int64_t k = 0; k < advancing; k++)
    memory[roots[k]] = (char *)memory[roots[k]] + start * steps[k];
  for (int64_t i = start; i < stop; i++) {
    part0_(memory);
    results[i] = *(float *)memory[19];
    for (int64_t k = 0; k < advancing; k++)
      memory[roots[k]] = (char *)memory[roots[k]] + steps[k];
  }
  return stop;
}

EXPORT void part0(const void *call) {
  float result;
  loop(call, 0, 1, 0, 0, 0, &result);
}

def run(leaves):
    global seen_19, net_0_weight_2_array_before, net_0_bias_3_array_before, net_2_weight_6_array_before, net_2_bias_7_array_before, x_0_array_before, y_1_array_before, seen_read, grad_of_net_0_weight_26_array, grad_of_net_0_bias_27_array, grad_of_net_2_weight_24_array, grad_of_net_2_bias_25_array, grad_of_net_0_weight_26_tensor, grad_of_net_0_bias_27_tensor, grad_of_net_2_weight_24_tensor, grad_of_net_2_bias_25_tensor
    if families and locked():
        raise Stale
    if optimizer_16._plan is not step_15:
        load_17.state()
        load_17.take_over()
    if group_18 != seen_19:
        load_17.options()
        seen_19 = frozen(group_18)
    net_0_weight_2_array = leaf_20._data
    if net_0_weight_2_array is not net_0_weight_2_array_before:
        x_0_array_before = y_1_array_before = None
        net_0_weight_2_array = net_0_weight_2_array_before = checked_22(net_0_weight_2_array)
    net_0_bias_3_array = leaf_23._data
    if net_0_bias_3_array is not net_0_bias_3_array_before:
        x_0_array_before = y_1_array_before = None
        net_0_bias_3_array = net_0_bias_3_array_before = checked_25(net_0_bias_3_array)
    net_2_weight_6_array = leaf_26._data
    if net_2_weight_6_array is not net_2_weight_6_array_before:
        x_0_array_before = y_1_array_before = None
        net_2_weight_6_array = net_2_weight_6_array_before = checked_28(net_2_weight_6_array)
    net_2_bias_7_array = leaf_29._data
    if net_2_bias_7_array is not net_2_bias_7_array_before:
        x_0_array_before = y_1_array_before = None
        net_2_bias_7_array = net_2_bias_7_array_before = checked_31(net_2_bias_7_array)
    x_0_array = leaves[0]._data
    if x_0_array is not x_0_array_before:
        x_0_array = x_0_array_before = checked_33(x_0_array)
    y_1_array = leaves[1]._data
    if y_1_array is not y_1_array_before:
        y_1_array = y_1_array_before = checked_35(y_1_array)
    read = last_write.read
    if read is not seen_read:
        grad_of_net_0_weight_26_array = empty((10, 2), dtype_40)
        grad_of_net_0_weight_26_tensor = constant(grad_of_net_0_weight_26_array)
        grad_of_net_0_bias_27_array = empty((10,), dtype_40)
        grad_of_net_0_bias_27_tensor = constant(grad_of_net_0_bias_27_array)
        grad_of_net_2_weight_24_array = empty((1, 10), dtype_40)
        grad_of_net_2_weight_24_tensor = constant(grad_of_net_2_weight_24_array)
        grad_of_net_2_bias_25_array = empty((1,), dtype_40)
        grad_of_net_2_bias_25_tensor = constant(grad_of_net_2_bias_25_array)
        seen_read = read
    last_write.time = written_47.write.time = tick()
    if last_write.write is not written_47.write:
        written_47()
    loss_9_array = empty((), dtype_40)
    part_57((x_0_array, y_1_array, net_0_weight_2_array, net_0_bias_3_array, net_2_weight_6_array, net_2_bias_7_array, lr_28_array, constant_11_array, loss_9_array, grad_of_net_2_weight_24_array, grad_of_net_2_bias_25_array, grad_of_net_0_weight_26_array, grad_of_net_0_bias_27_array, arena,))
    leaf_20._grad = grad_of_net_0_weight_26_tensor
    leaf_23._grad = grad_of_net_0_bias_27_tensor
    leaf_26._grad = grad_of_net_2_weight_24_tensor
    leaf_29._grad = grad_of_net_2_bias_25_tensor
    loss_9_tensor = new(result_type.cls)
    loss_9_tensor._data = loss_9_array
    loss_9_tensor._grad = loss_9_tensor._hooks = loss_9_tensor._op = None
    loss_9_tensor._requires_grad = False
    return loss_9_tensor
