// A verifier's calls, made in a thread of their own. Node's servers and clients share the code of streams, HTTP and TLS, and V8 fits that
// code to whoever uses it: beside a client that lives as long as the server, each request to the server costs about a third more. The
// thread only calls; what comes back is judged, applied and acknowledged by those who asked. When it ends, calls under way fail and the
// next one starts another; where none can run (no permission for workers, a bundle without its file) calls are made in this thread.
import { existsSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { CaAnswer } from '../../agent/ca-call.ts'
import type { Credential } from '../../agent/credential.ts'
import { isCalledByCredential } from '../../agent/identity.ts'
import { AgentCaError, messageOf } from '../../base/errors.ts'
import { type ArrivingBody, createArrivingBody } from './arriving.ts'
import { type CallAnswer, callInThisThread, type Outside, type OutsideDeps, type PublicCall } from './calls.ts'
import { type CaCallMessage, type CallMessage, errorOf, type FromThread, type ToThread } from './messages.ts'

/** Between the end of a thread and the start of the next. */
const restartMs = [100, 500, 2000, 5000]

type Asked = Omit<CallMessage, 'id'> | Omit<CaCallMessage, 'id'>

interface Waiting {
  readonly head: PromiseWithResolvers<CallAnswer>
  readonly body: ArrivingBody
  /** A signal that lives longer than the call would keep all of it. */
  readonly forget: () => void
}

const textOf = async (body: ArrivingBody): Promise<string> => {
  const parts: Uint8Array[] = []
  for await (const part of body.read()) parts.push(part)
  return Buffer.concat(parts).toString('utf8')
}

const answerOf = (status: number, body: ArrivingBody): CallAnswer => ({
  status,
  body: { [Symbol.asyncIterator]: () => body.read() },
  text: () => textOf(body),
})

/** Of one thread: what it was told, and who waits for it. */
interface CallsThread {
  call(asked: Asked, signal: AbortSignal): Promise<CallAnswer>
  /** Before the next call under it. */
  use(credential: Credential): void
  terminate(): Promise<void>
}

interface Ended {
  /** Whether it ever ran. */
  readonly ran: boolean
  readonly reason: unknown
}

/** @param ended once; nobody waits for it any more then @throws where no thread may be made */
const startThread = (file: URL, answered: () => void, ended: (how: Ended) => void): CallsThread => {
  // The program's own options (hooks, conditions) are not for it: what it loads lies beside it. Its output is not passed on: it has none,
  // and the streams that would carry it are what this thread is to be spared.
  const worker = new Worker(file, { name: 'agentca-calls', execArgv: [], stdout: true, stderr: true })
  // Owned by this closure.
  const waiting = new Map<number, Waiting>()
  let used: Credential | null = null
  let calls = 0
  let ran = false
  let fault: unknown = null

  const post = (message: ToThread): void => worker.postMessage(message)
  const take = (message: FromThread): void => {
    if (message.kind === 'ready') {
      ran = true
      return
    }
    const asked = waiting.get(message.id)
    if (asked === undefined) return
    const { head, body, forget } = asked
    if (message.kind === 'head') {
      answered()
      head.resolve(answerOf(message.status, body))
    } else if (message.kind === 'part') body.push(message.bytes)
    else if (message.kind === 'end') {
      waiting.delete(message.id)
      forget()
      body.end()
    } else fail(message.id, errorOf(message.error))
  }
  const fail = (id: number, error: unknown): void => {
    const asked = waiting.get(id)
    waiting.delete(id)
    asked?.forget()
    asked?.head.reject(error)
    asked?.body.fail(error)
  }

  worker.on('message', take)
  worker.on('error', error => {
    fault = error
  })
  worker.on('exit', code => {
    const reason = fault ?? new Error(`it ended with ${code}`)
    const cause = new AgentCaError('calls_interrupted', `the thread that makes calls ended: ${messageOf(reason)}`)
    for (const id of [...waiting.keys()]) fail(id, cause)
    ended({ ran, reason })
  })

  return {
    call: (asked, signal) => {
      const id = ++calls
      const abandon = (): void => {
        if (!waiting.has(id)) return
        post({ kind: 'abort', id })
        fail(id, signal.reason)
      }
      const body = createArrivingBody({ taken: () => post({ kind: 'more', id }), left: abandon })
      const head = Promise.withResolvers<CallAnswer>()
      waiting.set(id, { head, body, forget: () => signal.removeEventListener('abort', abandon) })
      signal.addEventListener('abort', abandon, { once: true })
      post({ ...asked, id })
      return head.promise
    },
    use: credential => {
      if (used !== null && isSame(used, credential)) return
      used = credential
      post({ kind: 'credential', credential })
    },
    terminate: async () => {
      await worker.terminate()
    },
  }
}

const isSame = (a: Credential, b: Credential): boolean =>
  a.certificatePem === b.certificatePem && a.chainPem === b.chainPem && a.bundlePem === b.bundlePem

/** Beside this file, with its own ending; null: not there, as in a bundle. */
const threadFile = (): URL | null => {
  // A bundle may have no such thing.
  const own: string | undefined = import.meta.url
  if (own === undefined || !own.startsWith('file:')) return null
  const file = new URL(`./calls-thread${extname(own)}`, own)
  return existsSync(fileURLToPath(file)) ? file : null
}

/** @param file what the thread runs; a test gives another one */
export const callInThread = (deps: OutsideDeps, file = threadFile()): Outside => {
  const { identity, timing, log } = deps
  const here = callInThisThread(deps)
  // Whoever put something around its calls wants them to come by there.
  if (!isCalledByCredential(identity)) return here
  const closing = new AbortController()
  // Owned by this closure.
  let thread: CallsThread | null = null
  let cannotRun = file === null
  let failures = 0
  let notBefore = 0

  const ended = ({ ran, reason }: Ended): void => {
    thread = null
    if (closing.signal.aborted) return
    if (!ran) {
      stayHere(reason)
      return
    }
    notBefore = timing.clock.monotonic() + (restartMs[Math.min(failures++, restartMs.length - 1)] as number)
    log.warn({ reason: messageOf(reason) }, 'the thread that calls the CA ended; another one is started')
  }
  const stayHere = (reason: unknown): void => {
    cannotRun = true
    log.info({ reason: messageOf(reason) }, 'no thread can be started for calls to the CA: requests cost more')
  }
  const answered = (): void => {
    failures = 0
  }
  /** null: none can run. */
  const running = async (signal: AbortSignal): Promise<CallsThread | null> => {
    const wait = thread === null ? notBefore - timing.clock.monotonic() : 0
    if (wait > 0) await timing.wait(wait, signal)
    signal.throwIfAborted()
    if (cannotRun || file === null) return null
    try {
      thread ??= startThread(file, answered, ended)
    } catch (error) {
      stayHere(error)
    }
    return thread
  }
  const until = ({ signal }: PublicCall): AbortSignal => AbortSignal.any([signal, identity.signal, closing.signal])

  return {
    fetch: async (url, call) => {
      const signal = until(call)
      const at = await running(signal)
      if (at === null) return here.fetch(url, call)
      const { peer, signal: _, ...init } = call
      at.use(identity.current())
      return at.call({ kind: 'call', url, peer, init }, signal)
    },
    fetchPublic: async (url, call) => {
      const signal = until(call)
      const at = await running(signal)
      return at === null
        ? here.fetchPublic(url, call)
        : at.call({ kind: 'call', url: url.href, peer: null, init: {} }, signal)
    },
    callCa: async (target, { signal: asked, ...request }) => {
      const signal = AbortSignal.any([asked, closing.signal])
      // Who asks has its own way, and need not wait for the next thread.
      const at = thread ?? (timing.clock.monotonic() < notBefore ? null : await running(signal))
      if (at === null) throw new AgentCaError('calls_interrupted', 'no thread runs that makes calls')
      const answer = await at.call({ kind: 'ca', target, request }, signal)
      return JSON.parse(await answer.text()) as CaAnswer
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort(new AgentCaError('calls_interrupted', 'the verifier was disposed of'))
      await thread?.terminate()
    },
  }
}
