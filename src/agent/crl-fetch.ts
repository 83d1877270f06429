// The CRLs of the CAs that peers may come from, as one PEM file for programs that check revocation by OpenSSL. Lists are signed, so they
// come over plain HTTP. Those of the own chain are verified by it, those of others (during a rotation peers have certificates of both
// issuing CAs) by CAs that lead to the same roots. A list that nobody known signed is left out: programs could not tell it from one of
// theirs, and whoever is on the way could fill their memory with it.
import { request } from 'undici'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { type Crl, parseCrlInSlices } from '../pki/crl.ts'
import { parseShardName } from '../pki/crl-shards.ts'
import { equalNames, nameToString, parseName } from '../pki/names.ts'
import { encodePem, parsePem } from '../pki/pem.ts'
import { checkSignature } from '../pki/signature.ts'
import { checkChain, parseCertificates } from './chain.ts'
import type { Credential } from './credential.ts'
import { AgentError } from './errors.ts'

/** A million entries of 36 bytes in base64. */
const maxBytes = 64 * 1024 * 1024
const deadlineMs = 15_000

/**
 * `bundle.pem` lies beside the complete list of an issuer (the contract's /crl/bundle.pem); its shards lie in a directory below.
 * @returns null for a certificate that names none: it lives too short for lists
 */
export const crlBundleUrl = (leaf: Certificate): URL | null => {
  const names = (leaf.crlDistributionPoints ?? []).flatMap(point => point.fullName ?? [])
  const url = names.find(name => name.kind === 'uri' && name.value.startsWith('http://'))
  if (url?.kind !== 'uri' || !URL.canParse(url.value)) return null
  const [, shard = ''] = /\/([^/]+)\.crl$/.exec(new URL(url.value).pathname) ?? []
  return new URL(parseShardName(shard) === null ? 'bundle.pem' : '../bundle.pem', url.value)
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

const isSignedBy = ({ spki }: Certificate, crl: Crl): boolean => {
  try {
    checkSignature(spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
    return true
  } catch {
    return false
  }
}

const signerOf = (crl: Crl, issuers: readonly Certificate[]): Certificate | undefined =>
  issuers.find(issuer => equalNames(issuer.subjectDer, crl.issuerName) && isSignedBy(issuer, crl))

/** @returns false for a list of another CA */
const checkOwn = (crl: Crl, chain: readonly Certificate[], now: number): boolean => {
  if (!chain.some(issuer => equalNames(issuer.subjectDer, crl.issuerName))) return false
  if (signerOf(crl, chain) === undefined)
    throw AgentError.of('answer_not_verified', 'a revocation list is not by the CA of this chain that it names')
  if (crl.nextUpdate !== null && crl.nextUpdate <= now)
    throw AgentError.of('answer_not_verified', `a revocation list ended at ${new Date(crl.nextUpdate).toISOString()}`)
  return true
}

export interface FetchedCrls {
  /** PEM, those of the chain first. */
  readonly pem: string
  readonly lists: readonly Crl[]
  /** Who signed them. */
  readonly issuers: readonly Certificate[]
  /** CAs whose lists nobody can verify here. */
  readonly leftOut: readonly string[]
}

/** For every list that is left out. */
export const unverifiedHint =
  "none of its CA's certificates leads to a root that is trusted here: compare agentca ca list with /aia/bundle.pem beside the lists"

interface Asked {
  readonly credential: Credential
  readonly now: number
  readonly signal: AbortSignal
  /** Certificates that may be those of other CAs; they count only where they lead to a root of the credential. */
  readonly candidates: readonly Certificate[]
}

/** Beside the lists lie the certificates of all CAs (the contract's /aia). What an older CA has not, it has not. */
const fetchCandidates = async (lists: URL, signal: AbortSignal): Promise<readonly Certificate[]> => {
  try {
    return parseCertificates(await download(new URL('../aia/bundle.pem', lists), signal))
  } catch (error) {
    signal.throwIfAborted()
    if (isAgentCaError(error)) return []
    throw error
  }
}

const thatLeadToRoots = (candidates: readonly Certificate[], { credential, now }: Asked): readonly Certificate[] => {
  const roots = parseCertificates(credential.bundlePem)
  return candidates.filter(candidate => {
    if (candidate.basicConstraints?.isCa !== true || candidate.keyUsage?.includes('cRLSign') === false) return false
    try {
      checkChain({ leaf: candidate, intermediates: candidates, roots, now })
      return true
    } catch (error) {
      if (isAgentCaError(error)) return false
      throw error
    }
  })
}

const nameOf = ({ issuerName }: Crl): string => {
  try {
    return nameToString(parseName(issuerName))
  } catch {
    return 'a CA whose name cannot be read'
  }
}

/** Lists of CAs that are not in the chain: those that are verified, and the names of the others. */
const sortOthers = async (crls: readonly Crl[], url: URL, asked: Asked) => {
  let known = crls.length === 0 ? [] : thatLeadToRoots(asked.candidates, asked)
  if (crls.some(crl => signerOf(crl, known) === undefined))
    known = [...known, ...thatLeadToRoots(await fetchCandidates(url, asked.signal), asked)]
  const verified: Crl[] = []
  const issuers: Certificate[] = []
  const leftOut: string[] = []
  for (const crl of crls) {
    const signer = signerOf(crl, known)
    if (signer === undefined) leftOut.push(nameOf(crl))
    else {
      verified.push(crl)
      issuers.push(signer)
    }
  }
  return { verified, issuers, leftOut }
}

/**
 * @returns null for a certificate that names no lists
 * @throws AgentError `ca_unreachable`, `answer_malformed`, `answer_not_verified`; the signal's reason
 */
export const fetchCrls = async (
  credential: Credential,
  now: number,
  signal: AbortSignal,
  candidates: readonly Certificate[] = [],
): Promise<FetchedCrls | null> => {
  const leaf = parseCertificate(parsePem(credential.certificatePem, 'CERTIFICATE')[0]!)
  const url = crlBundleUrl(leaf)
  if (url === null) return null
  const text = await download(url, signal)
  const chain = parseCertificates(credential.chainPem + credential.bundlePem)
  try {
    const [own, others]: [Crl[], Crl[]] = [[], []]
    for (const der of parsePem(text, 'X509 CRL', maxBytes)) {
      const crl = await parseInSlices(der)
      if (checkOwn(crl, chain, now)) own.push(crl)
      else others.push(crl)
    }
    if (!own.some(crl => equalNames(crl.issuerName, leaf.issuerDer)))
      throw AgentError.of('answer_not_verified', 'the revocation list of the issuing CA is missing')
    const { verified, issuers, leftOut } = await sortOthers(others, url, { credential, now, signal, candidates })
    const lists = [...own, ...verified]
    const pem = lists.map(({ der }) => encodePem('X509 CRL', der)).join('')
    return { pem, lists, issuers: [...chain, ...issuers], leftOut }
  } catch (error) {
    if (error instanceof AgentError || !isAgentCaError(error)) throw error
    throw AgentError.of('answer_malformed', `the revocation lists from ${url} cannot be read: ${error.message}`, {
      cause: error,
    })
  }
}
