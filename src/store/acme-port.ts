// The ports for ACME (RFC 8555): external account bindings, accounts, orders. The demands of ports.ts hold here too. An account is one
// instance of its registration and has that instance's id; authorizations and challenges are parts of their order, changed with it.
import type { IssuanceFacts } from './ports.ts'
import type { LeafDraft, Registration } from './records.ts'

export interface AcmeIdentifier {
  readonly type: 'dns' | 'ip'
  /** Lower case; addresses in their one form (RFC 5952). A DNS name may begin with `*.`. */
  readonly value: string
}

/** What an operator gave out so that one account can be made (RFC 8555 §7.3.4). */
export interface AcmeBinding {
  readonly kid: string
  readonly registrationId: number
  /** The MAC key, encrypted; what it is sealed with is not in the ledger. */
  readonly sealedKey: Uint8Array
  /** Names that its account may order beside those of the registration. */
  readonly names: readonly AcmeIdentifier[]
  readonly state: 'active' | 'revoked'
  readonly expiresAt: number
  readonly createdAt: number
  readonly createdBy: string
  /** The account that was made with it. */
  readonly account: string | null
}

export interface AcmeAccount {
  /** The instance's. */
  readonly id: string
  readonly registrationId: number
  /** null: made without one. */
  readonly kid: string | null
  readonly thumbprint: string
  /** The public key as canonical JWK. */
  readonly jwk: string
  readonly contacts: readonly string[]
  /** The binding's, as they were when the account was made. */
  readonly names: readonly AcmeIdentifier[]
  readonly createdAt: number
  readonly deactivatedAt: number | null
}

/** RFC 8555 §6.7, without the URN's prefix in `type`. */
export interface AcmeProblem {
  readonly type: string
  readonly detail: string
  readonly identifier?: AcmeIdentifier
  readonly subproblems?: readonly AcmeProblem[]
}

export interface AcmeChallenge {
  readonly type: 'http-01' | 'dns-01' | 'tls-alpn-01'
  readonly token: string
  readonly status: 'pending' | 'processing' | 'valid' | 'invalid'
  readonly validatedAt?: number
  readonly problem?: AcmeProblem
}

export interface AcmeAuthorization {
  readonly identifier: AcmeIdentifier
  readonly status: 'pending' | 'valid' | 'invalid' | 'deactivated'
  /** None where the name was granted. */
  readonly challenges: readonly AcmeChallenge[]
}

export interface AcmeOrder {
  readonly id: string
  readonly account: string
  readonly profile: string
  /** One for each identifier, in their order. */
  readonly authorizations: readonly AcmeAuthorization[]
  readonly notBefore: number | null
  readonly notAfter: number | null
  /** Serial of the certificate that this one is to replace (RFC 9773 §5). */
  readonly replaces: string | null
  /** Serial of its certificate, or of the attempt at it: set by issuance in step 4. */
  readonly certificate: string | null
  /** Why it came to nothing, for good. */
  readonly error: AcmeProblem | null
  readonly expiresAt: number
  readonly createdAt: number
}

export interface AcmeBindingsPort {
  create(binding: Omit<AcmeBinding, 'state' | 'account'>, leaf: LeafDraft): Promise<AcmeBinding>
  get(kid: string): AcmeBinding | null
  /** Newest first, those made before the one with this kid. */
  list(filter: {
    readonly registrationId?: number
    readonly before?: string
    readonly limit: number
  }): readonly AcmeBinding[]
  /** No account is made with it any more; one that was stays. @throws StoreError `not_found` */
  revoke(kid: string, at: number, leaf: LeafDraft): Promise<AcmeBinding>
}

export type AcmeAdmission<Refusal> =
  | { readonly act: 'create'; readonly leaf: LeafDraft }
  | { readonly act: 'refuse'; readonly refusal: Refusal; readonly leaf: LeafDraft | null }

/** Accounts of a registration that were made without a binding and have had no certificate, nor an attempt at one. */
export interface WaitingAccounts {
  readonly count: number
  readonly oldestAt: number | null
}

/** What of an account may change; a key that was once an account's is never anything else again. */
export type AcmeAccountChange =
  | { readonly contacts: readonly string[] }
  | { readonly deactivatedAt: number }
  | {
      readonly thumbprint: string
      readonly jwk: string
      readonly keyHash: string
      /** Asked about the new key under the ledger's lock; throws to refuse. */
      readonly check: (facts: IssuanceFacts) => void
    }

export interface AcmeAccountsPort {
  get(id: string): AcmeAccount | null
  byThumbprint(thumbprint: string): AcmeAccount | null
  /** Whether it is a waiting one. */
  waits(id: string): boolean
  /**
   * One transaction: the decision over facts read under the ledger's lock, the instance, the account, the binding's one use, the leaf.
   * @throws StoreError `conflict` where key or binding are taken already
   */
  create<Refusal>(command: {
    readonly account: Omit<AcmeAccount, 'deactivatedAt'>
    /** SHA-256 of the account key's SubjectPublicKeyInfo, hex. */
    readonly keyHash: string
    readonly decide: (
      facts: IssuanceFacts,
      binding: AcmeBinding | null,
      /** Looked up when asked. */
      waiting: () => WaitingAccounts,
    ) => AcmeAdmission<Refusal>
  }): Promise<AcmeAdmission<Refusal>>
  /** Deactivation closes the instance: it gets no certificate any more. @throws StoreError `not_found`, `conflict` for a key in use */
  change(id: string, change: AcmeAccountChange, at: number, leaf: LeafDraft): Promise<AcmeAccount>
  /**
   * Of the waiting accounts made before a time, those without an order that still runs go, with their keys, orders and instances: at most
   * `limit` in one transaction. A leaf for each registration. @returns how many
   */
  pruneWaiting(
    step: { readonly createdBefore: number; readonly now: number; readonly limit: number },
    leaf: (registration: Registration, accounts: number) => LeafDraft,
  ): Promise<number>
}

export interface AcmeOrdersPort {
  /** @throws StoreError `conflict` where another order replaces that certificate already */
  create(order: AcmeOrder, leaf: LeafDraft): Promise<AcmeOrder>
  get(id: string): AcmeOrder | null
  /** The order that is to replace, or replaced, the certificate with this serial; not one that failed. */
  replacing(serial: string): AcmeOrder | null
  /** Newest first, those made before the order with this id. */
  list(filter: { readonly account: string; readonly before?: string; readonly limit: number }): readonly AcmeOrder[]
  /** Orders of this account without a certificate that have not expired. */
  open(account: string, now: number): number
  /** The same of all waiting accounts together, counted up to `limit`. */
  openOfWaiting(now: number, limit: number): number
  /** `change` sees the order as it is and returns it as it shall be; the same object: nothing changes, and no leaf is written. */
  change(
    id: string,
    change: (order: AcmeOrder) => AcmeOrder,
    leaf: ((order: AcmeOrder) => LeafDraft) | null,
  ): Promise<AcmeOrder>
  /**
   * Removes up to `limit` orders that expired before this time, but what says that a certificate has its successor only once that one has
   * expired too. @returns how many it removed
   */
  prune(before: number, limit: number): Promise<number>
}

export interface AcmePorts {
  readonly bindings: AcmeBindingsPort
  readonly accounts: AcmeAccountsPort
  readonly orders: AcmeOrdersPort
}
