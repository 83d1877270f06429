// A published state for tests: files signed by a key of their own, behind a plain HTTP server that serves what it was last told.
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { concatBytes, utf8 } from '../../src/base/bytes.ts'
import { encodeNoteText, encodeSignedNote } from '../../src/pki/signed-note.ts'
import type { KnownFeedEvent } from '../../src/verify/feed-event.ts'
import {
  deltaFileName,
  encodeStateHead,
  encodeStateLine,
  type StateHead,
  snapshotFileName,
  stateOriginOf,
} from '../../src/verify/signed-state.ts'

export const caId = 'ca-1'
export const epoch = '0123456789abcdef'
const log = generateKeyPairSync('ec', { namedCurve: 'P-256' })
export const logKeyPem = log.publicKey.export({ type: 'spki', format: 'pem' }) as string
export const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const fileOf = (events: readonly KnownFeedEvent[]): Uint8Array =>
  concatBytes(events.map(each => utf8(encodeStateLine(each))))

export const serialOf = (i: number): string => `01${i.toString(16).padStart(30, '0')}`

export const revokeEvent = (n: number, serial: string, at: number, inEpoch = epoch): KnownFeedEvent => ({
  type: 'revoke',
  position: { epoch: inEpoch, n },
  at,
  by: 'serial',
  value: serial,
  reason: 'keyCompromise',
  changes: [{ serial, notAfter: at + 3_600_000 }],
})

/** One part, with so many serials revoked. */
export const snapshotEvent = (n: number, revoked: number, at: number, inEpoch = epoch) => ({
  type: 'snapshot' as const,
  position: { epoch: inEpoch, n },
  at,
  part: 1,
  parts: 1,
  revoked: Array.from({ length: revoked }, (_, i) => ({ serial: serialOf(i), notAfter: at + 3_600_000 })),
  held: [],
  principals: [],
})

export interface Published {
  readonly at: number
  readonly snapshot: Extract<KnownFeedEvent, { readonly type: 'snapshot' }>
  /** Each a file of its own. */
  readonly changes?: readonly KnownFeedEvent[]
  readonly lifetimeMs?: number
  readonly key?: KeyObject
}

/** Its files by name. */
export const publicationOf = (published: Published): { readonly head: StateHead; files: Map<string, Uint8Array> } => {
  const { at, snapshot, changes = [], lifetimeMs = 300_000, key = log.privateKey } = published
  const { position } = snapshot
  const whole = fileOf([snapshot])
  const files = new Map<string, Uint8Array>()
  const deltas = changes.map(event => {
    const bytes = fileOf([event])
    const [from, to, sha256] = [event.position.n - 1, event.position.n, hashOf(bytes)]
    const name = deltaFileName(position.epoch, from, to, sha256)
    files.set(name, bytes)
    return { name, from, to, sha256, bytes: bytes.length }
  })
  const name = snapshotFileName(position, hashOf(whole))
  files.set(name, whole)
  const head: StateHead = {
    epoch: position.epoch,
    n: changes.at(-1)?.position.n ?? position.n,
    at,
    nextUpdate: at + lifetimeMs,
    snapshot: { name, n: position.n, sha256: hashOf(whole), bytes: whole.length },
    deltas,
  }
  const json = utf8(encodeStateHead(head))
  const origin = stateOriginOf(caId)
  const digest = new Uint8Array(createHash('sha256').update(json).digest())
  const text = encodeNoteText({ origin, size: at, head: digest, at: Math.floor(at / 1000) * 1000 })
  files.set('head.json', json)
  files.set('head', utf8(encodeSignedNote(text, origin, new Uint8Array(sign('sha256', text, key)))))
  return { head, files }
}

export interface Mirror extends AsyncDisposable {
  readonly url: string
  /** Names that were asked for. */
  readonly asked: string[]
  show(files: ReadonlyMap<string, Uint8Array>): void
}

export const startMirror = async (): Promise<Mirror> => {
  let shown: ReadonlyMap<string, Uint8Array> = new Map()
  const asked: string[] = []
  const server = createServer((request, response) => {
    const name = request.url?.replace('/state/', '') ?? ''
    asked.push(name)
    const bytes = shown.get(name)
    response.writeHead(bytes === undefined ? 404 : 200).end(bytes)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    show: files => {
      shown = files
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
