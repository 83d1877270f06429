// EC keys as PKCS#11 shows them (CKA_EC_PARAMS, CKA_EC_POINT, raw r||s) and as X.509 wants them (SubjectPublicKeyInfo,
// ECDSA-Sig-Value). Pure; the token is elsewhere.
import { createPublicKey, hash, type KeyObject } from 'node:crypto'
import { concatBytes, equalBytes, fromHex, toHex } from '../base/bytes.ts'

export type Curve = 'P-256' | 'P-384'

interface CurveFacts {
  readonly paramsHex: string
  /** DER SubjectPublicKeyInfo up to the first octet of the point (RFC 5480 §2). */
  readonly spkiPrefixHex: string
  readonly coordinateBytes: number
  readonly hash: 'sha256' | 'sha384'
  readonly webCryptoHash: 'SHA-256' | 'SHA-384'
}

export const curveFacts: Readonly<Record<Curve, CurveFacts>> = {
  'P-256': {
    paramsHex: '06082a8648ce3d030107',
    spkiPrefixHex: '3059301306072a8648ce3d020106082a8648ce3d030107034200',
    coordinateBytes: 32,
    hash: 'sha256',
    webCryptoHash: 'SHA-256',
  },
  'P-384': {
    paramsHex: '06052b81040022',
    spkiPrefixHex: '3076301006072a8648ce3d020106052b81040022036200',
    coordinateBytes: 48,
    hash: 'sha384',
    webCryptoHash: 'SHA-384',
  },
}

export const curveOfParams = (params: Uint8Array): Curve | null => {
  const hex = toHex(params)
  return hex === curveFacts['P-256'].paramsHex ? 'P-256' : hex === curveFacts['P-384'].paramsHex ? 'P-384' : null
}

/** CKA_EC_POINT is an OCTET STRING around the point (PKCS#11 2.40 §2.3.3); some tokens leave the wrapping out. @returns null when it is no uncompressed point */
export const spkiOfPoint = (curve: Curve, value: Uint8Array): Uint8Array | null => {
  const facts = curveFacts[curve]
  const length = 1 + 2 * facts.coordinateBytes
  const wrapped = value.length === length + 2 && value[0] === 0x04 && value[1] === length
  const point = wrapped ? value.subarray(2) : value
  if (point.length !== length || point[0] !== 0x04) return null
  return concatBytes([fromHex(facts.spkiPrefixHex)!, point])
}

/** @returns null for anything but an uncompressed P-256 or P-384 key */
export const curveOfSpki = (spki: Uint8Array): Curve | null => {
  for (const curve of ['P-256', 'P-384'] as const) {
    const prefix = fromHex(curveFacts[curve].spkiPrefixHex)!
    const length = prefix.length + 1 + 2 * curveFacts[curve].coordinateBytes
    if (spki.length === length && equalBytes(spki.subarray(0, prefix.length), prefix)) return curve
  }
  return null
}

/** The point itself: the BIT STRING's content, over which SHA-1 key identifiers are computed (RFC 5280 §4.2.1.2, RFC 6960 §4.2.1). */
export const pointOfSpki = (curve: Curve, spki: Uint8Array): Uint8Array =>
  spki.subarray(curveFacts[curve].spkiPrefixHex.length / 2)

export const importSpki = (spki: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })

export const digestFor = (curve: Curve, data: Uint8Array): Buffer => hash(curveFacts[curve].hash, data, 'buffer')

const encodeInteger = (unsigned: Uint8Array): Uint8Array => {
  let start = 0
  while (start < unsigned.length - 1 && unsigned[start] === 0) start++
  const pad = unsigned[start]! >= 0x80 ? 1 : 0
  const out = new Uint8Array(2 + pad + unsigned.length - start)
  out[0] = 0x02
  out[1] = out.length - 2
  out.set(unsigned.subarray(start), 2 + pad)
  return out
}

/** r||s, as CKM_ECDSA returns it, to ECDSA-Sig-Value (RFC 3279 §2.2.3). Lengths stay below 128 for both curves. */
export const encodeEcdsaSigValue = (raw: Uint8Array): Uint8Array => {
  const half = raw.length / 2
  const r = encodeInteger(raw.subarray(0, half))
  const s = encodeInteger(raw.subarray(half))
  return concatBytes([Uint8Array.of(0x30, r.length + s.length), r, s])
}
