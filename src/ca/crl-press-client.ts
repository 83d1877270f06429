// The press in a thread of its own, as the event loop sees it. What it holds is lost with it: whoever uses it begins again with another.
import { existsSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { CrlPress } from './crl-press.ts'
import type { FromPress, ToPress } from './crl-press-thread.ts'
import { CaError } from './errors.ts'

interface Waiting {
  resolve(message: FromPress): void
  reject(error: unknown): void
}

/** Beside this file, with its own ending; null: not there, as in a bundle. */
export const pressFile = (): URL | null => {
  const own: string | undefined = import.meta.url
  if (own === undefined || !own.startsWith('file:')) return null
  const file = new URL(`./crl-press-thread${extname(own)}`, own)
  return existsSync(fileURLToPath(file)) ? file : null
}

/** @param ended once, when it is gone; after `close` not at all */
export const startPress = (file: URL, ended: (reason: string) => void): CrlPress => {
  const worker = new Worker(file, { name: 'agentca-lists', execArgv: [] })
  // A server that is told to stop waits for its lists, not for this.
  worker.unref()
  // Owned by this closure.
  const waiting = new Map<number, Waiting>()
  let ids = 0
  let fault: unknown = null
  let closed = false

  const gone = (): AgentCaError =>
    closed
      ? new AgentCaError('shutting_down', 'no list is written any more: the server is stopping')
      : new CaError('internal', `the thread that writes lists ended: ${messageOf(fault)}`)
  worker.on('message', (message: FromPress) => {
    const asked = waiting.get(message.id)
    waiting.delete(message.id)
    if (message.kind === 'failed') asked?.reject(new CaError('internal', `no list was written: ${message.message}`))
    else asked?.resolve(message)
  })
  worker.on('error', error => {
    fault = error
  })
  worker.on('exit', code => {
    fault ??= new Error(`it ended with ${code}`)
    for (const { reject } of waiting.values()) reject(gone())
    waiting.clear()
    if (!closed) ended(messageOf(fault))
  })
  const ask = (message: (id: number) => ToPress, moved: ArrayBuffer[]): Promise<FromPress> => {
    if (closed || fault !== null) return Promise.reject(gone())
    const id = ++ids
    const { promise, resolve, reject } = Promise.withResolvers<FromPress>()
    waiting.set(id, { resolve, reject })
    worker.postMessage(message(id), moved)
    return promise
  }
  return {
    apply: (issuerId, page) => {
      const moved = [page.serials, page.revokedAt, page.notAfter, page.reasons].map(each => each.buffer as ArrayBuffer)
      worker.postMessage({ kind: 'apply', issuerId, page } satisfies ToPress, moved)
    },
    write: async (issuerId, order) => {
      const answer = await ask(id => ({ kind: 'write', id, issuerId, order }), [])
      if (answer.kind !== 'written') throw new CaError('internal', `expected a written list, got ${answer.kind}`)
      return answer.list
    },
    finish: async order => {
      const answer = await ask(id => ({ kind: 'finish', id, order }), [order.list.buffer.buffer])
      if (answer.kind !== 'finished') throw new CaError('internal', `expected a finished list, got ${answer.kind}`)
      return answer.list
    },
    close: async () => {
      closed = true
      await worker.terminate()
    },
  }
}
