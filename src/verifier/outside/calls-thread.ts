// The thread in which a verifier's calls are made: its own file, loaded by thread.ts and by nobody else. It holds the connections of one
// generation of the identity and decides nothing: what comes back goes on as it came.
import { Readable } from 'node:stream'
import { type MessagePort, parentPort } from 'node:worker_threads'
import { callCa } from '../../agent/ca-call.ts'
import { createPeerConnections, type PeerConnections } from '../../agent/peer-fetch.ts'
import { createTrustMemory } from '../../agent/peer-proof.ts'
import type { CallAnswer } from './calls.ts'
import {
  type CaCallMessage,
  type CallMessage,
  type FromThread,
  maxUnread,
  type ToThread,
  tellError,
} from './messages.ts'

type Begun = Pick<CallAnswer, 'status' | 'body'>

interface Running {
  readonly controller: AbortController
  unread: number
  /** Goes on with the body. */
  resume: () => void
}

const makeCalls = (port: MessagePort): void => {
  const trustOf = createTrustMemory()
  // Owned by this closure.
  const running = new Map<number, Running>()
  let connections: PeerConnections | null = null

  const post = (message: FromThread, transfer: readonly ArrayBuffer[] = []): void =>
    port.postMessage(message, [...transfer])

  const start = async (message: CallMessage | CaCallMessage, signal: AbortSignal): Promise<Begun> => {
    if (message.kind === 'ca') {
      const answer = await callCa(message.target, { ...message.request, signal })
      return { status: 200, body: Readable.from([new TextEncoder().encode(JSON.stringify(answer))]) }
    }
    const { url, peer, init } = message
    if (peer === null) return fetch(url, { ...init, signal })
    if (connections === null) throw new Error('no identity to call under')
    return connections.fetch(url, { ...init, peer, signal })
  }
  const passOn = async (id: number, body: AsyncIterable<Uint8Array>, call: Running): Promise<void> => {
    for await (const part of body) {
      // A copy of its own: the part may be a view of a buffer that others share, and what is handed over is gone here.
      const bytes = part.slice()
      post({ kind: 'part', id, bytes }, [bytes.buffer])
      call.unread++
      if (call.unread < maxUnread) continue
      await new Promise<void>(resolve => {
        call.resume = resolve
      })
      call.controller.signal.throwIfAborted()
    }
  }
  const make = async (message: CallMessage | CaCallMessage): Promise<void> => {
    const { id } = message
    const call: Running = { controller: new AbortController(), unread: 0, resume: () => {} }
    running.set(id, call)
    try {
      const { status, body } = await start(message, call.controller.signal)
      post({ kind: 'head', id, status })
      if (body !== null) await passOn(id, body, call)
      post({ kind: 'end', id })
    } catch (error) {
      post({ kind: 'failed', id, error: tellError(error) })
    } finally {
      running.delete(id)
    }
  }

  port.on('message', (message: ToThread) => {
    if (message.kind === 'call' || message.kind === 'ca') return void make(message)
    if (message.kind === 'credential') {
      const { credential } = message
      // Calls under way finish where they are.
      void connections?.retire()
      connections = createPeerConnections(credential, trustOf(credential), () => Date.now())
      return
    }
    const call = running.get(message.id)
    if (call === undefined) return
    if (message.kind === 'abort') call.controller.abort()
    else call.unread--
    call.resume()
  })
  post({ kind: 'ready' })
}

if (parentPort !== null) makeCalls(parentPort)
