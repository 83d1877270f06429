// The CRLs of every CA above a certificate, as one PEM file for programs that check revocation by OpenSSL. Lists are signed, so they
// come over plain HTTP; what does not verify against the chain is not handed on, because it would make such programs refuse everybody.
// Lists of other CAs go along as they are: during a rotation peers come with certificates of both issuing CAs, and programs that meet
// them want a list of each. Whoever uses such a list checks its signature, and nobody's list is another CA's.
import { request } from 'undici'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { type Crl, parseCrlInSlices } from '../pki/crl.ts'
import { equalNames } from '../pki/names.ts'
import { encodePem, parsePem } from '../pki/pem.ts'
import { checkSignature } from '../pki/signature.ts'
import { parseCertificates } from './chain.ts'
import type { Credential } from './credential.ts'
import { AgentError } from './errors.ts'

/** A million entries of 36 bytes in base64. */
const maxBytes = 64 * 1024 * 1024
const deadlineMs = 15_000

/**
 * `bundle.pem` lies beside the list that the certificate names (the contract's /crl/bundle.pem).
 * @returns null for a certificate that names none: it lives too short for lists
 */
export const crlBundleUrl = (leaf: Certificate): URL | null => {
  const names = (leaf.crlDistributionPoints ?? []).flatMap(point => point.fullName ?? [])
  const url = names.find(name => name.kind === 'uri' && name.value.startsWith('http://'))
  return url?.kind === 'uri' && URL.canParse(url.value) ? new URL('bundle.pem', url.value) : null
}

const download = async (url: URL, signal: AbortSignal): Promise<string> => {
  const unreachable = (reason: string, cause?: unknown): AgentError =>
    AgentError.of('ca_unreachable', `no revocation lists from ${url}: ${reason}`, { cause })
  try {
    const answer = await request(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]) })
    if (answer.statusCode !== 200) {
      await answer.body.dump()
      throw unreachable(`status ${answer.statusCode}`)
    }
    const parts: Uint8Array[] = []
    let size = 0
    for await (const part of answer.body as AsyncIterable<Uint8Array>) {
      size += part.length
      if (size > maxBytes) throw unreachable(`more than ${maxBytes} bytes`)
      parts.push(part)
    }
    return Buffer.concat(parts).toString('latin1')
  } catch (error) {
    signal.throwIfAborted()
    throw error instanceof AgentError ? error : unreachable(messageOf(error), error)
  }
}

/** In slices: a long list must not stop a program that has other things to do. */
const parseInSlices = async (der: Uint8Array): Promise<Crl> => {
  const steps = parseCrlInSlices(der)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
    await new Promise(setImmediate)
  }
}

/** @returns false for a list of another CA */
const checkCrl = (crl: Crl, issuers: readonly Certificate[], now: number): boolean => {
  const named = issuers.filter(issuer => equalNames(issuer.subjectDer, crl.issuerName))
  if (named.length === 0) return false
  const signed = named.some(({ spki }) => {
    try {
      checkSignature(spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
      return true
    } catch {
      return false
    }
  })
  if (!signed)
    throw AgentError.of('answer_not_verified', 'a revocation list is not by the CA of this chain that it names')
  if (crl.nextUpdate !== null && crl.nextUpdate <= now)
    throw AgentError.of('answer_not_verified', `a revocation list ended at ${new Date(crl.nextUpdate).toISOString()}`)
  return true
}

/**
 * @returns PEM of the lists, those of the chain verified and first; null for a certificate that names none
 * @throws AgentError `ca_unreachable`, `answer_malformed`, `answer_not_verified`; the signal's reason
 */
export const fetchCrls = async (credential: Credential, now: number, signal: AbortSignal): Promise<string | null> => {
  const leaf = parseCertificate(parsePem(credential.certificatePem, 'CERTIFICATE')[0]!)
  const url = crlBundleUrl(leaf)
  if (url === null) return null
  const text = await download(url, signal)
  const issuers = parseCertificates(credential.chainPem + credential.bundlePem)
  try {
    const [ofChain, others]: [Uint8Array[], Uint8Array[]] = [[], []]
    let ofLeaf = false
    for (const der of parsePem(text, 'X509 CRL', maxBytes)) {
      const crl = await parseInSlices(der)
      if (checkCrl(crl, issuers, now)) ofChain.push(der)
      else others.push(der)
      ofLeaf ||= equalNames(crl.issuerName, leaf.issuerDer)
    }
    if (!ofLeaf) throw AgentError.of('answer_not_verified', 'the revocation list of the issuing CA is missing')
    return [...ofChain, ...others].map(der => encodePem('X509 CRL', der)).join('')
  } catch (error) {
    if (error instanceof AgentError || !isAgentCaError(error)) throw error
    throw AgentError.of('answer_malformed', `the revocation lists from ${url} cannot be read: ${error.message}`, {
      cause: error,
    })
  }
}
