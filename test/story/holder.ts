// Whoever holds a credential in a story, by right or not: the calls of the SDK, one attempt each, with the keys it keeps in between.
import { systemTiming } from '../../src/agent/backoff.ts'
import type { Credential } from '../../src/agent/credential.ts'
import { enrol } from '../../src/agent/enrol.ts'
import type { AgentError } from '../../src/agent/errors.ts'
import type { AgentKeyAlgorithm } from '../../src/agent/key-pair.ts'
import { type RenewalDeps, recover, renew } from '../../src/agent/renew.ts'
import { type CredentialStore, createMemoryStore } from '../../src/agent/store.ts'

export interface Holder {
  credential(): Credential
  /** @throws AgentError, as each of the following */
  renew(): Promise<Credential>
  recover(): Promise<Credential>
  /** Somebody who copied everything that there is now, and goes on alone. */
  steal(): Holder
  /** The same holder on another way to the CA, or with other keys from now on. */
  by(changed: { readonly url?: string; readonly keyAlgorithm?: AgentKeyAlgorithm }): Holder
}

interface Way {
  readonly url: string
  readonly keyAlgorithm: AgentKeyAlgorithm
}

const depsOf = (store: CredentialStore, way: Way): RenewalDeps => ({
  ...way,
  timing: systemTiming,
  signal: new AbortController().signal,
  store,
  recoveryRoots: async roots => roots,
})

interface Held {
  credential: Credential
  store: CredentialStore
}

const holderOf = (held: Held, way: Way): Holder => {
  const ask = async (call: typeof renew): Promise<Credential> => {
    held.credential = await call(depsOf(held.store, way), held.credential)
    return held.credential
  }
  return {
    credential: () => held.credential,
    renew: () => ask(renew),
    recover: () => ask(recover),
    steal: () => holderOf({ credential: held.credential, store: createMemoryStore() }, way),
    by: changed => holderOf(held, { ...way, ...changed }),
  }
}

export interface Joining extends Partial<Way> {
  readonly url: string
  readonly rootFile: string
  readonly token: string
}

export interface Candidate {
  /** One attempt; the same key each time. @throws AgentError */
  enrol(url?: string): Promise<Holder>
}

export const createCandidate = ({ rootFile, token, keyAlgorithm = 'P-256', ...usual }: Joining): Candidate => {
  const store = createMemoryStore()
  return {
    enrol: async (url = usual.url) => {
      const deps = depsOf(store, { url, keyAlgorithm })
      const credential = await enrol(deps, { url, anchors: { caFile: rootFile }, token, service: null })
      return holderOf({ credential, store }, { url: usual.url, keyAlgorithm })
    },
  }
}

/** What became of an attempt: `ok`, or the code of its refusal. */
export const outcomeOf = (attempt: Promise<unknown>): Promise<string> =>
  attempt.then(
    () => 'ok',
    (error: AgentError) => error.code ?? error.message,
  )
