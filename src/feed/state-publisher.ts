// Publishes the signed state: soon after each change, and now and then so that its age says that somebody is there. Served from memory,
// which needs neither ledger nor signer; the files are for mirrors and the next start.
import { createHash } from 'node:crypto'
import { fromUtf8, utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createUpkeep } from '../base/upkeep.ts'
import { encodeNoteText, encodeSignedNote } from '../pki/signed-note.ts'
import { encodeStateHead, type StateHead, stateOriginOf, verifyStateHead } from '../verify/signed-state.ts'
import { headFile, headJsonFile, type PublishedState, type StateDirectory } from './state-directory.ts'
import { advanceWindow, type StateWindow, type WindowDeps, windowOf } from './state-window.ts'

export interface StatePublisherDeps extends WindowDeps {
  /** As far as it can be trusted: what is signed ahead of time is believed for too long. */
  readonly clock: Clock
  readonly log: Log
  readonly feed: WindowDeps['feed'] & { onAppend(listener: () => void): () => void }
  readonly caId: string
  /** DER SubjectPublicKeyInfo. */
  readonly logKeySpki: Uint8Array
  /** DER ECDSA-Sig-Value by the log key over the text, with SHA-256. */
  readonly sign: (text: Uint8Array) => Promise<Uint8Array>
  readonly directory: StateDirectory
  /** What an earlier life published: served until there is something newer, and gone on from. */
  readonly before: PublishedState | null
  readonly everySeconds: number
}

export interface StatePublisher {
  /** A file by its name under `/state/`; null: there is none. */
  file(name: string): { readonly bytes: Uint8Array; readonly immutable: boolean } | null
  /** What is published; null: nothing yet. */
  head(): StateHead | null
  /** Publishes what was committed before the call, or what there is anew. @throws what signing or the file system throws */
  now(): Promise<StateHead>
  close(): Promise<void>
}

/** So long a verifier may rely on a state that it can get no newer one for. */
const lifetimeMs = 300_000
/** Between the beginnings of two: none waits longer than a second. */
const minIntervalMs = 500
/** Who has a head in a cache still finds its files. */
const keepMs = 120_000

export const createStatePublisher = (deps: StatePublisherDeps): StatePublisher => {
  const { clock, log, feed, directory } = deps
  // Changed only by the upkeep's work, which never runs twice at once.
  let current: PublishedState | null = deps.before
  let window: StateWindow | null = current === null ? null : windowOf(current)
  let asked = false
  let publishedAt = Number.NEGATIVE_INFINITY
  const leftovers = createLeftovers(deps)

  const isBehind = (): boolean => {
    const { epoch, n } = feed.head()
    return current === null || current.head.epoch !== epoch || current.head.n !== n
  }
  const dueInMs = (): number => (isBehind() ? 0 : deps.everySeconds * 1000 - (clock.monotonic() - publishedAt))
  const work = async (): Promise<void> => {
    const demanded = asked
    asked = false
    if (demanded || dueInMs() <= 0) {
      const next = await advanceWindow(window, deps)
      const state = await signState(deps, next, current?.head.at ?? null)
      if (current !== null) leftovers.add(current, state)
      current = state
      window = next
      publishedAt = clock.monotonic()
    }
    if (current !== null) await directory.show(current)
    await leftovers.sweep()
  }
  const upkeep = createUpkeep({
    clock,
    work,
    dueInMs,
    minIntervalMs,
    failed: (error, failures) => log.error({ failures, reason: messageOf(error) }, 'no new signed state is published'),
  })
  const stopListening = feed.onAppend(upkeep.wake)
  upkeep.wake()

  return {
    file: name => {
      if (current === null) return null
      if (name === headFile) return { bytes: current.note, immutable: false }
      if (name === headJsonFile) return { bytes: current.headJson, immutable: false }
      const bytes = current.files.get(name) ?? leftovers.get(name)
      return bytes === undefined ? null : { bytes, immutable: true }
    },
    head: () => current?.head ?? null,
    now: async () => {
      asked = true
      await upkeep.run()
      return current!.head
    },
    close: async () => {
      stopListening()
      await upkeep.close()
    },
  }
}

/** @param last time of the head before: no state is ever published behind it, whatever the clock or the ledger says */
const signState = async (
  deps: StatePublisherDeps,
  { position, snapshot, deltas, files }: StateWindow,
  last: number | null,
): Promise<PublishedState> => {
  const { caId, logKeySpki } = deps
  const at = Math.max(deps.clock.now(), last === null ? 0 : last + 1)
  const head: StateHead = { ...position, at, nextUpdate: at + lifetimeMs, snapshot, deltas }
  const headJson = utf8(encodeStateHead(head))
  const origin = stateOriginOf(caId)
  const digest = new Uint8Array(createHash('sha256').update(headJson).digest())
  const text = encodeNoteText({ origin, size: at, head: digest, at: Math.floor(at / 1000) * 1000 })
  const note = encodeSignedNote(text, origin, await deps.sign(text))
  verifyStateHead(note, fromUtf8(headJson), { caId, logKeySpki, notOlderThan: last, now: null })
  return { head, note: utf8(note), headJson, files }
}

/** Files that no head names any more. */
const createLeftovers = ({ clock, directory }: Pick<StatePublisherDeps, 'clock' | 'directory'>) => {
  const left = new Map<string, { readonly bytes: Uint8Array; readonly since: number }>()
  return {
    add: (before: PublishedState, after: PublishedState): void => {
      const since = clock.monotonic()
      for (const [name, bytes] of before.files) if (!after.files.has(name)) left.set(name, { bytes, since })
      for (const name of after.files.keys()) left.delete(name)
    },
    get: (name: string): Uint8Array | undefined => left.get(name)?.bytes,
    sweep: async (): Promise<void> => {
      for (const [name, { since }] of left) {
        if (clock.monotonic() - since < keepMs) continue
        left.delete(name)
        await directory.remove(name)
      }
    },
  }
}
