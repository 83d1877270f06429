// One process a directory, for one use: two renewers would each ask with a key of their own, and the CA would have to take one of them for a
// thief; two verifiers would write one state over the other's. A lock
// is an empty file whose name says whose it is, so that there is nothing to read half-written, and a dead process's name never comes
// back: removing what it left cannot hit a living one. Made first, looked around after, so of two that come at once at least one sees
// the other; both may, and then both go away.
import { open, readdir, readFile, readlink, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { AgentError } from './errors.ts'

/** What a directory is held for. */
export interface DirectoryUse {
  /** Of a lock's name: lower-case letters. */
  readonly word: string
  readonly refused: (directory: string, pid: number) => AgentError
}

const renewing: DirectoryUse = {
  word: 'renewer',
  refused: (directory, pid) =>
    AgentError.of('directory_in_use', `another process (pid ${pid}) renews in ${directory}`, {
      hint: `stop it, or read its files: every program may read ${directory}`,
      facts: { pid },
    }),
}

/** Processes of another PID namespace (a container on the same volume) cannot be looked up: they show life by touching their file. */
const touchEveryMs = 10_000
const foreignDeadAfterMs = 60_000

interface Holder {
  /** Which boot of which kernel, and which PID namespace: pids are comparable only within. */
  readonly realm: string
  readonly pid: number
  /** Clock ticks from boot to the process's start: tells a process from a later one with the same pid. */
  readonly started: string
}

/** Field 22 of proc_pid_stat(5). The command (field 2) may hold anything, parentheses too. @returns null when there is no such process */
const startOf = async (pid: number): Promise<string | null> => {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null)
  if (text === null) return null
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null
}

const hasProc = async (): Promise<boolean> => (await startOf(process.pid)) !== null

const realm = async (): Promise<string> => {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => '00000000')
  const namespace = await readlink('/proc/self/ns/pid').catch(() => 'pid:[0]')
  return `${boot.slice(0, 8)}-${/\d+/.exec(namespace)?.[0] ?? '0'}`
}

const ourselves = async (): Promise<Holder> => ({
  realm: await realm(),
  pid: process.pid,
  started: (await startOf(process.pid)) ?? '0',
})

const nameOf = (word: string, holder: Holder): string => `.${word}-${holder.realm}-${holder.pid}-${holder.started}`

const holderOf = (word: string, name: string): Holder | null => {
  const match = /^\.([a-z]+)-([0-9a-f]{8}-\d+)-(\d+)-(\d+)$/.exec(name)
  return match?.[1] === word ? { realm: match[2]!, pid: Number(match[3]), started: match[4]! } : null
}

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

const isAlive = async (holder: Holder, path: string, own: Holder): Promise<boolean> => {
  if (holder.realm !== own.realm) {
    const touched = await stat(path).catch(() => null)
    return touched !== null && Date.now() - touched.mtimeMs < foreignDeadAfterMs
  }
  // Without /proc the pid alone has to do: a lock may then outlive its owner until that pid is free again, never the other way.
  return (await hasProc()) ? (await startOf(holder.pid)) === holder.started : isRunning(holder.pid)
}

/** @returns the living holder of another lock; locks of the dead are removed on the way */
const findOther = async (directory: string, word: string, own: Holder): Promise<Holder | null> => {
  for (const name of await readdir(directory)) {
    const holder = holderOf(word, name)
    if (holder === null || name === nameOf(word, own)) continue
    if (await isAlive(holder, join(directory, name), own)) return holder
    await rm(join(directory, name), { force: true })
  }
  return null
}

/** @returns the pid of the living process that renews here, null for none; changes nothing */
export const renewerOf = async (directory: string): Promise<number | null> => {
  const own = await ourselves()
  for (const name of await readdir(directory).catch(() => [])) {
    const holder = holderOf(renewing.word, name)
    if (holder !== null && (await isAlive(holder, join(directory, name), own))) return holder.pid
  }
  return null
}

/** @returns what holds the lock: a file of this process, or another process */
const tryLock = async (directory: string, word: string, own: Holder): Promise<string | Holder> => {
  const path = join(directory, nameOf(word, own))
  try {
    await (await open(path, 'wx', 0o644)).close()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return own
    throw error
  }
  const other = await findOther(directory, word, own)
  if (other === null) return path
  await rm(path, { force: true })
  return other
}

/** Of two that both went away, one should come back alone. */
const attempts = 3

export interface DirectoryLock extends AsyncDisposable {
  readonly path: string
}

/**
 * Held until disposed or until the process ends, by whatever signal.
 * @throws AgentError `directory_in_use`; the system's error when the directory cannot be written
 */
export const lockDirectory = async (directory: string, use = renewing): Promise<DirectoryLock> => {
  const own = await ourselves()
  let held = await tryLock(directory, use.word, own)
  for (let attempt = 1; attempt < attempts && typeof held !== 'string' && held !== own; attempt++) {
    await setTimeout(10 + 40 * Math.random())
    held = await tryLock(directory, use.word, own)
  }
  if (typeof held !== 'string') throw use.refused(directory, held.pid)
  const path = held
  const touching = setInterval(() => {
    const now = new Date()
    utimes(path, now, now).catch(() => {})
  }, touchEveryMs)
  touching.unref()
  let state: 'held' | 'given back' = 'held'
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      // The name is this process's: a second time it may be that of a later lock.
      if (state === 'given back') return
      state = 'given back'
      clearInterval(touching)
      await rm(path, { force: true })
    },
  }
}
