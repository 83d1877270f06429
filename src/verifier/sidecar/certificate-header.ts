// The client certificate as each proxy hands it on: text of one header into DER, leaf first. The form is configured, never guessed: a text
// that two forms can read would be two certificates. Whether the certificate is any good is judged elsewhere.
import { fromBase64 } from '../../base/bytes.ts'
import { messageOf } from '../../base/errors.ts'
import { parsePem } from '../../pki/pem.ts'
import { readForwardedChain } from '../forwarded.ts'
import { RequestRefused } from './errors.ts'

/** By the proxy that writes it. */
export const certificateFormats = ['nginx', 'haproxy', 'caddy', 'traefik', 'envoy', 'rfc9440'] as const
export type CertificateFormat = (typeof certificateFormats)[number]

/** An issuing CA or two above the leaf are usual. */
const maxCertificates = 10

const malformed = (message: string, cause?: unknown): RequestRefused =>
  new RequestRefused('certificate_header_malformed', message, cause === undefined ? {} : { cause })

const base64Der = (text: string): Uint8Array => {
  const der = fromBase64(text)
  if (der === null || der.length === 0) throw malformed('expected a certificate as base64 of its DER')
  return der
}

/** PEM, percent-encoded: nginx's `$ssl_client_escaped_cert`, Envoy's `Cert` and `Chain`. */
const escapedPem = (text: string): readonly Uint8Array[] => {
  try {
    return parsePem(decodeURIComponent(text), 'CERTIFICATE')
  } catch (cause) {
    throw malformed(`expected percent-encoded PEM: ${messageOf(cause)}`, cause)
  }
}

const one = (certificates: readonly Uint8Array[]): Uint8Array => {
  if (certificates.length !== 1) throw malformed(`expected one certificate, got ${certificates.length}`)
  return certificates[0] as Uint8Array
}

const structured = (text: string, chain: string | null): readonly Uint8Array[] => {
  try {
    return readForwardedChain({ 'client-cert': text, ...(chain === null ? {} : { 'client-cert-chain': chain }) })
  } catch (cause) {
    throw malformed(messageOf(cause), cause)
  }
}

/** One element of X-Forwarded-Client-Cert: `Key=value` by semicolons, values with such characters in double quotes. */
const xfccElement = (text: string): ReadonlyMap<string, string> => {
  const pairs = new Map<string, string>()
  const pair = /([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))(;|$)/y
  while (pair.lastIndex < text.length) {
    const match = pair.exec(text)
    // A comma: another proxy in front, whose word this is not.
    if (match === null) throw malformed('expected one X-Forwarded-Client-Cert element')
    const [, key = '', quoted, plain] = match
    const name = key.toLowerCase()
    // URI and DNS may be there several times.
    if (pairs.has(name) && (name === 'cert' || name === 'chain')) throw malformed(`expected one ${key}, got several`)
    pairs.set(name, (quoted ?? plain ?? '').replaceAll(/\\(.)/g, '$1'))
  }
  return pairs
}

const xfcc = (text: string): readonly Uint8Array[] => {
  const pairs = xfccElement(text)
  const [cert, chain] = [pairs.get('cert'), pairs.get('chain')]
  if (cert === undefined && chain === undefined)
    throw malformed('expected Cert or Chain (set_current_client_cert_details: {cert: true, chain: true})')
  const rest = chain === undefined ? [] : escapedPem(chain)
  if (cert === undefined) return rest
  const leaf = one(escapedPem(cert))
  return [leaf, ...rest.filter(each => !Buffer.from(each).equals(leaf))]
}

const readers: Readonly<Record<CertificateFormat, (text: string, chain: string | null) => readonly Uint8Array[]>> = {
  nginx: text => [one(escapedPem(text))],
  haproxy: text => [base64Der(text)],
  caddy: text => [base64Der(text)],
  // PEM without its first and last line and line ends: base64; several by commas.
  traefik: text => text.split(',').map(base64Der),
  envoy: xfcc,
  rfc9440: structured,
}

/**
 * @param chain value of `Client-Cert-Chain`, which only RFC 9440 has
 * @returns DER, leaf first
 * @throws RequestRefused `certificate_header_malformed`
 */
export const readCertificateHeader = (
  format: CertificateFormat,
  text: string,
  chain: string | null = null,
): readonly Uint8Array[] => {
  const certificates = readers[format](text, chain)
  if (certificates.length > maxCertificates) throw malformed(`expected at most ${maxCertificates} certificates`)
  return certificates
}
