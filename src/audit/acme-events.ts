// The audit events of ACME: bindings, accounts, orders. Certificates have those of issuance, revocations theirs, refusals the HTTP layer's.
import { hash } from 'node:crypto'
import type { LeafDraft } from '../store/records.ts'
import { createLeaf, type LeafContext } from './leaf.ts'
import type { Subject } from './subject.ts'

const subjectOf = ({ kind, name }: Subject): string => `${kind}:${name}`

/** An account is found by its instance too. */
const accountOf = (subject: Subject, account: string): readonly string[] => [subjectOf(subject), `instance:${account}`]

export const acmeBindingCreated = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly kid: string; readonly names: readonly string[]; readonly expiresAt: number },
): LeafDraft => createLeaf('acme_binding_created', context, subjectOf(subject), facts)

export const acmeBindingRevoked = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly kid: string; readonly why?: string | undefined },
): LeafDraft => createLeaf('acme_binding_revoked', context, subjectOf(subject), facts)

export const acmeAccountCreated = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly account: string; readonly kid: string | null; readonly key: string },
): LeafDraft => createLeaf('acme_account_created', context, accountOf(subject, facts.account), facts)

/** Without a binding and without a certificate, for as long as an order may take. */
export const acmeAccountsPruned = (
  context: LeafContext,
  subject: Subject,
  facts: { readonly accounts: number },
): LeafDraft => createLeaf('acme_accounts_pruned', context, subjectOf(subject), facts)

export const acmeAccountChanged = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly account: string
    readonly what: 'contacts' | 'key' | 'deactivated'
    /** SHA-256 of the new account key. */
    readonly key?: string
  },
): LeafDraft => createLeaf('acme_account_changed', context, accountOf(subject, facts.account), facts)

/** So many names of an order are in its leaf. */
const maxNamesInLeaf = 10

/** More are as many as `nameCount` says, and `namesHash` is the SHA-256 of them in their order, with a line feed after each. */
const namesOf = (names: readonly string[]) =>
  names.length <= maxNamesInLeaf
    ? { names }
    : { nameCount: names.length, namesHash: hash('sha256', names.map(name => `${name}\n`).join(''), 'hex') }

export const acmeOrderCreated = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly account: string
    readonly order: string
    readonly profile: string
    readonly names: readonly string[]
    readonly replaces?: string | undefined
  },
): LeafDraft => {
  const { names, ...others } = facts
  return createLeaf('acme_order_created', context, accountOf(subject, facts.account), { ...others, ...namesOf(names) })
}

/** What came of a probe, or of an order that came to nothing. */
export const acmeOrderChanged = (
  context: LeafContext,
  subject: Subject,
  facts: {
    readonly account: string
    readonly order: string
    readonly what: 'challenge_valid' | 'challenge_invalid' | 'authorization_deactivated' | 'failed'
    readonly name?: string
    readonly challenge?: string
    readonly problem?: string
  },
): LeafDraft => createLeaf('acme_order_changed', context, accountOf(subject, facts.account), facts)
