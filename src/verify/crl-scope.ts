// Which CRLs speak of a certificate, and for which reasons (RFC 5280 §6.3.3 (b) to (e)): distribution points of certificates against
// issuing distribution points of CRLs.
import { concatBytes, toHex } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { Crl } from '../pki/crl.ts'
import { DerReader, derElement, sequence, Tag } from '../pki/der.ts'
import type { DistributionPoint } from '../pki/extensions.ts'
import { encodeGeneralName, type GeneralName } from '../pki/general-names.ts'
import { comparableName } from '../pki/names.ts'

/** Bits 1 to 8 of ReasonFlags; bit 0 is unused (§4.2.1.13). */
export const allReasons = 0b1_1111_1110

const reasonBits = (reasons: readonly number[] | null): number =>
  reasons === null
    ? allReasons
    : reasons.filter(bit => bit <= 8).reduce((bits, bit) => bits | (1 << bit), 0) & allReasons

/** The points of a certificate, and last the one that §6.3.3 assumes of every issuer: a CRL under the issuer's own name. */
export const pointsOf = (certificate: Certificate): readonly DistributionPoint[] => [
  ...(certificate.crlDistributionPoints ?? []),
  {
    fullName: [{ kind: 'directory', nameDer: certificate.issuerDer }],
    relativeName: null,
    reasons: null,
    crlIssuer: null,
  },
]

/** Names, in the form of `comparableName`, that a CRL of this point is issued under. */
export const crlIssuersOf = (point: DistributionPoint, certificate: Certificate): readonly string[] =>
  point.crlIssuer === null
    ? [certificate.comparableIssuer]
    : point.crlIssuer.flatMap(name => (name.kind === 'directory' ? [comparableName(name.nameDer)] : []))

/**
 * The reasons for which this CRL, whose issuer fits the point already, would have the certificate on it; 0 when it does not speak
 * of the certificate.
 */
export const reasonsCovered = (crl: Crl, point: DistributionPoint, certificate: Certificate): number => {
  const scope = crl.distributionPoint
  // (b) (1): whoever lists for others has to say so.
  if (point.crlIssuer !== null && scope?.indirectCrl !== true) return 0
  if (scope === null) return reasonBits(point.reasons)
  const isCa = certificate.basicConstraints?.isCa === true
  if ((scope.onlyContainsUserCerts && isCa) || (scope.onlyContainsCaCerts && !isCa) || scope.onlyContainsAttributeCerts)
    return 0
  const scopeNames = namesOf(scope, crl.issuerName)
  if (scopeNames.length > 0) {
    const pointNames = namesOfPoint(point, certificate)
    if (!scopeNames.some(name => pointNames.includes(name))) return 0
  }
  return reasonBits(point.reasons) & reasonBits(scope.onlySomeReasons)
}

/** (b) (2) (i): where the point has no name of its own, its CRL issuer's stand for it. */
const namesOfPoint = (point: DistributionPoint, certificate: Certificate): readonly string[] => {
  const issuer = point.crlIssuer?.find(name => name.kind === 'directory')
  const names = namesOf(point, issuer?.kind === 'directory' ? issuer.nameDer : certificate.issuerDer)
  return names.length > 0 ? names : (point.crlIssuer ?? []).map(comparableGeneralName)
}

const namesOf = (
  { fullName, relativeName }: Pick<DistributionPoint, 'fullName' | 'relativeName'>,
  issuerDer: Uint8Array,
): readonly string[] => {
  if (relativeName === null) return (fullName ?? []).map(comparableGeneralName)
  return [comparableGeneralName({ kind: 'directory', nameDer: nameBelow(issuerDer, relativeName) })]
}

/** nameRelativeToCRLIssuer is one RDN more below the issuer (§4.2.1.13). */
const nameBelow = (issuerDer: Uint8Array, rdnContent: Uint8Array): Uint8Array =>
  sequence(concatBytes([new DerReader(issuerDer).readSequence().content, derElement(Tag.set, [rdnContent])]))

const comparableGeneralName = (name: GeneralName): string =>
  name.kind === 'directory' ? comparableName(name.nameDer) : toHex(encodeGeneralName(name))
