// The feed for tests: a real authority, its ledger, the real front on a TLS listener, and readers over mTLS.
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { connect, type TLSSocket } from 'node:tls'
import { Agent, request } from 'undici'
import { silentLog } from '../../src/base/log.ts'
import type { IssuedCertificate } from '../../src/ca/issuance.ts'
import { createFeed, type Feed, type FeedDeps } from '../../src/feed/feed.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type { SubjectKind } from '../../src/store/records.ts'
import { createEventStreamReader } from '../../src/verify/event-stream.ts'
import { encodePosition, type FeedEvent, parseFeedEvent } from '../../src/verify/feed-event.ts'
import { leaf } from '../ca/authority.ts'
import {
  type AgentKey,
  type Ask,
  type ask,
  createCountingMetrics,
  createKey,
  createTestFront,
} from '../http/harness.ts'

export interface Holder {
  readonly name: string
  readonly instance: string
  readonly serial: string
  readonly notAfter: number
  readonly cert: string
  readonly key: string
}

const holderOf = (name: string, key: AgentKey, { record, certificate }: IssuedCertificate): Holder => ({
  name,
  instance: record.instanceId,
  serial: record.serial,
  notAfter: record.notAfter,
  cert: encodePem('CERTIFICATE', certificate),
  key: key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
})

export type World = Awaited<ReturnType<typeof createFeedWorld>>

export const createFeedWorld = async (changes: Partial<FeedDeps> = {}) => {
  const front = await createTestFront()
  const { ledger, ca, deps } = front
  const counting = createCountingMetrics()
  const open = (more: Partial<FeedDeps> = {}): Feed =>
    createFeed({
      clock: deps.clock,
      log: silentLog,
      metrics: counting.metrics,
      feed: ledger.feed,
      certificates: ledger.certificates,
      registrations: ledger.registrations,
      audit: ledger.audit,
      // No beat but those that a test wants to see: everything else must not wait for one.
      heartbeatSeconds: 3600,
      leaseSeconds: 15,
      ...changes,
      ...more,
    })

  const register = async (kind: SubjectKind, name: string) => {
    await ledger.owners.ensure('finance', Date.now(), leaf('owner_created'))
    return ledger.registrations.create(
      {
        kind,
        name,
        owner: 'finance',
        purpose: 'test',
        profile: kind,
        roles: ['reader'],
        attributes: { region: 'eu' },
        dnsNames: [],
        instanceLimit: null,
        operatorRole: kind === 'operator' ? 'viewer' : null,
        until: null,
        at: deps.clock.now(),
      },
      leaf('registration_created'),
    )
  }
  /** A certificate of somebody who is registered; a new instance each time. */
  const holder = async (kind: SubjectKind, name: string): Promise<Holder> => {
    if (ledger.registrations.find(kind, name) === null) await register(kind, name)
    const key = await createKey()
    const issued = await ca.issuance.issue({
      operation: 'issue',
      evidence: { kind: 'registration', subject: kind, name },
      csr: key.csr,
      context: { requestId: 'setup', who: 'operator:test', source: '127.0.0.1' },
    })
    return holderOf(name, key, issued)
  }
  /** The next certificate of the same instance. */
  const renew = async ({ name, serial }: Holder): Promise<Holder> => {
    const key = await createKey()
    return holderOf(name, key, await ca.renew(serial, key))
  }
  const revoke = async (by: 'serial' | 'instance' | 'agent' | 'service', value: string) => {
    const { feedN } = await ledger.revocations.revoke({
      selector: { by, value },
      reason: 'keyCompromise',
      at: deps.clock.now(),
      expected: null,
      leaf: () => leaf('revoked'),
    })
    return feedN
  }
  const setState = (kind: SubjectKind, name: string, state: 'active' | 'held' | 'retired') =>
    ledger.registrations.change({
      kind,
      name,
      at: deps.clock.now(),
      decide: () => ({ set: {}, state }),
      leaf: () => leaf('registration_changed'),
    })

  const setAttributes = (agent: string, attributes: Readonly<Record<string, string>>) =>
    ledger.registrations.change({
      kind: 'agent',
      name: agent,
      at: deps.clock.now(),
      decide: () => ({ set: { attributes }, state: 'active' }),
      leaf: () => leaf('registration_changed'),
    })

  const setRoles = (agent: string, roles: readonly string[]) =>
    ledger.registrations.change({
      kind: 'agent',
      name: agent,
      at: deps.clock.now(),
      decide: () => ({ set: { roles }, state: 'active' }),
      leaf: () => leaf('registration_changed'),
    })

  return { front, ledger, deps, counting, setAttributes, setRoles, open, register, holder, renew, revoke, setState }
}

