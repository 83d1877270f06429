// Who the other end of a TLS connection is, by the DER of its certificate. Node shows subject alternative names as one line of text
// and does not take SPIFFE IDs for names at all, so both checks are made here; they hang on the connection pool, never on a request.
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { messageOf } from '../base/errors.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { type SpiffeId, trustDomainOf } from '../pki/spiffe.ts'
import { AgentError, type AgentErrorCode } from './errors.ts'

/** What `tls.connect` calls when the chain has been verified: undefined accepts. It must return its errors, not throw them. */
export type CheckServerIdentity = (host: string, certificate: PeerCertificate) => Error | undefined

const spiffeIdOf = (certificate: PeerCertificate): SpiffeId | null => parseCertificate(certificate.raw).spiffeId

const returned = (code: AgentErrorCode, check: () => AgentError | undefined): Error | undefined => {
  try {
    return check()
  } catch (error) {
    return AgentError.of(code, `the server's certificate cannot be read: ${messageOf(error)}`, { cause: error })
  }
}

/**
 * The CA's API: `spiffe://<trust domain>/service/agentca`, or a certificate for the very host that was asked for.
 * @param trustDomain null before the first enrolment: then any, because the trust anchors are this CA's own
 * @param seen is told the SPIFFE ID of an accepted server, null for one accepted by its host name
 */
export const checkIsCa =
  (trustDomain: string | null, seen: (id: SpiffeId | null) => void): CheckServerIdentity =>
  (host, certificate) =>
    returned('ca_not_verified', () => {
      const id = spiffeIdOf(certificate)
      const domain = id === null ? null : trustDomainOf(id)
      if (
        id !== null &&
        id === `spiffe://${domain}/service/agentca` &&
        (trustDomain === null || domain === trustDomain)
      ) {
        seen(id)
        return undefined
      }
      // A SPIFFE ID of another trust domain, or of another service here, is no CA even under the right host name.
      if (id === null && checkServerIdentity(host, certificate) === undefined) {
        seen(null)
        return undefined
      }
      const expected = `spiffe://${trustDomain ?? '<trust domain>'}/service/agentca or a certificate for ${host}`
      return AgentError.of(
        'ca_not_verified',
        `expected ${expected}, got ${id ?? certificate.subjectaltname ?? 'no name'}`,
        {
          hint: 'check the URL of the CA',
        },
      )
    })

/** A peer of the agent: exactly this SPIFFE ID. */
export const checkIsPeer =
  (peer: SpiffeId): CheckServerIdentity =>
  (_host, certificate) =>
    returned('peer_not_verified', () => {
      const id = spiffeIdOf(certificate)
      if (id === peer) return undefined
      return AgentError.of('peer_not_verified', `expected ${peer}, got ${id ?? 'a certificate without a SPIFFE ID'}`, {
        hint: 'check the address, or the peer that the call names',
        facts: { expected: peer, found: id },
      })
    })
