// Holds the signer's own durable count of leaf signatures against the ledger: a signature nobody recorded shows as a difference. The
// signer is asked first and the ledger after it, and an intent is on disk before it is signed, so an honest difference can only be on
// the ledger's side.
//
// A signer that is killed counts on from what it had reserved: ahead of the truth by up to a block. What it cannot know, the ledger does:
// the first comparison after a kill settles by how much the count is ahead from then on, writes it down, and the doubt is gone. Without
// that every kill would leave room for a block of signatures that nobody would miss.
import { signerCountsMismatch, signerGapSettled } from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Issuers } from '../ca/issuers.ts'
import type { SignerPort } from '../signer/port.ts'
import type { AuditPort, IssuancePort, MetaPort } from '../store/ports.ts'

export interface ReconcileDeps {
  readonly clock: Clock
  readonly log: Log
  readonly signer: SignerPort
  readonly issuers: Issuers
  readonly issuance: Pick<IssuancePort, 'signatures'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly meta: Pick<MetaPort, 'get' | 'set'>
}

export interface Reconciler {
  /** @returns the keys whose counts do not fit */
  run(): Promise<readonly string[]>
}

/** How far a key's count is ahead of the signatures there are. */
interface Settled {
  /** The signer's own doubt when this was settled: when it grows, there was another kill. */
  readonly uncertain: number
  /** Between these two: what was doubtful in the ledger then may have been signed or not. */
  readonly least: number
  readonly most: number
}

const nothingSettled: Settled = { uncertain: 0, least: 0, most: 0 }

const isSettled = (value: unknown): value is Settled => {
  const { uncertain, least, most } = (value ?? {}) as Record<string, unknown>
  return [uncertain, least, most].every(Number.isSafeInteger)
}

/** What cannot be read settles nothing: the doubt is then as large as the signer says. */
const readSettled = (text: string | null): ReadonlyMap<string, Settled> => {
  const entries = text === null ? [] : Object.entries(JSON.parse(text) as Record<string, unknown>)
  return new Map(entries.filter((entry): entry is [string, Settled] => isSettled(entry[1])))
}

interface Counts {
  readonly total: number
  readonly uncertain: number
  readonly recorded: number
  readonly doubtful: number
}

/**
 * By how many the signer has more signatures than the ledger can explain, or (below 0) fewer than it has.
 * @param fresh doubt of kills that came after the settlement
 */
const differenceOf = ({ total, recorded, doubtful }: Counts, { least, most }: Settled, fresh: number): number => {
  const certain = total - most - fresh
  return certain > recorded + doubtful ? certain - recorded - doubtful : Math.min(0, total - least - recorded)
}

export const createReconciler = (deps: ReconcileDeps): Reconciler => {
  // What was said already: a standing difference is one leaf, a growing one is another.
  const reported = new Map<string, number>()
  const settled = new Map(readSettled(deps.meta.get('signer_counts')))

  const mismatch = async (key: string, difference: number, { total, recorded }: Counts): Promise<void> => {
    if (reported.get(key) === difference) return
    reported.set(key, difference)
    const facts = { key, purpose: 'leaf', signer: total, ledger: recorded }
    deps.log.error(facts, 'the signer counts other signatures than the ledger has')
    await deps.audit.append([signerCountsMismatch({ at: deps.clock.now(), who: 'system' }, facts)])
  }

  const settle = async (key: string, { total, uncertain, recorded, doubtful }: Counts): Promise<void> => {
    const most = total - recorded
    const next = { uncertain, least: most - doubtful, most }
    const facts = { key, purpose: 'leaf', signer: total, ledger: recorded, ahead: most, doubtful }
    deps.log.warn(facts, 'the signer was killed; its count is ahead by so much from now on')
    await deps.audit.append([signerGapSettled({ at: deps.clock.now(), who: 'system' }, facts)])
    settled.set(key, next)
    await deps.meta.set({ signer_counts: JSON.stringify(Object.fromEntries(settled)) })
  }

  return {
    run: async () => {
      const health = await deps.signer.health()
      if (health.state !== 'ready') return []
      const compared = deps.issuers.online().map(issuer => {
        const count = health.counts.find(each => each.key === issuer.keyLabel && each.purpose === 'leaf')
        const { total, uncertain } = count ?? { total: 0, uncertain: 0 }
        return { key: issuer.keyLabel, counts: { total, uncertain, ...deps.issuance.signatures(issuer.id) } }
      })
      const wrong: string[] = []
      for (const { key, counts } of compared) {
        const known = settled.get(key) ?? nothingSettled
        const fresh = Math.max(0, counts.uncertain - known.uncertain)
        const difference = differenceOf(counts, known, fresh)
        if (difference !== 0) {
          wrong.push(key)
          await mismatch(key, difference, counts)
        } else if (fresh > 0) await settle(key, counts)
      }
      return wrong
    },
  }
}
