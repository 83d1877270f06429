// A crowd of agents, a process of its own: each comes at its time over a connection of its own, asks once, and where it is told to come back
// it does, when it was told to. Unlike load.ts it takes a refusal for an answer, and tells how long everybody had to wait in the end.
import { type ClientCredential, type Line, openLine, requestBytes, type Target } from './exchange.ts'
import { answerJobs } from './programs.ts'

export interface Arrival {
  readonly credential: ClientCredential | null
  readonly request: Uint8Array
  /** Milliseconds after the beginning. */
  readonly atMs: number
}

export interface CrowdJob {
  readonly target: Target
  readonly arrivals: readonly Arrival[]
  /** What everybody has to get in the end. */
  readonly status: number
  /**
   * null: each comes at its time, over a connection of its own. A number: so many connections, which are made before the time begins and
   * kept, and each takes the next one of those who wait.
   */
  readonly atOnce: number | null
  /** Whether answers are told. */
  readonly keep: boolean
}

export interface CrowdResult {
  /** Of each arrival from its time to its last answer, in milliseconds; in their order. */
  readonly waitedMs: readonly number[]
  readonly seconds: number
  /** Answers 429 and 503 that said when to come back. */
  readonly putOff: number
  /** Everything else: another status, a refusal without `Retry-After`, a connection that broke. A text each, at most 20. */
  readonly failures: readonly string[]
  readonly failed: number
  readonly bodies: readonly string[]
}

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
const isPutOff = (status: number): boolean => status === 503 || status === 429

/** Ten minutes: nobody waits for ever. */
const patienceMs = 600_000

const handshakesAtOnce = 64
/** Whoever says nothing after its handshake is cut off; after an answer a connection may rest for a minute. */
const greeting = requestBytes('GET', '/v1/capabilities', null)

const opened = async (target: Target, count: number): Promise<readonly Line[]> => {
  const lines: Line[] = []
  let begun = 0
  const worker = async (): Promise<void> => {
    while (begun++ < count) {
      const line = await openLine(target, null, true)
      await line.send(greeting)
      lines.push(line)
    }
  }
  await Promise.all(Array.from({ length: Math.min(handshakesAtOnce, count) }, worker))
  return lines
}

const run = async ({ target, arrivals, status: wanted, atOnce, keep }: CrowdJob): Promise<CrowdResult> => {
  const waitedMs: number[] = []
  const bodies: string[] = []
  const failures: string[] = []
  let [putOff, failed] = [0, 0]
  let begun = performance.now()
  const fail = (text: string): void => {
    failed++
    if (failures.length < 20) failures.push(text)
  }

  /** @returns the connection, where it still stands */
  const serve = async (
    { credential, request, atMs }: Arrival,
    index: number,
    kept: Line | null,
  ): Promise<Line | null> => {
    let line = kept
    try {
      while (performance.now() - begun < atMs + patienceMs) {
        line ??= await openLine(target, credential, true)
        const { status, body, retryAfter } = await line.send(request)
        if (isPutOff(status) && retryAfter !== null) {
          putOff++
          if (kept === null) {
            line.close()
            line = null
          }
          // As long as it was told, and up to half as long again: nobody wants the same crowd at the same moment.
          await sleep(retryAfter * 1000 * (1 + Math.random() / 2))
          continue
        }
        if (status !== wanted) fail(`${status} ${retryAfter === null ? '' : `Retry-After ${retryAfter} `}${body}`)
        else {
          waitedMs[index] = performance.now() - begun - atMs
          if (keep) bodies[index] = body
        }
        return line
      }
      fail('never served')
    } catch (error) {
      fail((error as Error).message)
      line?.close()
      return null
    }
    return line
  }

  if (atOnce === null) {
    await Promise.all(
      arrivals.map(async (arrival, i) => {
        await sleep(arrival.atMs)
        const line = await serve(arrival, i, null)
        line?.close()
      }),
    )
  } else {
    const lines = await opened(target, Math.min(atOnce, arrivals.length))
    begun = performance.now()
    let next = 0
    const worker = async (first: Line): Promise<void> => {
      let line: Line | null = first
      for (let i = next++; i < arrivals.length; i = next++)
        line = await serve({ ...arrivals[i]!, atMs: performance.now() - begun }, i, line)
      line?.close()
    }
    await Promise.all(lines.map(worker))
  }
  return { waitedMs, seconds: (performance.now() - begun) / 1000, putOff, failures, failed, bodies }
}

answerJobs<CrowdJob, CrowdResult>(run)
