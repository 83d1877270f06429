// Certificates for the tests of path validation, of every kind that real CAs do not issue: built with our own writer, signed by
// software keys.
import { expect } from 'vitest'
import { isAgentCaError } from '../../src/base/errors.ts'
import { encodeSignatureAlgorithm, signatureAlgorithmFor } from '../../src/pki/algorithms.ts'
import {
  assembleCertificate,
  type Certificate,
  encodeTbsCertificate,
  parseCertificate,
} from '../../src/pki/certificate.ts'
import { assembleCrl, type Crl, encodeRevokedEntry, parseCrl, type RevokedEntry } from '../../src/pki/crl.ts'
import { explicit, integer, sequence, time } from '../../src/pki/der.ts'
import * as ext from '../../src/pki/extensions.ts'
import type { GeneralName } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { keyIdentifier } from '../../src/pki/spki.ts'
import { usualBudget } from '../../src/verify/budget.ts'
import type { VerifyErrorCode } from '../../src/verify/errors.ts'
import { type PathRequest, type ValidatedPath, validatePath } from '../../src/verify/path.ts'
import { anyPolicies } from '../../src/verify/policies.ts'
import { usualAlgorithms } from '../../src/verify/signatures.ts'
import { anchorOf } from '../../src/verify/trust-anchor.ts'
import { createTestKey, type TestKey } from '../pki/keys.ts'

export const day = 86_400_000
/** When the tests validate, unless they say otherwise. */
export const now = Date.UTC(2026, 5, 15, 12)

export interface Entity {
  readonly certificate: Certificate
  readonly key: TestKey
}

export interface Wish {
  /** DER of the subject, or its common name. */
  readonly subject: string | Uint8Array
  readonly issuer: Entity | 'self'
  readonly key?: TestKey
  readonly serial?: number
  /** null: no basic constraints at all. */
  readonly ca?: { readonly pathLength: number | null } | null
  readonly keyUsage?: readonly ext.KeyUsage[] | null
  readonly extendedKeyUsage?: readonly ('clientAuth' | 'serverAuth' | 'anyExtendedKeyUsage' | 'codeSigning')[]
  readonly names?: readonly GeneralName[]
  readonly constraints?: ext.NameConstraints
  readonly extensions?: readonly ext.Extension[]
  /** Subject and authority key identifier are there unless they are not wanted. */
  readonly keyIds?: 'none'
  readonly notBefore?: number
  readonly notAfter?: number
  /** By whom it is really signed, where that is not the issuer. */
  readonly signedBy?: TestKey
}

export const nameDer = (subject: string | Uint8Array): Uint8Array =>
  typeof subject === 'string' ? encodeName([['CN', subject]]) : subject

let serials = 0

const extensionsOf = (wish: Wish, key: TestKey, issuerKey: TestKey): readonly ext.Extension[] => {
  const isCa = wish.ca != null
  const usage =
    wish.keyUsage === undefined
      ? isCa
        ? (['keyCertSign', 'cRLSign'] as const)
        : (['digitalSignature'] as const)
      : wish.keyUsage
  return [
    ...(isCa ? [ext.basicConstraints({ isCa: true, pathLength: wish.ca.pathLength })] : []),
    ...(usage === null ? [] : [ext.keyUsage(usage)]),
    ...(wish.extendedKeyUsage === undefined
      ? []
      : [ext.extendedKeyUsage(wish.extendedKeyUsage.map(name => oidOf[name]))]),
    ...(wish.keyIds === 'none'
      ? []
      : [ext.subjectKeyIdentifier(keyIdentifier(key.spki)), ext.authorityKeyIdentifier(keyIdentifier(issuerKey.spki))]),
    ...(wish.names === undefined || wish.names.length === 0 ? [] : [ext.subjectAltName(wish.names)]),
    ...(wish.constraints === undefined ? [] : [ext.nameConstraints(wish.constraints)]),
    ...(wish.extensions ?? []),
  ]
}

