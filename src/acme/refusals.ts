// What the authority refuses, in ACME's words: the type that a client acts by, and the reason as the authority gave it.
import { isAgentCaError } from '../base/errors.ts'
import { CaError, type CaErrorCode, type IssuanceRefusal } from '../ca/errors.ts'
import type { AcmeProblem } from '../store/acme-port.ts'
import { AcmeError, type AcmeErrorCode } from './errors.ts'

/** What is left out is a matter of state, policy or quota: unauthorized. */
const types: Partial<Readonly<Record<CaErrorCode, AcmeErrorCode>>> = {
  key_in_use: 'badCSR',
  key_revoked: 'badCSR',
  key_not_bound: 'badCSR',
  key_reuse_not_allowed: 'badCSR',
  key_not_accepted: 'badCSR',
  name_not_granted: 'badCSR',
  issuance_rate_limited: 'rateLimited',
  issuance_in_progress: 'serverInternal',
  not_released: 'serverInternal',
  profile_unknown: 'invalidProfile',
  no_active_issuer: 'serverInternal',
  signer_unavailable: 'serverInternal',
  clock_refused: 'serverInternal',
  internal: 'serverInternal',
}

/** Of a decision that left no leaf: without the authority's own error as its cause, which would say that there is one. */
export const refusalError = ({ code, message, hint, facts }: IssuanceRefusal): AcmeError =>
  new AcmeError(types[code] ?? 'unauthorized', message, {
    facts: { ...facts, code },
    ...(hint === undefined ? {} : { hint }),
  })

/** Of what issuance threw; anything that is nobody's refusal stays what it is. */
export const acmeErrorOf = (error: unknown): unknown => {
  if (error instanceof AcmeError || !isAgentCaError(error)) return error
  const { message, hint, facts, code } = error
  const options = { cause: error, facts: { ...facts, code }, ...(hint === undefined ? {} : { hint }) }
  if (error instanceof CaError) return new AcmeError(types[error.code] ?? 'unauthorized', message, options)
  // Requests are the only thing of the caller's that pki reads here.
  if (error.name === 'PkiError' && code !== 'not_encodable') return new AcmeError('badCSR', message, options)
  return error
}

/** For an order that is answered later: what a client may read, and nothing that is only in the log. */
export const problemOf = (error: unknown): AcmeProblem => {
  const translated = acmeErrorOf(error)
  if (!(translated instanceof AcmeError) || translated.code === 'serverInternal')
    return { type: 'serverInternal', detail: 'the certificate could not be issued; order again' }
  return { type: translated.code, detail: translated.message }
}
