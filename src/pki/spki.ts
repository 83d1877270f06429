// SubjectPublicKeyInfo (RFC 5280 §4.1.2.7): bytes to a key this project is willing to handle, or a refusal that says why.
// Points are checked here with integers, because making an OpenSSL key for it costs ten times as much; verifying is signature.ts.
import { createHash, createPublicKey, hash, type KeyObject, type PublicKeyInput } from 'node:crypto'
import { equalBytes, toHex } from '../base/bytes.ts'
import type { KeyAlgorithm } from './algorithms.ts'
import { DerReader } from './der.ts'
import { PkiError } from './errors.ts'
import { oidName, oidOf } from './oid.ts'

export interface SubjectPublicKeyInfo {
  readonly der: Uint8Array
  readonly algorithm: KeyAlgorithm
  /** Size of the field or of the modulus. */
  readonly bits: number
  /** Content of subjectPublicKey: uncompressed point, raw Ed25519 key, or RSAPublicKey. What key identifiers hash. */
  readonly keyBytes: Uint8Array
}

export const minRsaBits = 2048
/** Verification time grows with the square: 8192 bits is the largest that costs less than a millisecond. */
export const maxRsaBits = 8192

const refuse = (reason: string, message: string): PkiError =>
  new PkiError('key_not_allowed', message, {
    facts: { reason },
    hint: `use a P-256, P-384, Ed25519 or RSA key, RSA of ${minRsaBits} bits or more`,
  })

const bigOf = (bytes: Uint8Array): bigint => BigInt(`0x${toHex(bytes)}`)

interface Curve {
  readonly algorithm: 'P-256' | 'P-384'
  readonly bits: number
  readonly p: bigint
  readonly b: bigint
  /** Points found on it, which the lints look at again right after the request, at a twentieth of the cost. Owned by this module; bounded. */
  readonly known: Map<number, Uint8Array>
}

// FIPS 186-5 / SP 800-186 §3.2.1; a is -3 for both.
const curves: Readonly<Record<string, Curve>> = {
  [oidOf.p256]: {
    algorithm: 'P-256',
    bits: 256,
    p: 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
    known: new Map(),
  },
  [oidOf.p384]: {
    algorithm: 'P-384',
    bits: 384,
    p: 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffffn,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
    known: new Map(),
  },
}

const maxKnownPoints = 256

// By four octets, which are compared whole: a text of them as the key would be entered in the engine's table of known strings each time.
const checkPoint = (curve: Curve, point: Uint8Array): void => {
  const name = (point[1]! << 22) ^ (point[2]! << 15) ^ (point[3]! << 8) ^ point[4]!
  const known = curve.known.get(name)
  if (known !== undefined && equalBytes(known, point)) return
  checkNewPoint(curve, point)
  if (curve.known.size >= maxKnownPoints) curve.known.clear()
  curve.known.set(name, point.slice())
}

const checkNewPoint = (curve: Curve, point: Uint8Array): void => {
  if (point[0] === 2 || point[0] === 3) throw refuse('compressed_point', 'compressed points are not accepted')
  const size = curve.bits / 8
  if (point[0] !== 4 || point.length !== 1 + 2 * size) throw refuse('malformed_point', 'not an uncompressed point')
  const x = bigOf(point.subarray(1, 1 + size))
  const y = bigOf(point.subarray(1 + size))
  const { p, b } = curve
  // SP 800-56A §5.6.2.3.3: coordinates in range, on the curve. The cofactor is 1, so the order needs no check.
  if (x >= p || y >= p || (y * y - ((x * x - 3n) * x + b)) % p !== 0n)
    throw refuse('point_not_on_curve', `the public key is no point of ${curve.algorithm}`)
}

const ed25519Prime = (1n << 255n) - 19n
// The y coordinates of the eight points of small order (RFC 8032 §5.1): under such a key anybody can sign.
const ed25519SmallOrder: ReadonlySet<bigint> = new Set([
  0n,
  1n,
  ed25519Prime - 1n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
])

const checkEd25519 = (key: Uint8Array): void => {
  if (key.length !== 32) throw new PkiError('key_malformed', `an Ed25519 key has 32 bytes, got ${key.length}`)
  const y = bigOf(key.toReversed()) & ((1n << 255n) - 1n)
  if (y >= ed25519Prime) throw refuse('malformed_point', 'non-canonical Ed25519 key')
  if (ed25519SmallOrder.has(y)) throw refuse('small_order_point', 'the Ed25519 key has small order')
}

