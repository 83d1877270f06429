// Whom to believe at the first contact: roots from a file, or one root by its fingerprint. Nothing falls back to the system's roots.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { toHex } from '../base/bytes.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Certificate } from '../pki/certificate.ts'
import { encodePem } from '../pki/pem.ts'
import { fetchClaimedRoots } from './ca-call.ts'
import { parseCertificates } from './chain.ts'
import { AgentError } from './errors.ts'

export type TrustAnchors =
  /** PEM of one or more roots. */
  | { readonly caFile: string }
  /** `sha256:HEX` of a root certificate's DER. */
  | { readonly caFingerprint: string }

/** @throws AgentError `option_invalid` */
export const parseFingerprint = (text: string): string => {
  // Colons between octets are how openssl and browsers print it.
  const hex = /^sha256:([0-9a-fA-F:]+)$/.exec(text)?.[1]?.replaceAll(':', '').toLowerCase()
  if (hex === undefined || hex.length !== 64)
    throw AgentError.of('option_invalid', `a CA fingerprint is sha256: and 64 hex digits, got ${text.slice(0, 80)}`, {
      hint: 'agentca bundle show prints it, agentca token create too',
    })
  return hex
}

const fingerprintOf = (certificate: Certificate): string => toHex(createHash('sha256').update(certificate.der).digest())

/** PEM of the file, its content checked. @throws AgentError `file_unreadable`, `option_invalid` */
export const readRoots = async (file: string): Promise<string> => {
  const text = await readFile(file, 'utf8').catch(error => {
    throw AgentError.of('file_unreadable', `cannot read the CA file ${file}: ${messageOf(error)}`, { cause: error })
  })
  try {
    const other = parseCertificates(text).find(certificate => certificate.basicConstraints?.isCa !== true)
    if (other === undefined) return text
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    throw AgentError.of('option_invalid', `the CA file ${file} is not usable: ${error.message}`, {
      hint: 'it must hold root certificates in PEM: agentca bundle show -o pem',
      cause: error,
    })
  }
  throw AgentError.of('option_invalid', `the CA file ${file} holds a certificate that is not a CA's`, {
    hint: 'it must hold root certificates in PEM: agentca bundle show -o pem',
  })
}

/** The certificate is public and the fingerprint a strong hash: who shows the right certificate here has proved nothing yet. */
const findRoot = async (url: string, fingerprint: string, signal: AbortSignal): Promise<string> => {
  const wanted = parseFingerprint(fingerprint)
  const claimed = await fetchClaimedRoots(url, signal)
  let roots: readonly Certificate[]
  try {
    roots = parseCertificates(claimed)
  } catch (error) {
    throw AgentError.of('answer_malformed', `${url} shows no readable bundle: ${messageOf(error)}`, { cause: error })
  }
  const root = roots.find(candidate => fingerprintOf(candidate) === wanted)
  if (root !== undefined) return encodePem('CERTIFICATE', root.der)
  throw AgentError.of('ca_fingerprint_not_found', `${url} shows no root with the fingerprint that was given`, {
    hint: 'compare with agentca bundle show on the CA; if it matches, someone is in between',
    facts: { expected: wanted, found: roots.map(fingerprintOf) },
  })
}

/**
 * @returns PEM of the roots that the next connection is verified against
 * @throws AgentError `option_invalid`, `file_unreadable`, `ca_fingerprint_not_found`, `ca_unreachable`
 */
export const resolveTrustAnchors = (url: string, anchors: TrustAnchors, signal: AbortSignal): Promise<string> =>
  'caFile' in anchors ? readRoots(anchors.caFile) : findRoot(url, anchors.caFingerprint, signal)
