// Where an identity lives between two requests: a credential, and the keys that were asked for and not yet answered. Demands on
// every store: `keepPending` is durable before it resolves, because a key that was sent and forgotten costs the lineage its one
// replacement; `save` is all or nothing and forgets the pending keys only after the credential is durable.
import type { KeyObject } from 'node:crypto'
import type { Credential } from './credential.ts'

/** Keys that may already be registered with the CA, because an answer may have been lost. */
export interface PendingKeys {
  /** What they were asked for: `enrol sha256:HEX` of the evidence, or `after SERIAL` of the predecessor. */
  readonly purpose: string
  /** Oldest first. */
  readonly keys: readonly [KeyObject, ...KeyObject[]]
}

export interface CredentialStore {
  load(): Promise<Credential | null>
  save(credential: Credential): Promise<void>
  /** @returns null when there are none for this purpose */
  pending(purpose: string): Promise<PendingKeys | null>
  keepPending(pending: PendingKeys): Promise<void>
  /** Only for keys that the CA certainly did not register. */
  dropPending(): Promise<void>
}

/** For identities that live as long as their process. */
export const createMemoryStore = (): CredentialStore => {
  let saved: Credential | null = null
  let waiting: PendingKeys | null = null
  return {
    load: async () => saved,
    save: async credential => {
      saved = credential
      waiting = null
    },
    pending: async purpose => (waiting?.purpose === purpose ? waiting : null),
    keepPending: async pending => {
      waiting = pending
    },
    dropPending: async () => {
      waiting = null
    },
  }
}
