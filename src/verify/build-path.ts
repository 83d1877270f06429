// From a leaf to the anchors, over certificates that anybody may have chosen (RFC 4158): every sequence of issuers that fits by name,
// one after the other, until the caller has enough. Nothing is judged here, and each look at a certificate is counted.
import { equalBytes } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { Work } from './budget.ts'
import type { Signatures } from './signatures.ts'
import type { TrustAnchor } from './trust-anchor.ts'

export interface CandidatePath {
  readonly anchor: TrustAnchor
  /** The leaf first; the last one is to be signed by the anchor. */
  readonly certificates: readonly Certificate[]
}

/** CA certificates by the name they are issued to. */
export type Pool = ReadonlyMap<string, readonly Certificate[]>

export const poolOf = (certificates: readonly Certificate[]): Pool =>
  Map.groupBy(certificates, certificate => certificate.comparableSubject)

export interface Search {
  readonly leaf: Certificate
  readonly pool: Pool
  readonly anchors: readonly TrustAnchor[]
  readonly signatures: Signatures
  readonly work: Work
}

/** @throws VerifyError budget_exceeded */
export const candidatePaths = (search: Search): Generator<CandidatePath> => extend(search, [search.leaf])

function* extend(search: Search, path: readonly Certificate[]): Generator<CandidatePath> {
  const { pool, anchors, signatures, work } = search
  const top = path.at(-1)!
  const issuerName = top.comparableIssuer
  for (const anchor of anchors) {
    work.spend('steps')
    if (anchor.comparableSubject === issuerName && !signatures.isKnownBad(top, anchor))
      yield { anchor, certificates: path }
  }
  if (!(path.length <= work.budget.intermediates)) return
  for (const issuer of likelyFirst(pool.get(issuerName) ?? [], top)) {
    work.spend('steps')
    if (!path.some(known => isSameEntity(known, issuer)) && !signatures.isKnownBad(top, issuer))
      yield* extend(search, [...path, issuer])
  }
}

/** RFC 4158 §5.2: a name and key that came already lead in a circle; a new key of the same name does not. */
const isSameEntity = (a: Certificate, b: Certificate): boolean =>
  a.comparableSubject === b.comparableSubject && equalBytes(a.spkiDer, b.spkiDer)

/** Key identifiers give the order and rule nobody out (RFC 4158 §3.5.12): names and signatures decide. */
const likelyFirst = (issuers: readonly Certificate[], subject: Certificate): readonly Certificate[] => {
  if (issuers.length < 2) return issuers
  const wanted = keyIdOf(() => subject.authorityKeyIdentifier?.keyId)
  if (wanted === null) return issuers
  const matches = (issuer: Certificate): boolean => {
    const keyId = keyIdOf(() => issuer.subjectKeyIdentifier)
    return keyId !== null && equalBytes(keyId, wanted)
  }
  return [...issuers.filter(matches), ...issuers.filter(issuer => !matches(issuer))]
}

/** An identifier that cannot be read gives no order; the path is refused for it later, by the rules. */
const keyIdOf = (read: () => Uint8Array | null | undefined): Uint8Array | null => {
  try {
    return read() ?? null
  } catch {
    return null
  }
}
