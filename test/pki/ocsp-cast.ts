// The cast of the OCSP tests: a CA, its responder, two leaves; and requests as openssl makes them.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { type CertIdHash, encodeCertId, parseOcspRequest } from '../../src/pki/ocsp.ts'
import { certificateFile, createParty, responderExtensions, type TestParty } from './crl-authority.ts'
import type { Bench } from './openssl.ts'

export const ca = createParty({ name: 'ocsp test' })
export const responder = createParty({ name: 'responder', issuer: ca, extensions: responderExtensions })
export const leaf = createParty({ name: 'leaf', issuer: ca, extensions: [] })
export const other = createParty({ name: 'other', issuer: ca, extensions: [] })

export const certIdOf = (party: TestParty, hash: CertIdHash = 'sha1', issuer = ca): Uint8Array =>
  encodeCertId({
    hash,
    issuerNameDer: issuer.certificate.subjectDer,
    issuerKeyBits: issuer.certificate.spki.keyBytes,
    serial: party.certificate.serial,
  })

const readBytes = (path: string): Uint8Array => new Uint8Array(readFileSync(path))

/** A request as openssl makes it, and our reading of it. */
export const opensslRequest = (bench: Bench, ...args: string[]) => {
  const path = bench.path('request.der')
  bench.openssl('ocsp', '-issuer', certificateFile(bench, 'ca.pem', ca), ...args, '-reqout', path)
  return { path, der: readBytes(path), request: parseOcspRequest(readBytes(path)) }
}

/** Valid bytes with one fault. */
export const mutated = (der: Uint8Array) =>
  fc
    .tuple(fc.nat(der.length - 1), fc.integer({ min: 0, max: 255 }), fc.constantFrom('set', 'cut', 'drop'))
    .map(([at, byte, how]) =>
      how === 'set'
        ? der.with(at, byte)
        : how === 'cut'
          ? der.subarray(0, at)
          : Uint8Array.of(...der.subarray(0, at), ...der.subarray(at + 1)),
    )
