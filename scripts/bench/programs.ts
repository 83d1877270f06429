// Programs of the benchmarks that run in processes of their own, so that their CPU is nobody else's: jobs in, results out, one at a
// time, over Node's IPC channel.
import { fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Program<Job, Result> extends AsyncDisposable {
  readonly pid: number
  /** @throws Error with the program's own message */
  run(job: Job): Promise<Result>
}

type Reply<Result> = { readonly result: Result } | { readonly error: string }

/** @param name of a file beside this one, without its extension */
export const startProgram = <Job, Result>(name: string): Program<Job, Result> => {
  const child = fork(join(import.meta.dirname, `${name}.ts`), { serialization: 'advanced', execArgv: [] })
  const gone = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => reject(new Error(`${name} ended: ${signal ?? code}`)))
  })
  gone.catch(() => {})
  return {
    pid: child.pid as number,
    run: async job => {
      const replied = new Promise<Reply<Result>>(resolve => child.once('message', resolve))
      child.send(job as object)
      const reply = await Promise.race([replied, gone])
      if ('error' in reply) throw new Error(`${name}: ${reply.error}`)
      return reply.result
    },
    [Symbol.asyncDispose]: async () => {
      child.kill()
      await gone.catch(() => {})
    },
  }
}

/** The other end: what such a program does with each job. */
export const answerJobs = <Job, Result>(work: (job: Job) => Promise<Result>): void => {
  process.on('message', (job: Job) => {
    const reply = (value: Reply<Result>): void => {
      process.send?.(value)
    }
    work(job).then(
      result => reply({ result }),
      (error: Error) => reply({ error: error.stack ?? error.message }),
    )
  })
  process.on('disconnect', () => process.exit(0))
}

/** User and system CPU of a process so far, in microseconds (proc(5); a tick is 10 ms). */
export const processCpu = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

/** Peak of the resident memory in bytes. */
export const peakMemory = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

/** Processes that this one started. */
export const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
