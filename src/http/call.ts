// What the front found out about one request before any router sees it: who calls, from where, under which request id. Routers read
// it from here and never look at sockets or certificates themselves.
import type { Response } from 'express'
import type { RequestContext } from '../ca/issuance.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { CertificateRecord, Instance, Registration } from '../store/records.ts'

/** A peer whose certificate was checked for this very request: path, time, revocation, registration and instance state. */
export interface VerifiedCaller {
  readonly kind: 'peer'
  readonly certificate: Certificate
  readonly record: CertificateRecord
  readonly registration: Registration
  readonly instance: Instance
  readonly spiffeId: string
}

export type Caller =
  /** No certificate was shown. */
  | { readonly kind: 'anonymous' }
  /** The admin socket: whoever may open it. */
  | { readonly kind: 'local' }
  | VerifiedCaller

export interface Call {
  readonly requestId: string
  /** Source address without a port. */
  readonly source: string
  readonly caller: Caller
}

/** @throws Error when the front did not run before: a wiring fault */
export const callOf = (response: Response): Call => {
  const call = (response.locals as { call?: Call }).call
  if (call === undefined) throw new Error('no call on this response: the front must run first')
  return call
}

const whoIs = (caller: Caller): string => {
  switch (caller.kind) {
    case 'anonymous':
      return 'anonymous'
    case 'local':
      return 'operator:local'
    case 'peer':
      return caller.registration.kind === 'operator' ? `operator:${caller.registration.name}` : caller.spiffeId
  }
}

/** The context every audit leaf of this request carries. */
export const contextOf = (response: Response): RequestContext => {
  const { requestId, source, caller } = callOf(response)
  return { requestId, source, who: whoIs(caller) }
}
