// The audit leaves of evidence that attestors vouch for: what each says is decided here and nowhere else.
import type { LeafDraft } from '../store/records.ts'
import { createLeaf, type LeafContext } from './leaf.ts'
import type { Subject } from './subject.ts'

/** It stands for this registration, and enrols one key. `token` is what the ledger knows it by from here on. */
export const evidenceAdmitted = (
  context: LeafContext,
  { kind, name }: Subject,
  facts: {
    readonly token: string
    readonly attestor: string
    readonly type: 'jwt' | 'x509'
    readonly rule: string
    readonly issuer: string
    readonly subject: string
    readonly expiresAt: number
    readonly boundKey: string | null
  },
): LeafDraft => createLeaf('evidence_admitted', context, `${kind}:${name}`, facts)

/** Good evidence, vouched for, that makes nobody an agent: by which claim is for operators only. */
export const evidenceRefused = (
  context: LeafContext,
  facts: {
    readonly code: string
    readonly attestor: string
    readonly issuer: string
    readonly subject: string
    readonly [more: string]: string
  },
): LeafDraft => createLeaf('evidence_refused', context, null, facts)
