/* parallel_for on a pool of helper threads.

   Locality: each thread has the same part of every loop, so it mostly reads what it wrote itself. A
   cache line from another core complex takes four times as long.
   Work stealing: a thread that finishes its part takes pieces of the others. If no helper wakes,
   the calling thread does all of the work and loses about a microsecond.
   Waiting: a thread spins for about 100 us (waking takes a third to a half of that), then sleeps.
   Longer spinning would compete with the threads of BLAS. */

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

typedef void (*tk_piece)(void **memory, int64_t start, int64_t stop);
static __thread int64_t tk_self = 0; /* number of this thread: 0 the caller, helpers from 1 */

#ifdef _WIN32

/* Windows has no pthreads. The calling thread does all of the work. */
static inline void tk_parallel_for(tk_piece work, void **memory, int64_t size, int64_t step) {
  (void)step;
  work(memory, 0, size);
}

__declspec(dllimport) unsigned long __stdcall FlsAlloc(void(__stdcall *at_end)(void *));
__declspec(dllimport) int __stdcall FlsFree(unsigned long key);
__declspec(dllimport) int __stdcall FlsSetValue(unsigned long key, void *value);
#define TK_NO_KEY 0xFFFFFFFFul

/* `free` of the C library itself. `&free` would be a stub in this library, which may be unloaded
   before the thread ends. */
extern void (*__imp_free)(void *memory);

/* Frees `memory`, the scratch memory of the calling thread, when the thread ends. */
static inline void tk_free_at_end(void *memory) {
  static atomic_ulong kept = TK_NO_KEY;
  unsigned long key = atomic_load(&kept);
  if (key == TK_NO_KEY) {
    unsigned long made = FlsAlloc((void(__stdcall *)(void *))__imp_free);
    if (atomic_compare_exchange_strong(&kept, &key, made))
      key = made;
    else
      FlsFree(made);
  }
  if (key != TK_NO_KEY) FlsSetValue(key, memory);
}

#else

#include <pthread.h>

static pthread_mutex_t tk_turn = PTHREAD_MUTEX_INITIALIZER; /* held by the loop with helpers */
static pthread_mutex_t tk_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the variables below */
static pthread_cond_t tk_wake = PTHREAD_COND_INITIALIZER, tk_done = PTHREAD_COND_INITIALIZER;
static int tk_helpers = 0;
static atomic_int tk_wanted, tk_working;
static tk_piece tk_work;
static void **tk_memory;
static int64_t tk_step;

static struct {
  atomic_llong next;
  int64_t stop;
  char apart[112]; /* against false sharing: two cache lines, which are fetched together */
} tk_parts[TK_HELPERS + 1];

static void tk_take_pieces(void) {
  for (int64_t other = 0; other <= TK_HELPERS; other++) {
    int64_t part = (tk_self + other) % (TK_HELPERS + 1), stop = tk_parts[part].stop, start;
    while ((start = atomic_fetch_add(&tk_parts[part].next, tk_step)) < stop)
      tk_work(tk_memory, start, stop - start < tk_step ? stop : start + tk_step);
  }
}

static void tk_partition(int64_t size, int64_t step) {
  int64_t pieces = (size + step - 1) / step;
  for (int64_t part = 0; part <= TK_HELPERS; part++) {
    int64_t start = pieces * part / (TK_HELPERS + 1) * step;
    int64_t stop = pieces * (part + 1) / (TK_HELPERS + 1) * step;
    atomic_store(&tk_parts[part].next, start);
    tk_parts[part].stop = stop < size ? stop : size;
  }
}

#if defined(__x86_64__) || defined(__i386__)
#define TK_REST() __builtin_ia32_pause()
#else
#define TK_REST() atomic_thread_fence(memory_order_seq_cst)
#endif
#ifndef TK_SPINS
#define TK_SPINS 4000 /* iterations: about 100 us */
#endif
#define TK_WAIT_FOR(condition) \
  for (int look = 0; look < TK_SPINS && !(condition); look++) TK_REST()

static void *tk_help(void *number) {
  tk_self = (intptr_t)number;
  for (;;) {
    TK_WAIT_FOR(tk_wanted > 0);
    pthread_mutex_lock(&tk_lock);
    while (!tk_wanted) pthread_cond_wait(&tk_wake, &tk_lock);
    tk_wanted--;
    tk_working++;
    pthread_mutex_unlock(&tk_lock);
    tk_take_pieces();
    pthread_mutex_lock(&tk_lock);
    if (!--tk_working) pthread_cond_signal(&tk_done);
    pthread_mutex_unlock(&tk_lock);
  }
  return 0;
}

/* After fork: the child has no helper threads, and a mutex that they held stays locked. */
static void tk_in_child(void) {
  pthread_mutex_init(&tk_turn, 0);
  pthread_mutex_init(&tk_lock, 0);
  pthread_cond_init(&tk_wake, 0);
  pthread_cond_init(&tk_done, 0);
  tk_helpers = 0;
  tk_wanted = 0;
  tk_working = 0;
}

static void tk_start_helpers(void) {
  static int known = 0;
  if (!known) known = !pthread_atfork(0, 0, tk_in_child);
  while (known && tk_helpers < TK_HELPERS) {
    pthread_t thread;
    if (pthread_create(&thread, 0, tk_help, (void *)(intptr_t)(tk_helpers + 1))) return;
    pthread_detach(thread);
    tk_helpers++;
  }
}

/* Frees `memory`, the scratch memory of the calling thread, when the thread ends. */
static inline void tk_free_at_end(void *memory) {
  static int known = 0;
  static pthread_key_t key;
  pthread_mutex_lock(&tk_lock);
  if (!known) known = !pthread_key_create(&key, free);
  pthread_mutex_unlock(&tk_lock);
  if (known) pthread_setspecific(key, memory);
}

/* Calls work(memory, start, stop) on pieces of `step` that cover [0, size). */
static void tk_parallel_for(tk_piece work, void **memory, int64_t size, int64_t step) {
  if (pthread_mutex_trylock(&tk_turn)) {
    work(memory, 0, size);
    return;
  }
  tk_start_helpers();
  pthread_mutex_lock(&tk_lock);
  tk_work = work;
  tk_memory = memory;
  tk_step = step;
  tk_partition(size, step);
  tk_wanted = tk_helpers;
  pthread_cond_broadcast(&tk_wake);
  pthread_mutex_unlock(&tk_lock);
  tk_take_pieces();
  pthread_mutex_lock(&tk_lock);
  tk_wanted = 0; /* helpers that have not begun do not join */
  pthread_mutex_unlock(&tk_lock);
  TK_WAIT_FOR(!tk_working);
  pthread_mutex_lock(&tk_lock);
  while (tk_working) pthread_cond_wait(&tk_done, &tk_lock);
  pthread_mutex_unlock(&tk_lock);
  pthread_mutex_unlock(&tk_turn);
}

#endif