export interface Serving extends AsyncDisposable {
  readonly port: number
  readonly feed: Feed
  read(holder: Holder, options?: ReadOptions): Promise<Reader>
  acknowledge(holder: Holder, id: string, more?: Readonly<Record<string, unknown>>): Promise<number>
  call(path: string, asked: Ask): ReturnType<typeof ask>
  id(n: number): string
}

/** The front with a feed of its own, as after a start of the server. */
export const serveFeed = async (world: World, changes: Partial<FeedDeps> = {}): Promise<Serving> => {
  const feed = world.open(changes)
  const served = await world.front.serve({ feed })
  const call = (path: string, asked: Ask) => served.call(path, asked)
  return {
    port: served.port,
    feed,
    call,
    read: (holder, options) => openReader(served.port, holder, options),
    acknowledge: async (holder, id, more = {}) =>
      (await call('/v1/feed/ack', { shown: holder, body: { id, ...more } })).status,
    id: n => encodePosition({ epoch: feed.head().epoch, n }),
    [Symbol.asyncDispose]: async () => {
      await feed.close()
      await served[Symbol.asyncDispose]()
    },
  }
}

export interface ReadOptions {
  readonly since?: string
  readonly lastEventId?: string
  readonly subscriber?: string
  readonly maxStaleness?: number
}

export interface Reader extends Reading, AsyncDisposable {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  close(): void
}

export const pathOf = ({ since, subscriber, maxStaleness }: ReadOptions): string => {
  const query = new URLSearchParams()
  if (since !== undefined) query.set('since', since)
  if (subscriber !== undefined) query.set('subscriber', subscriber)
  if (maxStaleness !== undefined) query.set('maxStaleness', String(maxStaleness))
  return `/v1/feed${query.size === 0 ? '' : `?${query}`}`
}

export interface Reading {
  /** Everything so far. */
  readonly events: readonly FeedEvent[]
  /** The first that is wanted, of all so far and to come. @throws when the stream ends without it */
  until(wanted: (event: FeedEvent) => boolean): Promise<FeedEvent>
  /** Resolves with the code that the stream ended with; null where it said none. */
  ended(): Promise<string | null>
}

export const readEvents = (body: Readable): Reading => {
  const events: FeedEvent[] = []
  let over = false
  let changed = Promise.withResolvers<void>()
  const tell = (): void => {
    changed.resolve()
    changed = Promise.withResolvers()
  }
  const stream = createEventStreamReader()
  body.on('data', (chunk: Buffer) => {
    events.push(...stream.push(chunk).map(({ event, id, data }) => parseFeedEvent(event, id, data)))
    tell()
  })
  const finish = (): void => {
    over = true
    tell()
  }
  body.on('end', finish).on('error', finish).on('close', finish)
  return {
    events,
    until: async wanted => {
      for (;;) {
        const found = events.find(wanted)
        if (found !== undefined) return found
        if (over) throw new Error(`the stream ended: ${JSON.stringify(events.at(-1))}`)
        await changed.promise
      }
    },
    ended: async () => {
      while (!over) await changed.promise
      const last = events.at(-1)
      return last?.type === 'end' ? last.code : null
    },
  }
}

export const openReader = async (port: number, holder: Holder, options: ReadOptions = {}): Promise<Reader> => {
  const dispatcher = new Agent({ connect: { cert: holder.cert, key: holder.key, rejectUnauthorized: false } })
  const { statusCode, headers, body } = await request(`https://127.0.0.1:${port}${pathOf(options)}`, {
    dispatcher,
    headers: options.lastEventId === undefined ? {} : { 'last-event-id': options.lastEventId },
    bodyTimeout: 0,
  })
  const close = (): void => void dispatcher.destroy()
  return { status: statusCode, headers, ...readEvents(body), close, [Symbol.asyncDispose]: async () => close() }
}

/** A reader that reads nothing once its answer has begun. */
export const openDeafReader = async (port: number, holder: Holder): Promise<TLSSocket> => {
  const socket = connect({ host: '127.0.0.1', port, cert: holder.cert, key: holder.key, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  socket.write(`GET /v1/feed HTTP/1.1\r\nHost: ca\r\n\r\n`)
  await once(socket, 'data')
  socket.pause()
  return socket
}

export const isType =
  (...types: readonly FeedEvent['type'][]) =>
  (event: FeedEvent): boolean =>
    types.includes(event.type)
export const reaches =
  (n: number) =>
  (event: FeedEvent): boolean =>
    event.position.n >= n && event.type !== 'snapshot'
