// What audit leaves say alike: whom they are about, why it was done, and what it touched.
import type { BlastRadius } from '../store/ports.ts'
import type { SubjectKind } from '../store/records.ts'
import type { LeafValue } from './leaf.ts'

/** What the leaf is about. */
export interface Subject {
  readonly kind: SubjectKind
  readonly name: string
}

/** Why: an operator's own words, or the rule that did it. */
export type Reasoned = { readonly why?: string | undefined }

export const subjectOf = (subject: Subject): string => `${subject.kind}:${subject.name}`

/** Names are listed up to a bound; the counts are always whole. */
export const radiusFacts = (radius: BlastRadius): { readonly [key: string]: LeafValue } => ({
  certificates: radius.certificates,
  instances: radius.instances,
  intents: radius.intents,
  tokens: radius.tokens,
  ...(radius.bindings === undefined ? {} : { bindings: radius.bindings.slice(0, 20) }),
  registrations: radius.registrations.slice(0, 20).map(subjectOf),
})
