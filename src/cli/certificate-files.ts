// Certificates and keys in files of the operator: PEM with one or several certificates, or DER; a key file is read among other
// blocks, never a private one.
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parseCertificationRequest } from '../pki/csr.ts'
import { encodePem, parseOnePem, parsePem } from '../pki/pem.ts'
import { parseSubjectPublicKeyInfo, spkiHashHex } from '../pki/spki.ts'
import { CliError } from './errors.ts'
import { readInput } from './files.ts'
import type { CommandIo } from './io.ts'

const isPem = (bytes: Uint8Array): boolean => Buffer.from(bytes.subarray(0, 4096)).includes('-----BEGIN ')

/** Certificates among the blocks of a text, whatever else is there: `openssl s_client` and credential bundles mix. */
export const certificateBlocks = (text: string): readonly string[] =>
  text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []

/** At least one, in the order of the file. @throws CliError file_unreadable; PkiError */
export const readCertificates = (io: CommandIo, name: string): readonly [Certificate, ...Certificate[]] => {
  const bytes = readInput(io, name)
  if (!isPem(bytes)) return [parseCertificate(bytes)]
  const [first, ...more] = certificateBlocks(Buffer.from(bytes).toString('utf8')).map(block =>
    parseCertificate(parseOnePem(block, 'CERTIFICATE')),
  )
  if (first === undefined)
    throw new CliError('file_unreadable', `${name} holds no certificate`, { hint: 'expected PEM or DER' })
  return [first, ...more]
}

export const certificatePem = (certificate: Certificate): string => encodePem('CERTIFICATE', certificate.der)

const spkiOf = (text: string): Uint8Array => {
  if (text.includes('-----BEGIN CERTIFICATE-----')) return parseCertificate(parsePem(text, 'CERTIFICATE')[0]!).spkiDer
  if (/-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----/.test(text))
    return parseCertificationRequest(parseOnePem(text, 'CERTIFICATE REQUEST')).spki.der
  return parseSubjectPublicKeyInfo(parseOnePem(text, 'PUBLIC KEY')).der
}

/** SHA-256 of the SubjectPublicKeyInfo in a PEM public key, certificate or request. @throws CliError file_unreadable */
export const keyHashOfFile = (io: CommandIo, name: string): string => {
  const bytes = readInput(io, name)
  try {
    return spkiHashHex(spkiOf(Buffer.from(bytes).toString('utf8')))
  } catch (error) {
    throw new CliError('file_unreadable', `no public key in ${name}: ${messageOf(error)}`, {
      hint: 'expected PEM: a public key, a certificate or a certification request',
      cause: error,
    })
  }
}
