// What Node's own distribution for glibc asks of glibc and musl has not, so that musl's loader can run it: there is no
// Node for musl on npm. All else it takes from musl itself, the addon above all. Compiled without headers, because this
// machine's are glibc's.
typedef unsigned long size_t;
typedef __builtin_va_list va_list;
typedef void (*Function)(void);

extern char** environ;
_Noreturn void abort(void);
void* calloc(size_t, size_t);
int fcntl(int, int, ...);
void free(void*);
unsigned long getauxval(unsigned long);
long getrandom(void*, size_t, unsigned);
void* memcpy(void*, const void*, size_t);
void* memset(void*, int, size_t);
int mprotect(void*, size_t, int);
int pthread_atfork(Function, Function, Function);
void* pthread_getspecific(unsigned);
int pthread_key_create(unsigned*, void (*)(void*));
int pthread_setspecific(unsigned, const void*);
char* strcat(char*, const char*);
size_t strftime_l(char*, size_t, const char*, const void*, void*);
int vfprintf(void*, const char*, va_list);
int vsprintf(char*, const char*, va_list);
void vsyslog(int, const char*, va_list);

// Checked forms of functions.
void* __memcpy_chk(void* to, const void* from, size_t length, size_t room) { return memcpy(to, from, length); }
void* __memset_chk(void* to, int byte, size_t length, size_t room) { return memset(to, byte, length); }
char* __strcat_chk(char* to, const char* from, size_t room) { return strcat(to, from); }
long __fdelt_chk(long descriptor) { return descriptor / 64; }
int __vfprintf_chk(void* file, int flag, const char* format, va_list words) { return vfprintf(file, format, words); }
int __fprintf_chk(void* file, int flag, const char* format, ...) {
  va_list words;
  __builtin_va_start(words, format);
  const int written = vfprintf(file, format, words);
  __builtin_va_end(words);
  return written;
}
int __sprintf_chk(char* to, int flag, size_t room, const char* format, ...) {
  va_list words;
  __builtin_va_start(words, format);
  const int written = vsprintf(to, format, words);
  __builtin_va_end(words);
  return written;
}
void __syslog_chk(int priority, int flag, const char* format, ...) {
  va_list words;
  __builtin_va_start(words, format);
  vsyslog(priority, format, words);
  __builtin_va_end(words);
}

// Other names of what musl has.
int fcntl64(int descriptor, int command, long word) { return fcntl(descriptor, command, word); }
unsigned long __getauxval(unsigned long type) { return getauxval(type); }
int __pthread_key_create(unsigned* key, void (*destroy)(void*)) { return pthread_key_create(key, destroy); }
int __register_atfork(Function before, Function parent, Function child, void* object) {
  return pthread_atfork(before, parent, child);
}
size_t __strftime_l(char* to, size_t room, const char* format, const void* time, void* locale) {
  return strftime_l(to, room, format, time, locale);
}
unsigned arc4random(void) {
  unsigned number;
  getrandom(&number, sizeof number, 0);
  return number;
}

// Destructors of variables of threads.
struct Destructor {
  void (*call)(void*);
  void* object;
  struct Destructor* next;
};
static unsigned destructors;
static void RunDestructors(void* list) {
  for (struct Destructor* one = list; one != 0;) {
    struct Destructor* next = one->next;
    one->call(one->object);
    free(one);
    one = next;
  }
}
int __cxa_thread_atexit_impl(void (*call)(void*), void* object, void* library) {
  struct Destructor* one = calloc(1, sizeof *one);
  if (one == 0) return -1;
  *one = (struct Destructor){call, object, pthread_getspecific(destructors)};
  return pthread_setspecific(destructors, one);
}

// Not needed by what runs here: no context is switched, no key of memory protection is used, no stack is printed.
int getcontext(void* context) { return -1; }
int setcontext(void* context) { return -1; }
void makecontext(void) { abort(); }
int pkey_alloc(void) { return -1; }
int pkey_free(void) { return -1; }
int pkey_get(void) { return -1; }
int pkey_mprotect(void) { return -1; }
int pkey_set(void) { return -1; }
int backtrace(void** frames, int most) { return 0; }
char** backtrace_symbols(void** frames, int count) { return 0; }
void backtrace_symbols_fd(void** frames, int count, int descriptor) {}
int _dl_find_object(void* address, void* found) { return -1; }
int __res_init(void) { return 0; }
const char* gnu_get_libc_version(void) { return "none, but musl"; }
char __libc_single_threaded = 0;
// libgcc_s's own, which musl does not find there because of their versions.
char __cpu_model[64];
int __cpu_indicator_init(void) { return 0; }

// Above the first frame of the stack. Node has it among what its loader makes read-only.
void* __libc_stack_end;
__attribute__((constructor)) static void Begin(void) {
  mprotect((void*)((size_t)&__libc_stack_end & ~4095ul), 4096, 3);
  __libc_stack_end = environ;
  pthread_key_create(&destructors, RunDestructors);
}
