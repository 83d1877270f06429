// The issuers a responder answers for, by how certIDs name them. Follows `Issuers.reload`, so that a CA that was added or retired is
// seen with the next question.
import type { Clock } from '../base/clock.ts'
import { type CertId, encodeCertIdFor, type IssuerHashes, issuerHashes } from '../pki/ocsp.ts'
import { serialFromHex, serialHex } from '../pki/serial.ts'
import { CaError } from './errors.ts'
import type { Issuers, OnlineIssuer } from './issuers.ts'
import type { AskedCertificate } from './ocsp-cache.ts'

export interface OcspIssuers {
  all(): readonly OnlineIssuer[]
  /** Those whose own certificate has not ended: nobody could check an answer under another. */
  live(): readonly OnlineIssuer[]
  byId(id: number): OnlineIssuer | null
  /**
   * The one issuer that all of these name; null when one of them is not ours, or when they name several of ours. A response has
   * one signer, and a delegate speaks only for the issuer that appointed it (RFC 6960 §4.2.2.2).
   */
  ofQuestion(certIds: readonly CertId[]): OnlineIssuer | null
  /** The question most clients will have about this serial: with SHA-1 (RFC 5019 §2.1.1). @throws PkiError serial_malformed */
  likelyQuestion(issuer: OnlineIssuer, serial: string): AskedCertificate
}

export const createOcspIssuers = (clock: Pick<Clock, 'now'>, issuers: Pick<Issuers, 'all' | 'online'>): OcspIssuers => {
  // Owned by this closure, made anew when the view of the issuers is another one.
  let seen: unknown = null
  let online: readonly OnlineIssuer[] = []
  let byKey: ReadonlyMap<string, OnlineIssuer> = new Map()
  let sha1Of: ReadonlyMap<number, IssuerHashes> = new Map()

  const follow = (): void => {
    const all = issuers.all()
    if (all === seen) return
    online = issuers.online()
    const named = online.flatMap(issuer => hashesOf(issuer).map(hashes => ({ issuer, hashes })))
    byKey = new Map(named.map(({ issuer, hashes }) => [hashes.issuerKey, issuer]))
    sha1Of = new Map(
      named.filter(({ hashes }) => hashes.hash === 'sha1').map(({ issuer, hashes }) => [issuer.id, hashes]),
    )
    seen = all
  }
  const isLive = (issuer: OnlineIssuer): boolean => clock.now() < issuer.certificate.notAfter
  const find = ({ issuerKey }: CertId): OnlineIssuer | undefined =>
    issuerKey === null ? undefined : byKey.get(issuerKey)

  return {
    all: () => {
      follow()
      return online
    },
    live: () => {
      follow()
      return online.filter(isLive)
    },
    byId: id => {
      follow()
      return online.find(issuer => issuer.id === id) ?? null
    },
    ofQuestion: certIds => {
      follow()
      const issuer = certIds[0] === undefined ? undefined : find(certIds[0])
      if (issuer === undefined || !isLive(issuer)) return null
      return certIds.every(certId => find(certId) === issuer) ? issuer : null
    },
    likelyQuestion: (issuer, serial) => {
      follow()
      const hashes = sha1Of.get(issuer.id)
      if (hashes === undefined) throw new CaError('internal', `issuer ${issuer.name} is gone`)
      return { issuerId: issuer.id, serial, certIdDer: encodeCertIdFor(hashes, serialFromHex(serial)) }
    },
  }
}

const hashesOf = (issuer: OnlineIssuer): readonly IssuerHashes[] =>
  issuerHashes({ nameDer: issuer.subjectDer, keyBits: issuer.spki.keyBytes })

/** What a certID of this issuer asks about; a copy, because the certID is a view into a request. */
export const askedBy = (issuer: OnlineIssuer, certId: CertId): AskedCertificate => ({
  issuerId: issuer.id,
  serial: serialHex(certId.serial),
  certIdDer: certId.der.slice(),
})
