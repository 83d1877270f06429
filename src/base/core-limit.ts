// No core dumps of the processes that are started: they would hold the PIN, or the server's key.

/**
 * For a shell, before it becomes the program. A limit of one octet, which server/core-dumps.ts sets, stays: it keeps a kernel that pipes
 * dumps to a program from doing so, and 0 would not (core(5)).
 */
export const withoutCoreDumps = "grep -qs '^Max core file size  *1 ' /proc/self/limits || ulimit -c 0"
