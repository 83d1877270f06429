// The signed state as another way to news: while the feed is not live, what the status listener or a mirror publishes is fetched now and
// then, verified by the log key, and taken where it comes after what is known. Who serves it does not matter.
import { setImmediate as turn } from 'node:timers/promises'
import type { Timing } from '../agent/backoff.ts'
import type { Credential } from '../agent/credential.ts'
import { crlBundleUrl } from '../agent/crl-fetch.ts'
import { AgentCaError, isAgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { parseOnePem } from '../pki/pem.ts'
import type { FeedEvent } from '../verify/feed-event.ts'
import { createRevocationState } from '../verify/revocation-state.ts'
import {
  type DeltaFile,
  neededFiles,
  readDeltaFile,
  readSnapshotFile,
  type SnapshotFile,
  type StateHead,
  verifyStateHead,
} from '../verify/signed-state.ts'
import type { Keeper } from './keeper.ts'
import type { CallAnswer, PublicFetch } from './outside/calls.ts'
import { ruleOf } from './problem.ts'

export interface PublishedStateDeps {
  readonly identity: { current(): Credential }
  readonly fetch: PublicFetch
  readonly keeper: Keeper
  readonly timing: Pick<Timing, 'clock' | 'random' | 'idle'>
  readonly log: Log
  /** Where `/state/` is, of a mirror for instance; null: beside the revocation list that the backend's own certificate names. */
  readonly statusUrl: string | null
  /** While it says so nothing is fetched. */
  readonly isLive: () => boolean
  /** After what is known changed: sockets are cut by it. */
  readonly changed: () => void
}

export interface PublishedStatePolling {
  close(): Promise<void>
}

/** Soon enough that a revocation is known within seconds, seldom enough that a thousand verifiers cost a status listener nothing. */
const pollEveryMs = 5000
/** The feed comes first: at a start, and while it reconnects. */
const firstPollMs = 1000
const deadlineMs = 15_000
const maxHeadBytes = 65_536

interface StateSource {
  readonly base: URL
  readonly caId: string
  readonly logKeySpki: Uint8Array
}

/** @returns null where nothing names a status listener, or the CA did not say which key signs */
const sourceOf = (credential: Credential, statusUrl: string | null): StateSource | null => {
  const { caId, logKey } = credential.facts
  if (caId === undefined || logKey === undefined) return null
  const list = crlBundleUrl(parseCertificate(parseOnePem(credential.certificatePem, 'CERTIFICATE')))
  const base = statusUrl === null ? (list === null ? null : new URL('../state/', list)) : stateUnder(statusUrl)
  return base === null ? null : { base, caId, logKeySpki: parseOnePem(logKey, 'PUBLIC KEY') }
}

const stateUnder = (statusUrl: string): URL => new URL('state/', statusUrl.endsWith('/') ? statusUrl : `${statusUrl}/`)

const readBytes = async (url: URL, maxBytes: number, { status, body }: CallAnswer): Promise<Uint8Array> => {
  if (status !== 200 || body === null) throw new AgentCaError('state_unreachable', `${url} answered ${status}`)
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of body) {
    size += part.length
    if (size > maxBytes) throw new AgentCaError('state_malformed', `${url} has more than ${maxBytes} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** @param ended ends it before its time */
const createFetchBytes =
  (fetch: PublicFetch, ended: AbortSignal) =>
  async (url: URL, maxBytes: number): Promise<Uint8Array> => {
    const enough = new AbortController()
    try {
      const signal = AbortSignal.any([ended, enough.signal, AbortSignal.timeout(deadlineMs)])
      return await readBytes(url, maxBytes, await fetch(url, { signal }))
    } finally {
      // An answer that was not wanted to its end must not hold its connection.
      enough.abort()
    }
  }

export const startPublishedStatePolling = (deps: PublishedStateDeps): PublishedStatePolling => {
  const { identity, keeper, timing, log } = deps
  const ended = new AbortController()
  const { signal } = ended
  const fetchBytes = createFetchBytes(deps.fetch, signal)

  const readHead = async ({ base, caId, logKeySpki }: StateSource): Promise<StateHead> => {
    const [note, json] = await Promise.all(
      ['head', 'head.json'].map(async name =>
        Buffer.from(await fetchBytes(new URL(name, base), maxHeadBytes)).toString('utf8'),
      ),
    )
    const trust = { caId, logKeySpki, notOlderThan: keeper.notOlderThan(), now: keeper.now() }
    return verifyStateHead(note as string, json as string, trust)
  }
  /** Head and note are two files: between two publications they do not fit, and a moment later they do. */
  const readHeadTwice = (source: StateSource): Promise<StateHead> =>
    readHead(source).catch(error => {
      if (isAgentCaError(error) && error.code === 'state_signature_invalid') return readHead(source)
      throw error
    })

  const deltaEvents = async function* ({ base }: StateSource, head: StateHead, deltas: readonly DeltaFile[]) {
    for (const file of deltas) {
      const bytes = await fetchBytes(new URL(file.name, base), file.bytes)
      yield* readDeltaFile(bytes, file, head.epoch)
    }
  }
  const snapshotEvents = async function* ({ base }: StateSource, head: StateHead, file: SnapshotFile) {
    const bytes = await fetchBytes(new URL(file.name, base), file.bytes)
    yield* readSnapshotFile(bytes, file, head.epoch)
  }
  const applyAll = async (events: AsyncIterable<FeedEvent>, apply: (event: FeedEvent) => string): Promise<void> => {
    for await (const event of events) {
      if (apply(event) === 'resync') throw new AgentCaError('state_malformed', 'changes that do not follow')
      // Requests are answered in between.
      await turn()
    }
  }
  const applyHead = async (source: StateSource, head: StateHead): Promise<void> => {
    const { snapshot, deltas } = neededFiles(head, keeper.position())
    if (snapshot === null) return applyAll(deltaEvents(source, head, deltas), keeper.follow)
    const next = createRevocationState()
    await applyAll(snapshotEvents(source, head, snapshot), next.apply)
    await applyAll(deltaEvents(source, head, deltas), next.apply)
    keeper.replace(next, head)
  }

  const poll = async (): Promise<void> => {
    const source = sourceOf(identity.current(), deps.statusUrl)
    if (source === null) return
    const head = await readHeadTwice(source)
    // A mirror that is behind says nothing against what is known, and nothing for it.
    if (!keeper.isAhead(head)) return
    try {
      await applyHead(source, head)
    } finally {
      // Whatever was applied before a fault is signed all the same.
      deps.changed()
    }
    if (keeper.vouch(head)) await keeper.save()
  }

  const running = (async () => {
    let wait = firstPollMs
    while (!signal.aborted) {
      await timing.idle(wait * (0.5 + timing.random()), signal)
      wait = deps.isLive() ? firstPollMs : pollEveryMs
      if (deps.isLive()) continue
      await poll().catch(error => {
        if (!signal.aborted)
          log.warn({ code: ruleOf(error), reason: messageOf(error) }, 'no newer signed state was taken')
      })
    }
  })().catch(error => {
    if (!signal.aborted) log.error({ reason: messageOf(error) }, 'signed states are no longer looked for')
  })

  return {
    close: async () => {
      ended.abort()
      await running
    },
  }
}
