// What the front found out about one request before any router sees it: who calls, from where, under which request id. Routers read
// it from here and never look at sockets or certificates themselves.
import type { Response } from 'express'
import type { RequestContext } from '../ca/issuance.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { CertificateRecord, Instance, Registration } from '../store/records.ts'

/** What of a certificate's row never changes. Its state does, and is read for each request. */
export type RecordedFacts = Omit<CertificateRecord, 'state' | 'replaced' | 'revokedAt' | 'reason'>

/** Whom a certificate names that this CA certainly issued, on a connection whose other end holds its key. */
interface Identified {
  readonly certificate: Certificate
  readonly record: RecordedFacts
  readonly spiffeId: string
}

/**
 * Identified only: the certificate may be expired, held or revoked. Renewal takes it, because its decision answers for every state;
 * nothing else may.
 */
export interface HolderCaller extends Identified {
  readonly kind: 'holder'
}

/** A peer whose certificate was checked for this very request: path, time, revocation, registration and instance state. */
export interface VerifiedCaller extends Identified {
  readonly kind: 'peer'
  readonly registration: Registration
  readonly instance: Instance
}

export type Caller =
  /** No certificate was shown. */
  | { readonly kind: 'anonymous' }
  /** The admin socket: whoever may open it. */
  | { readonly kind: 'local' }
  | HolderCaller
  | VerifiedCaller

/** Whom the body speaks for where no certificate does: a join token's holder, the prover of a key. Set by the route that read it. */
export interface Evidence {
  /** `token:<id>`, `key:<hash>`. */
  readonly who: string
  readonly registrationId: number
}

export interface Call {
  readonly requestId: string
  /** Source address without a port. */
  readonly source: string
  readonly caller: Caller
  readonly evidence?: Evidence
}

/** @throws Error when the front did not run before: a wiring fault */
export const callOf = (response: Response): Call => {
  const call = (response.locals as { call?: Call }).call
  if (call === undefined) throw new Error('no call on this response: the front must run first')
  return call
}

export const setCall = (response: Response, call: Call): void => {
  response.locals.call = call
}

// Dies with its response.
const possessionChecked = new WeakSet<object>()

/** A front saw that the certification request in this body is signed by its key (front/hot.ts). */
export const markPossession = (response: object): void => {
  possessionChecked.add(response)
}

export const isPossessionChecked = (response: object): boolean => possessionChecked.has(response)

const whoIs = (caller: Caller): string => {
  switch (caller.kind) {
    case 'anonymous':
      return 'anonymous'
    case 'local':
      return 'operator:local'
    case 'holder':
    case 'peer':
      // An operator's SPIFFE ID ends with the name.
      return caller.record.kind === 'operator'
        ? `operator:${caller.spiffeId.slice(caller.spiffeId.lastIndexOf('/') + 1)}`
        : caller.spiffeId
  }
}

/** The context every audit leaf of this request carries. */
export const contextOf = (response: Response): RequestContext => {
  const { requestId, source, caller, evidence } = callOf(response)
  return { requestId, source, who: evidence?.who ?? whoIs(caller) }
}
