/* Runs a library of generated C on Windows, as the package's Python does: its entry gets a tuple of
   arrays, whose memory comes from a file and goes back to it.

   driver.exe step LIBRARY FILE NAME                     (NAME is that of the entry)
   driver.exe product LIBRARY FILE rows depth columns    (the pieces are a, b and c)

   The file: the number of pieces; then of each its bytes and its contents; all numbers int64. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

/* The entry is given the address of a Python tuple, whose items begin ITEMS bytes from its start.
   They are addresses of arrays, which have that of their memory ELEMENTS bytes from their start. */
typedef void (*entry)(const void *call);

static void *array_of(void *memory) {
  char *array = calloc(1, ELEMENTS + sizeof(void *));
  memcpy(array + ELEMENTS, &memory, sizeof(void *));
  return array;
}

typedef void (*product)(int64_t rows, int64_t depth, int64_t columns, const float *a,
                        int64_t a_down, int64_t a_across, const float *b, int64_t b_down,
                        int64_t b_across, float *c);

/* What a program calls in the shared library: there, too, the calling thread does all of the work. */
static void share(void (*work)(void **memory, int64_t start, int64_t stop), void **memory,
                  int64_t size, int64_t step) {
  (void)step;
  work(memory, 0, size);
}
static int64_t number_of_thread(void) { return 0; }

static void point_to(HMODULE library, const char *name, void *function) {
  void **pointer = (void **)(void *)GetProcAddress(library, name);
  if (pointer) *pointer = function;
}

static void stop(const char *what) {
  fprintf(stderr, "%s (error %lu)\n", what, (unsigned long)GetLastError());
  exit(1);
}

static int64_t number(FILE *file) {
  int64_t n;
  if (fread(&n, sizeof n, 1, file) != 1) stop("the file is too short");
  return n;
}

int main(int count, char **words) {
  if (count < 5) stop("too few arguments");
  HMODULE library = LoadLibraryA(words[2]);
  if (!library) stop("the library does not load");
  int is_product = !strcmp(words[1], "product");
  point_to(library, "tk_parallel_for", (void *)share);
  point_to(library, "tk_number", (void *)number_of_thread);
  FARPROC function = GetProcAddress(library, is_product ? "product" : words[4]);
  if (!function) stop("the library lacks the function");
  FILE *file = fopen(words[3], "rb");
  if (!file) stop("the file cannot be read");
  int64_t pieces = number(file);
  char **memory = calloc(pieces, sizeof *memory);
  char *call = calloc(1, ITEMS + pieces * sizeof(void *));
  int64_t *bytes = calloc(pieces, sizeof *bytes);
  for (int64_t i = 0; i < pieces; i++) {
    bytes[i] = number(file);
    memory[i] = _aligned_malloc(bytes[i] + 8192, 64);
    memset(memory[i], 0, bytes[i] + 8192);
    if (fread(memory[i], 1, bytes[i], file) != (size_t)bytes[i]) stop("the file is too short");
    void *array = array_of(memory[i]);
    memcpy(call + ITEMS + i * sizeof(void *), &array, sizeof(void *));
  }
  fclose(file);
  if (is_product) {
    int64_t rows = atoll(words[4]), depth = atoll(words[5]), columns = atoll(words[6]);
    ((product)function)(rows, depth, columns, (float *)memory[0], depth, 1, (float *)memory[1],
                        columns, 1, (float *)memory[2]);
  } else {
    ((entry)function)(call);
  }
  if (!FreeLibrary(library)) stop("the library cannot be unloaded");
  file = fopen(words[3], "wb");
  if (!file) stop("the file cannot be written");
  fwrite(&pieces, sizeof pieces, 1, file);
  for (int64_t i = 0; i < pieces; i++) {
    fwrite(&bytes[i], sizeof *bytes, 1, file);
    fwrite(memory[i], 1, bytes[i], file);
  }
  return fclose(file) ? 1 : 0;
}