const checkRsa = (key: Uint8Array): number => {
  const input = new DerReader(key)
  const body = input.readSequence()
  input.end()
  const modulus = body.readUnsignedInteger()
  const exponent = body.readUnsignedInteger()
  body.end()
  const bits = modulus.length * 8 - Math.clz32(modulus[0]!) + 24
  if (bits < minRsaBits)
    throw refuse('rsa_too_small', `an RSA modulus needs ${minRsaBits} bits, got ${Math.max(bits, 0)}`)
  if (bits > maxRsaBits) throw refuse('rsa_too_large', `an RSA modulus may have ${maxRsaBits} bits, got ${bits}`)
  if ((modulus.at(-1)! & 1) === 0) throw refuse('rsa_even_modulus', 'the RSA modulus is even')
  // FIPS 186-5 §5.1: odd, above 2^16. The upper bound keeps verification cheap.
  if (exponent.length > 4) throw refuse('rsa_exponent', 'the RSA exponent has more than 32 bits')
  const e = bigOf(exponent)
  if (e < 65537n || (e & 1n) === 0n)
    throw refuse('rsa_exponent', `the RSA exponent must be odd and at least 65537, got ${e}`)
  return bits
}

/**
 * @throws PkiError der_malformed, key_malformed, key_not_allowed (facts.reason: unsupported_algorithm, unsupported_curve,
 * compressed_point, malformed_point, point_not_on_curve, small_order_point, rsa_too_small, rsa_too_large, rsa_even_modulus, rsa_exponent)
 */
export const parseSubjectPublicKeyInfo = (der: Uint8Array): SubjectPublicKeyInfo => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const algorithm = body.readSequence()
  const keyBytes = body.readOctetAlignedBitString()
  body.end()
  const dotted = algorithm.readOid()
  if (dotted === oidOf.ecPublicKey) return parseEcKey(der, algorithm, keyBytes)
  if (dotted === oidOf.ed25519) {
    if (!algorithm.atEnd) throw new PkiError('key_malformed', 'Ed25519 has no parameters (RFC 8410 §3)')
    checkEd25519(keyBytes)
    return { der, algorithm: 'Ed25519', bits: 256, keyBytes }
  }
  if (dotted === oidOf.rsaEncryption) {
    // RFC 3279 §2.3.1: NULL, not absent.
    algorithm.readNull()
    algorithm.end()
    return { der, algorithm: 'RSA', bits: checkRsa(keyBytes), keyBytes }
  }
  throw refuse('unsupported_algorithm', `key algorithm not accepted: ${oidName(dotted)}`)
}

const parseEcKey = (der: Uint8Array, parameters: DerReader, keyBytes: Uint8Array): SubjectPublicKeyInfo => {
  // RFC 5480 §2.1.1: namedCurve only; explicit parameters let an attacker choose the generator (CVE-2020-0601).
  if (parameters.peekTag() !== 0x06) throw refuse('unsupported_curve', 'only named curves are accepted')
  const curveOid = parameters.readOid()
  parameters.end()
  const curve = curves[curveOid]
  if (curve === undefined) throw refuse('unsupported_curve', `curve not accepted: ${oidName(curveOid)}`)
  checkPoint(curve, keyBytes)
  return { der, algorithm: curve.algorithm, bits: curve.bits, keyBytes }
}

/** SHA-256 of the DER, lower-case hex: the name of a public key everywhere in agentca. */
export const spkiHashHex = (der: Uint8Array): string => hash('sha256', der, 'hex')

/** Key identifier by RFC 5280 §4.2.1.2 method 1: SHA-1 over the bits of the key. An index, not a security function. */
export const keyIdentifier = (spki: SubjectPublicKeyInfo): Uint8Array =>
  new Uint8Array(createHash('sha1').update(spki.keyBytes).digest())

/** The key as node:crypto reads it. */
export const toKeyInput = ({ der }: SubjectPublicKeyInfo): PublicKeyInput => ({
  key: Buffer.from(der.buffer, der.byteOffset, der.byteLength),
  format: 'der',
  type: 'spki',
})

// Made once per key: importing costs as much as a third of a verification. Dies with its key.
const keyObjects = new WeakMap<SubjectPublicKeyInfo, KeyObject>()

/** @throws PkiError key_malformed when OpenSSL refuses what this file accepted */
export const toKeyObject = (spki: SubjectPublicKeyInfo): KeyObject => {
  const known = keyObjects.get(spki)
  if (known !== undefined) return known
  try {
    const key = createPublicKey(toKeyInput(spki))
    keyObjects.set(spki, key)
    return key
  } catch (cause) {
    throw new PkiError('key_malformed', 'the public key cannot be used', { cause })
  }
}
