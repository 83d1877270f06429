// How a verifier calls its CA and whoever publishes for it: what it needs of `fetch`, no more, so that the calls can be made in another
// thread (thread.ts) or here.

import type { Timing } from '../../agent/backoff.ts'
import type { CaCall } from '../../agent/ca-route.ts'
import type { AgentIdentity } from '../../agent/identity.ts'
import type { Log } from '../../base/log.ts'

export interface PublicCall {
  readonly signal: AbortSignal
}

/** Under the identity. */
export interface PeerCall extends PublicCall {
  /** SPIFFE ID of the server. */
  readonly peer: string
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** Of an answer; a `Response` is one. Its body is read once; who wants no more of it aborts the call. */
export interface CallAnswer {
  readonly status: number
  readonly body: AsyncIterable<Uint8Array> | null
  text(): Promise<string>
}

export type PeerFetch = (url: string, call: PeerCall) => Promise<CallAnswer>
export type PublicFetch = (url: URL, call: PublicCall) => Promise<CallAnswer>

/** An identity as far as it makes calls. */
export interface CallingIdentity extends Pick<AgentIdentity, 'current'> {
  readonly fetch: PeerFetch
}

export interface Outside extends AsyncDisposable {
  /** For the identity's own calls; null: they are as well made by itself. @throws AgentError as `callCa`; whatever else: it was not made */
  readonly callCa: CaCall | null
  /** As `fetch` of an identity. @throws as that */
  readonly fetch: PeerFetch
  /** Without it: anybody may answer. */
  readonly fetchPublic: PublicFetch
}

export interface OutsideDeps {
  readonly identity: Pick<AgentIdentity, 'current' | 'fetch' | 'signal'>
  readonly timing: Pick<Timing, 'clock' | 'wait'>
  readonly log: Log
}

export const callInThisThread = ({ identity }: Pick<OutsideDeps, 'identity'>): Outside => ({
  fetch: (url, call) => identity.fetch(url, call),
  fetchPublic: (url, call) => fetch(url, call),
  callCa: null,
  [Symbol.asyncDispose]: async () => {},
})
