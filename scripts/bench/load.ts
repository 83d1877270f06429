// The load generator, a process of its own: sends what it is given, over connections that it keeps, and says how long that took.
import { type ClientCredential, type Line, openLine, type Target } from './exchange.ts'
import { answerJobs, processCpu } from './programs.ts'

interface Common {
  readonly target: Target
  /** Requests in flight at once. */
  readonly concurrency: number
  /** What each answer has to say; any other ends the job. */
  readonly status: number
  /** Processes whose CPU is told. */
  readonly pids: readonly number[]
}

export type LoadJob =
  /** Each request once, over kept connections. */
  | (Common & { readonly kind: 'each'; readonly requests: readonly Uint8Array[]; readonly keep: boolean })
  /** The requests over and over, for so long; by somebody with a certificate, where there is one. */
  | (Common & {
      readonly kind: 'repeat'
      readonly requests: readonly Uint8Array[]
      readonly seconds: number
      readonly credential?: ClientCredential
    })
  /** One request of each client, on a connection of its own; the handshakes are made before the time begins, or within it. */
  | (Common & {
      readonly kind: 'clients'
      readonly clients: readonly { readonly credential: ClientCredential; readonly request: Uint8Array }[]
      readonly handshakes: 'before' | 'within'
      readonly keep: boolean
    })

export interface LoadResult {
  readonly answered: number
  readonly seconds: number
  /** Of each process that was named, while the time was taken: microseconds an answer. */
  readonly cpu: readonly number[]
  /** In the order of the requests; empty where they were not to be kept. */
  readonly bodies: readonly string[]
}

/** Takes the time of everything between its making and `result`. */
const createStopwatch = ({ status: expected, pids }: Common) => {
  const bodies: string[] = []
  let answered = 0
  const cpuBefore = pids.map(processCpu)
  const begun = performance.now()
  return {
    exchange: async (line: Line, request: Uint8Array, index: number): Promise<void> => {
      const { status, body } = await line.send(request)
      if (status !== expected) throw new Error(`expected status ${expected}, got ${status} ${body}`)
      answered++
      if (body !== '') bodies[index] = body
    },
    result: (): LoadResult => ({
      answered,
      seconds: (performance.now() - begun) / 1000,
      cpu: pids.map((pid, i) => (processCpu(pid) - cpuBefore[i]!) / answered),
      bodies,
    }),
  }
}

/** So many workers until there is no next index. */
const inParallel = async (
  workers: number,
  next: () => number | null,
  work: (index: number, worker: number) => Promise<void>,
): Promise<void> => {
  const run = async (worker: number): Promise<void> => {
    for (let index = next(); index !== null; index = next()) await work(index, worker)
  }
  await Promise.all(Array.from({ length: workers }, (_, worker) => run(worker)))
}

const upTo = (length: number): (() => number | null) => {
  let at = 0
  return () => (at < length ? at++ : null)
}

const openLines = async (
  target: Target,
  count: number,
  job: Extract<LoadJob, { kind: 'each' | 'repeat' }>,
): Promise<readonly Line[]> => {
  const credential = (job.kind === 'repeat' ? job.credential : undefined) ?? null
  const keep = job.kind === 'each' && job.keep
  return Promise.all(Array.from({ length: count }, () => openLine(target, credential, keep)))
}

const overKeptLines = async (job: Extract<LoadJob, { kind: 'each' | 'repeat' }>): Promise<LoadResult> => {
  const { target, requests, concurrency } = job
  const lines = await openLines(target, concurrency, job)
  if (job.kind === 'repeat') await acquaint(lines, requests[0] as Uint8Array)
  const watch = createStopwatch(job)
  const next = job.kind === 'each' ? upTo(requests.length) : untilTime(requests.length, job.seconds)
  const rest = job.kind === 'repeat' ? stayAwake() : () => {}
  await inParallel(concurrency, next, (index, worker) =>
    watch.exchange(lines[worker] as Line, requests[index] as Uint8Array, index),
  )
  const result = watch.result()
  rest()
  for (const line of lines) line.close()
  return result
}

/** In TLS 1.3 a client is done before its server has looked at its certificate: with an answer the server is done as well. */
const acquaint = async (lines: readonly Line[], request: Uint8Array): Promise<void> => {
  await Promise.all(lines.map(line => line.send(request)))
}

/**
 * A server on the same machine pays for waking a client that sleeps, as much as for a whole small answer, and a faster one does not,
 * because its client never gets to sleep: so neither may. @returns what ends it
 */
const stayAwake = (): (() => void) => {
  let awake = true
  const turn = (): void => {
    if (awake) setImmediate(turn)
  }
  turn()
  return () => {
    awake = false
  }
}

const untilTime = (length: number, seconds: number): (() => number | null) => {
  const end = performance.now() + seconds * 1000
  let at = 0
  return () => (performance.now() < end ? at++ % length : null)
}

const overOwnLines = async (job: Extract<LoadJob, { kind: 'clients' }>): Promise<LoadResult> => {
  const { target, clients, concurrency, keep } = job
  const lines: Line[] = []
  const connect = async (index: number): Promise<void> => {
    lines[index] = await openLine(target, clients[index]!.credential, keep)
  }
  if (job.handshakes === 'before') await inParallel(concurrency, upTo(clients.length), connect)
  const watch = createStopwatch(job)
  await inParallel(concurrency, upTo(clients.length), async index => {
    if (job.handshakes === 'within') await connect(index)
    await watch.exchange(lines[index]!, clients[index]!.request, index)
    if (job.handshakes === 'within') lines[index]!.close()
  })
  const result = watch.result()
  for (const line of lines) line.close()
  return result
}

answerJobs<LoadJob, LoadResult>(job => (job.kind === 'clients' ? overOwnLines(job) : overKeptLines(job)))
