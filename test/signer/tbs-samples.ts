// To-be-signed bytes for signer tests, written with the DER writer so that every field can be made wrong on purpose.
import { createHash } from 'node:crypto'
import { equalBytes } from '../../src/base/bytes.ts'
import { encodeSignatureAlgorithm, type SignatureAlgorithm } from '../../src/pki/algorithms.ts'
import {
  bitString,
  boolean,
  derElement,
  explicit,
  generalizedTime,
  ia5String,
  implicitPrimitive,
  integer,
  namedBitString,
  nullValue,
  octetString,
  oid,
  sequence,
  sequenceOf,
  Tag,
  time,
} from '../../src/pki/der.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo } from '../../src/pki/spki.ts'

export interface Extension {
  readonly oid: string
  readonly critical?: boolean
  readonly value: Uint8Array
}

export const extension = ({ oid: type, critical = false, value }: Extension): Uint8Array =>
  sequence(oid(type), ...(critical ? [boolean(true)] : []), octetString(value))

export const ski = (spki: Uint8Array): Uint8Array => keyIdentifier(parseSubjectPublicKeyInfo(spki))
export const authorityKey = (spki: Uint8Array): Extension => ({
  oid: oidOf.authorityKeyIdentifier,
  value: sequence(implicitPrimitive(0, ski(spki))),
})

export interface CertificateSample {
  readonly serial?: Uint8Array
  readonly version?: number
  readonly algorithm?: SignatureAlgorithm
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly spki: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
  readonly extensions: readonly Extension[]
}

export const goodSerial = Uint8Array.from([1, ...Array.from({ length: 15 }, (_, i) => i + 1)])

export const tbsCertificate = (sample: CertificateSample): Uint8Array =>
  sequence(
    explicit(0, integer(sample.version ?? 2)),
    derElement(Tag.integer, [sample.serial ?? goodSerial]),
    encodeSignatureAlgorithm(sample.algorithm ?? 'ecdsa-with-SHA256'),
    sample.issuer,
    sequence(time(sample.notBefore), time(sample.notAfter)),
    sample.subject,
    sample.spki,
    explicit(3, sequenceOf(sample.extensions.map(extension))),
  )

export const certificate = (
  tbs: Uint8Array,
  signature: Uint8Array,
  algorithm: SignatureAlgorithm = 'ecdsa-with-SHA256',
): Uint8Array => sequence(tbs, encodeSignatureAlgorithm(algorithm), bitString(signature))

export const keyUsage = (...bits: number[]): Extension => ({
  oid: oidOf.keyUsage,
  critical: true,
  value: namedBitString(bits),
})
export const extendedKeyUsage = (...usages: string[]): Extension => ({
  oid: oidOf.extendedKeyUsage,
  value: sequenceOf(usages.map(oid)),
})
export const uri = (text: string): Uint8Array => derElement(0x86, [new TextEncoder().encode(text)])
export const dns = (text: string): Uint8Array => derElement(0x82, [new TextEncoder().encode(text)])
export const subjectAltName = (...names: Uint8Array[]): Extension => ({
  oid: oidOf.subjectAltName,
  value: sequenceOf(names),
})
export const basicConstraints = (...content: Uint8Array[]): Extension => ({
  oid: oidOf.basicConstraints,
  critical: true,
  value: sequence(...content),
})
export const isCa = (): Extension => basicConstraints(boolean(true))
export const noCheck = (): Extension => ({ oid: oidOf.ocspNoCheck, value: nullValue() })

export interface CrlSample {
  readonly issuer: Uint8Array
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly revoked?: readonly Uint8Array[]
  readonly extensions: readonly Extension[]
  readonly algorithm?: SignatureAlgorithm
}

export const crlNumber = (number: bigint | number): Extension => ({ oid: oidOf.crlNumber, value: integer(number) })

export const tbsCertList = (sample: CrlSample): Uint8Array =>
  sequence(
    integer(1),
    encodeSignatureAlgorithm(sample.algorithm ?? 'ecdsa-with-SHA256'),
    sample.issuer,
    time(sample.thisUpdate),
    time(sample.nextUpdate),
    ...(sample.revoked?.length
      ? [sequenceOf(sample.revoked.map(serial => sequence(integer(serial), time(sample.thisUpdate))))]
      : []),
    explicit(0, sequenceOf(sample.extensions.map(extension))),
  )

export const byKey = (spki: Uint8Array): Uint8Array => explicit(2, octetString(ski(spki)))
export const byName = (name: Uint8Array): Uint8Array => explicit(1, name)

export const responseData = (sample: {
  readonly responderId: Uint8Array
  readonly producedAt: number
  readonly thisUpdate: number
  readonly nextUpdate: number | null
}): Uint8Array => {
  const hash = createHash('sha1').update('x').digest()
  const certId = sequence(
    sequence(oid(oidOf.sha1), nullValue()),
    octetString(hash),
    octetString(hash),
    integer(goodSerial),
  )
  const next = sample.nextUpdate === null ? [] : [explicit(0, generalizedTime(sample.nextUpdate))]
  const single = sequence(certId, implicitPrimitive(0, new Uint8Array(0)), generalizedTime(sample.thisUpdate), ...next)
  return sequence(sample.responderId, generalizedTime(sample.producedAt), sequence(single))
}

export { encodeName, equalBytes, ia5String }
