// Parsers of DER: everything that is signed. Most of them read lazily, so each is looked at whole (target.ts).
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { equalBytes } from '../../src/base/bytes.ts'
import { isAgentCaError } from '../../src/base/errors.ts'
import { parseCertificate, parseTbsCertificate } from '../../src/pki/certificate.ts'
import { parseCrl, parseCrlNumberOf } from '../../src/pki/crl.ts'
import { checkCertificationRequestSignature, parseCertificationRequest } from '../../src/pki/csr.ts'
import { type DerElement, DerReader } from '../../src/pki/der.ts'
import { encodeOcspRequest, parseOcspRequest, parseOcspResponse } from '../../src/pki/ocsp.ts'
import { parseSubjectPublicKeyInfo } from '../../src/pki/spki.ts'
import { findingsOf } from '../../src/policy/lint.ts'
import { readCertificate, readResponseData, readTbsCertList } from '../../src/signer/tbs-fields.ts'
import type { FuzzTarget } from './target.ts'

const pkits = join(import.meta.dirname, '../vectors/pkits')
/** Every tenth of NIST's: all of them are much alike. */
const vectors = (folder: 'certs' | 'crls'): readonly Uint8Array[] =>
  readdirSync(join(pkits, folder))
    .toSorted()
    .filter((_, at) => at % 10 === 0)
    .map(name => new Uint8Array(readFileSync(join(pkits, folder, name))))

type Tree = readonly [tag: number, content: string | readonly Tree[]]

const treeOf = (element: DerElement): Tree => {
  if ((element.tag & 0x20) === 0) return [element.tag, Buffer.from(element.content).toString('hex')]
  const children: Tree[] = []
  for (const reader = element.reader(); !reader.atEnd; ) children.push(treeOf(reader.readTlv()))
  return [element.tag, children]
}

/** Long form only where the short one does not do, and then as short as can be: DER has one way. */
const headOf = (tag: number, length: number): Buffer => {
  if (length < 0x80) return Buffer.of(tag, length)
  const digits = length.toString(16)
  const octets = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex')
  return Buffer.concat([Buffer.of(tag, 0x80 | octets.length), octets])
}

const bytesOfTree = ([tag, content]: Tree): Buffer => {
  const inner = typeof content === 'string' ? Buffer.from(content, 'hex') : Buffer.concat(content.map(bytesOfTree))
  return Buffer.concat([headOf(tag, inner.length), inner])
}

const noSeeds = (): readonly Uint8Array[] => []
const der = { form: 'der', maxLength: 8192 } as const

export const derTargets: readonly FuzzTarget[] = [
  {
    ...der,
    name: 'der',
    seeds: () => vectors('certs').slice(0, 5),
    read: bytes => {
      const reader = new DerReader(bytes)
      const tree = treeOf(reader.readTlv())
      reader.end()
      return tree
    },
    write: { exact: true, of: bytesOfTree },
  },
  {
    ...der,
    name: 'certificate',
    foreign: 'certificate',
    seeds: () => vectors('certs'),
    read: bytes => {
      const certificate = parseCertificate(bytes)
      assert.ok(equalBytes(certificate.der, bytes))
      const { tbs } = parseTbsCertificate(certificate.tbs)
      assert.ok(equalBytes(tbs, certificate.tbs))
      return certificate
    },
  },
  {
    ...der,
    name: 'lints',
    seeds: noSeeds,
    read: bytes => {
      const { tbs } = parseCertificate(bytes)
      return findingsOf(tbs)
    },
  },
  {
    ...der,
    name: 'signer',
    seeds: () => [...vectors('certs').slice(0, 3), ...vectors('crls').slice(0, 3)],
    // What stands before each signature: bytes come from the core, which may be taken over.
    read: bytes =>
      [readCertificate, readTbsCertList, readResponseData].map(read => {
        try {
          return read(bytes)
        } catch (error) {
          if (isAgentCaError(error)) return error.code
          throw error
        }
      }),
  },
  {
    ...der,
    name: 'csr',
    foreign: 'csr',
    seeds: noSeeds,
    read: bytes => {
      const request = parseCertificationRequest(bytes)
      let signed = true
      try {
        checkCertificationRequestSignature(request)
      } catch {
        signed = false
      }
      return { ...request, signed }
    },
  },
  {
    ...der,
    name: 'crl',
    foreign: 'crl',
    seeds: () => vectors('crls'),
    read: bytes => {
      const crl = parseCrl(bytes)
      const entries = [...crl.entries()]
      for (const { serial, certificateIssuer } of entries)
        assert.ok(crl.findRevoked(serial, certificateIssuer) !== undefined, 'an entry that is not found')
      const { crlNumber, issuerName } = parseCrlNumberOf(bytes)
      assert.deepEqual([crlNumber, issuerName], [crl.crlNumber, crl.issuerName])
      return { crl, entries }
    },
  },
  {
    ...der,
    name: 'ocsp-request',
    foreign: 'ocsp-request',
    maxLength: 2048,
    seeds: noSeeds,
    // What an unsigned request without other extensions says.
    read: bytes => {
      const { certIds, nonce } = parseOcspRequest(bytes)
      return { certIds, nonce }
    },
    write: {
      exact: false,
      of: ({ certIds, nonce }: Pick<ReturnType<typeof parseOcspRequest>, 'certIds' | 'nonce'>) =>
        encodeOcspRequest({ certIds: certIds.map(({ der: id }) => id), ...(nonce === null ? {} : { nonce }) }),
    },
  },
  { ...der, name: 'ocsp-response', seeds: noSeeds, read: parseOcspResponse },
  { ...der, name: 'spki', maxLength: 2048, seeds: noSeeds, read: parseSubjectPublicKeyInfo },
]
