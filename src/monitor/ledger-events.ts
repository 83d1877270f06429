// What the CA itself recorded that rules look at: from the bytes of an audit leaf to one of three events, or null. Leaves are read by
// their event's name first: most are of no interest, and their bytes are never parsed.
import { fromUtf8 } from '../base/bytes.ts'
import type { LeafDraft } from '../store/records.ts'

interface Told {
  readonly at: number
  readonly agent: string
  readonly source: string
}

export type LedgerEvent =
  | (Told & { readonly type: 'enrolled'; readonly instance: string; readonly tokenId: string | null })
  | (Told & { readonly type: 'token-reuse'; readonly tokenId: string | null })
  | (Told & { readonly type: 'lineage-conflict'; readonly instance: string; readonly reason: string })

/** Names of the leaves that can be one. */
export const wantedEvents: readonly string[] = ['intent_recorded', 'token_reuse', 'lineage_locked']

/** Canonical JSON has no white space: renewals are told from enrolments without parsing either. */
const enrolMark = '"op":"enrol"'

const after = (prefix: string, text: unknown): string | null =>
  typeof text === 'string' && text.startsWith(prefix) ? text.slice(prefix.length) : null

/** @returns null for what no rule looks at: renewals, services, operators */
export const ledgerEventOf = ({
  event,
  bytes,
  at,
  subject,
}: Pick<LeafDraft, 'event' | 'bytes' | 'at' | 'subject'>): LedgerEvent | null => {
  if (!wantedEvents.includes(event)) return null
  const agent = after('agent:', subject)
  if (agent === null) return null
  const text = fromUtf8(bytes)
  if (event === 'intent_recorded' && !text.includes(enrolMark)) return null
  const { src, who, instance, reason } = JSON.parse(text) as Readonly<Record<string, unknown>>
  const told = { at, agent, source: String(src ?? 'unknown') }
  const tokenId = after('token:', who)
  if (event === 'token_reuse') return { ...told, type: 'token-reuse', tokenId }
  if (event === 'lineage_locked')
    return { ...told, type: 'lineage-conflict', instance: String(instance), reason: String(reason) }
  return { ...told, type: 'enrolled', instance: String(instance), tokenId }
}