export const issue = (wish: Wish): Entity => {
  const key = wish.key ?? createTestKey('P-256')
  const issuerKey = wish.issuer === 'self' ? key : wish.issuer.key
  const subjectDer = nameDer(wish.subject)
  const signer = wish.signedBy ?? issuerKey
  const algorithm = signatureAlgorithmFor(signer.spki.algorithm)
  const serial = wish.serial ?? ++serials
  const tbs = encodeTbsCertificate({
    serial: Uint8Array.of(0x40, serial >> 16, serial >> 8, serial),
    signatureAlgorithm: algorithm,
    issuerDer: wish.issuer === 'self' ? subjectDer : wish.issuer.certificate.subjectDer,
    notBefore: wish.notBefore ?? now - 30 * day,
    notAfter: wish.notAfter ?? now + 30 * day,
    subjectDer,
    spkiDer: key.spki.der,
    extensions: extensionsOf(wish, key, issuerKey),
  })
  return { key, certificate: parseCertificate(assembleCertificate(tbs, algorithm, signer.signDer(tbs))) }
}

export const root = (wish: Partial<Wish> = {}): Entity =>
  issue({ subject: 'root', issuer: 'self', ca: { pathLength: null }, ...wish })

export const ca = (subject: string | Uint8Array, issuer: Entity, wish: Partial<Wish> = {}): Entity =>
  issue({ subject, issuer, ca: { pathLength: null }, ...wish })

export const leaf = (issuer: Entity, wish: Partial<Wish> = {}): Entity =>
  issue({ subject: 'a leaf', issuer, extendedKeyUsage: ['clientAuth'], ...wish })

export interface ListWish {
  readonly number?: number
  readonly thisUpdate?: number
  readonly nextUpdate?: number
  /** Beside authority key identifier and number. */
  readonly extensions?: readonly ext.Extension[]
  readonly signedBy?: TestKey
}

/** A list of `issuer`, of any kind. */
export const crl = (issuer: Entity, entries: readonly RevokedEntry[], wish: ListWish = {}): Crl => {
  const { number = 7, signedBy = issuer.key } = wish
  const algorithm = signatureAlgorithmFor(signedBy.spki.algorithm)
  const tbs = sequence(
    integer(1),
    encodeSignatureAlgorithm(algorithm),
    issuer.certificate.subjectDer,
    time(wish.thisUpdate ?? now - day),
    time(wish.nextUpdate ?? now + day),
    ...(entries.length === 0 ? [] : [sequence(...entries.map(encodeRevokedEntry))]),
    explicit(
      0,
      ext.encodeExtensions([
        ext.authorityKeyIdentifier(keyIdentifier(issuer.key.spki)),
        { oid: oidOf.crlNumber, critical: false, value: integer(number) },
        ...(wish.extensions ?? []),
      ]),
    ),
  )
  return parseCrl(assembleCrl(tbs, algorithm, signedBy.signDer(tbs)))
}

/** `chain`: root first, leaf last. */
export const validate = (chain: readonly Entity[], request: Partial<PathRequest> = {}): ValidatedPath =>
  validatePath({
    leaf: chain.at(-1)!.certificate,
    intermediates: chain.slice(1, -1).map(each => each.certificate),
    anchors: [anchorOf(chain[0]!.certificate, 'constraints')],
    at: now,
    purpose: 'clientAuth',
    algorithms: usualAlgorithms,
    policies: anyPolicies,
    names: 'any',
    revocation: 'none',
    budget: usualBudget,
    ...request,
  })

export const codeOf = (call: () => unknown): VerifyErrorCode | 'valid' => {
  try {
    call()
    return 'valid'
  } catch (error) {
    if (isAgentCaError(error)) return error.code as VerifyErrorCode
    throw error
  }
}

export const resultOf = (chain: readonly Entity[], request: Partial<PathRequest> = {}): VerifyErrorCode | 'valid' =>
  codeOf(() => validate(chain, request))

/** The facts of a refusal. */
export const factsOf = (call: () => unknown): unknown => {
  try {
    call()
  } catch (error) {
    if (isAgentCaError(error)) return error.facts
    throw error
  }
  return expect.unreachable('expected a refusal')
}
