// No core dumps of the processes that are started: they would hold the PIN, or the server's key.

/**
 * For `sh -c`, with the program and its arguments after it. A limit of one octet, which server/core-dumps.ts sets, stays: it keeps a kernel
 * that pipes dumps to a program from doing so, and 0 would not (core(5)). Files are this user's alone. exec keeps the pid.
 */
export const withoutCoreDumps =
  'grep -qs "^Max core file size  *1 " /proc/self/limits || ulimit -c 0; umask 077; exec "$@"'
