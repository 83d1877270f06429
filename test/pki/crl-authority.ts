// A certificate authority with a software key, for tests of encodings only: CAs, responders, leaves.
import type { KeyAlgorithm, SignatureAlgorithm } from '../../src/pki/algorithms.ts'
import { signatureAlgorithmFor } from '../../src/pki/algorithms.ts'
import {
  assembleCertificate,
  type Certificate,
  encodeTbsCertificate,
  parseCertificate,
} from '../../src/pki/certificate.ts'
import * as ext from '../../src/pki/extensions.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { keyIdentifier } from '../../src/pki/spki.ts'
import { createTestKey } from './keys.ts'
import type { Bench } from './openssl.ts'

export interface TestParty {
  readonly certificate: Certificate
  readonly algorithm: SignatureAlgorithm
  readonly keyId: Uint8Array
  sign(tbs: Uint8Array): Uint8Array
}

export interface PartyOptions {
  readonly name: string
  /** Without one the party signs its own certificate. */
  readonly issuer?: TestParty
  readonly keyAlgorithm?: KeyAlgorithm
  readonly extensions?: readonly ext.Extension[]
  readonly notBefore?: number
  readonly notAfter?: number
}

const caExtensions: readonly ext.Extension[] = [
  ext.basicConstraints({ isCa: true, pathLength: null }),
  ext.keyUsage(['keyCertSign', 'cRLSign', 'digitalSignature']),
]

export const responderExtensions: readonly ext.Extension[] = [
  ext.keyUsage(['digitalSignature']),
  ext.extendedKeyUsage([oidOf.ocspSigning]),
  ext.ocspNoCheck(),
]

let serials = 0

export const createParty = (options: PartyOptions): TestParty => {
  const { name, issuer, keyAlgorithm = 'P-256', extensions = caExtensions } = options
  const key = createTestKey(keyAlgorithm)
  const keyId = keyIdentifier(key.spki)
  const algorithm = signatureAlgorithmFor(keyAlgorithm)
  const subjectDer = encodeName([
    ['O', 'Example'],
    ['CN', name],
  ])
  const signer = issuer ?? { algorithm, sign: key.signDer }
  const tbs = encodeTbsCertificate({
    serial: Uint8Array.of(0x01, 0xff, 0x80, ++serials),
    signatureAlgorithm: signer.algorithm,
    issuerDer: issuer?.certificate.subjectDer ?? subjectDer,
    notBefore: options.notBefore ?? Date.now() - 3_600_000,
    notAfter: options.notAfter ?? Date.now() + 86_400_000,
    subjectDer,
    spkiDer: key.spki.der,
    extensions: [...extensions, ext.subjectKeyIdentifier(keyId), ext.authorityKeyIdentifier(issuer?.keyId ?? keyId)],
  })
  const certificate = parseCertificate(assembleCertificate(tbs, signer.algorithm, signer.sign(tbs)))
  return { certificate, algorithm, keyId, sign: key.signDer }
}

export const certificateFile = (bench: Bench, name: string, ...parties: readonly TestParty[]): string =>
  bench.file(name, parties.map(party => encodePem('CERTIFICATE', party.certificate.der)).join(''))
