/* A PKCS#11 module that forwards to another one and misbehaves in C_Sign, C_SignInit and C_Login as a control file says.
 *
 * The control file is read anew at every call; one NAME=VALUE a line, unknown names are ignored, an absent file means "behave":
 *   sleep_ms=N       C_Sign sleeps N milliseconds before it forwards
 *   hold=1           C_Sign waits, then forwards, as long as the control file says so: it is read again every 5 milliseconds
 *   ckr=N            C_Sign returns N (decimal) instead of forwarding; the operation is ended in the real module first
 *   init_ckr=N       C_SignInit returns N instead of forwarding
 *   login_ckr=N      C_Login returns N instead of forwarding
 *   flip=1           C_Sign forwards, then flips one bit of the signature
 *   times=N          the above hold for the first N calls of C_Sign after this process started (default: all)
 * Beside the control file, "<control>.calls" gets one byte appended for each C_Sign that entered, ".logins" for each C_Login.
 *
 * Built with -DREAL_MODULE="..." -DCONTROL_FILE="...": see test/signer/shim.ts.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;
typedef unsigned char CK_BYTE;
typedef CK_RV (*fn)();

/* CK_FUNCTION_LIST of 2.40: a version of two bytes (padded to a pointer), then 68 function pointers. */
struct function_list {
  CK_BYTE version[sizeof(void *)];
  fn f[68];
};
enum { at_login = 18, at_sign_init = 42, at_sign = 43 };

static struct function_list *real;
static struct function_list mine;
static atomic_long entered;

static long control(const char *name, long otherwise) {
  FILE *file = fopen(CONTROL_FILE, "r");
  if (!file) return otherwise;
  char line[256];
  size_t length = strlen(name);
  long value = otherwise;
  while (fgets(line, sizeof line, file))
    if (strncmp(line, name, length) == 0 && line[length] == '=') value = strtol(line + length + 1, NULL, 10);
  fclose(file);
  return value;
}

static void mark(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (fd < 0) return;
  if (write(fd, ".", 1) != 1) abort();
  close(fd);
}

static CK_RV shim_login(CK_ULONG session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length) {
  mark(CONTROL_FILE ".logins");
  long ckr = control("login_ckr", 0);
  return ckr ? (CK_RV)ckr : real->f[at_login](session, user, pin, length);
}

static CK_RV shim_sign_init(CK_ULONG session, void *mechanism, CK_ULONG key) {
  long ckr = control("init_ckr", 0);
  return ckr ? (CK_RV)ckr : real->f[at_sign_init](session, mechanism, key);
}

static CK_RV shim_sign(CK_ULONG session, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature, CK_ULONG *signature_length) {
  long nth = atomic_fetch_add(&entered, 1) + 1;
  mark(CONTROL_FILE ".calls");
  long times = control("times", -1);
  int active = times < 0 || nth <= times;
  long sleep_ms = active ? control("sleep_ms", 0) : 0;
  if (sleep_ms > 0) {
    struct timespec wait = {sleep_ms / 1000, (sleep_ms % 1000) * 1000000L};
    nanosleep(&wait, NULL);
  }
  struct timespec pause = {0, 5000000L};
  while (active && control("hold", 0)) nanosleep(&pause, NULL);
  CK_RV result = real->f[at_sign](session, data, length, signature, signature_length);
  long ckr = active ? control("ckr", 0) : 0;
  if (ckr) return (CK_RV)ckr;
  if (result == 0 && signature && active && control("flip", 0)) signature[*signature_length / 2 + 1] ^= 1;
  return result;
}

CK_RV C_GetFunctionList(struct function_list **out) {
  if (!real) {
    void *library = dlopen(REAL_MODULE, RTLD_NOW | RTLD_LOCAL);
    if (!library) return 0x5;
    CK_RV (*get)(struct function_list **) = (CK_RV(*)(struct function_list **))dlsym(library, "C_GetFunctionList");
    if (!get || get(&real) != 0) return 0x5;
    memcpy(&mine, real, sizeof mine);
    mine.f[at_login] = (fn)shim_login;
    mine.f[at_sign_init] = (fn)shim_sign_init;
    mine.f[at_sign] = (fn)shim_sign;
  }
  *out = &mine;
  return 0;
}
