// Credentials without a CA, for tests of the files alone: a throw-away root and a leaf that belong together.
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { type Credential, credentialOf } from '../../src/agent/credential.ts'
import { spkiOf } from '../../src/agent/key-pair.ts'
import { assembleCertificate, encodeTbsCertificate } from '../../src/pki/certificate.ts'
import { assembleCrl, createTbsCertListWriter } from '../../src/pki/crl.ts'
import { basicConstraints, extendedKeyUsage, keyUsage, subjectAltName } from '../../src/pki/extensions.ts'
import { uriName } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { encodeSerial, serialHex } from '../../src/pki/serial.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo } from '../../src/pki/spki.ts'

const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
const rootName = encodeName([['CN', 'throw-away root']])
const now = Math.floor(Date.now() / 1000) * 1000

const signed = (spkiDer: Uint8Array, serial: Uint8Array, isCa: boolean): string => {
  const tbs = encodeTbsCertificate({
    serial,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    issuerDer: rootName,
    notBefore: now - 60_000,
    notAfter: now + 3_600_000,
    subjectDer: isCa ? rootName : encodeName([['CN', 'agent-made']]),
    spkiDer,
    extensions: isCa
      ? [basicConstraints({ isCa: true, pathLength: null }), keyUsage(['keyCertSign', 'cRLSign'])]
      : [
          keyUsage(['digitalSignature']),
          extendedKeyUsage([oidOf.clientAuth]),
          subjectAltName([uriName('spiffe://example.org/agent/made/i/1')]),
        ],
  })
  return encodePem(
    'CERTIFICATE',
    assembleCertificate(tbs, 'ecdsa-with-SHA256', new Uint8Array(sign('sha256', tbs, rootKey))),
  )
}

const newSerial = () => encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) })
const bundle = signed(spkiOf(rootKey), newSerial(), true)

export const madeCredential = (generation: number): Credential => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const serial = newSerial()
  const time = (ms: number) => new Date(ms).toISOString()
  return credentialOf(
    {
      spiffeId: 'spiffe://example.org/agent/made/i/1',
      agent: 'made',
      instance: '1',
      serial: serialHex(serial),
      generation,
      notBefore: time(now - 60_000),
      notAfter: time(now + 3_600_000),
      renewAfter: time(now + 1_800_000),
      renewBefore: time(now + 3_000_000),
      renewInSeconds: 1800,
      expiresInSeconds: 3600,
      notGranted: [],
      certificate: signed(spkiOf(privateKey), serial, false),
      chain: '',
      bundle,
    },
    privateKey,
    { url: 'https://ca.example.org:8443', enrolledWith: `sha256:${createHash('sha256').digest('hex')}` },
  )
}

/** An empty list of the throw-away root. */
export const madeCrl = (): string => {
  const tbs = createTbsCertListWriter({
    issuerName: rootName,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    authorityKeyId: keyIdentifier(parseSubjectPublicKeyInfo(spkiOf(rootKey))),
    crlNumber: 1n,
    thisUpdate: now,
    nextUpdate: now + 86_400_000,
  }).finish()
  return encodePem('X509 CRL', assembleCrl(tbs, 'ecdsa-with-SHA256', new Uint8Array(sign('sha256', tbs, rootKey))))
}
