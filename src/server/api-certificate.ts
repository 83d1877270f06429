// The API's own certificate: from this CA, for the service `agentca`, renewed after a third of its life or when it was revoked, kept on
// disk so that a start with a dead HSM still answers, weeks into an outage. Key and chain lie in one file that is replaced by rename:
// never one without the other. The next key is on disk before the CA is asked, so that whatever happens then, the same key asks again:
// with one key after the other, the lineage would take this server for two.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { equalBytes } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Issuance, IssuanceRequest, IssuedCertificate } from '../ca/issuance.ts'
import type { Issuers } from '../ca/issuers.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { createCsr } from '../pki/csr.ts'
import { encodePem, parsePem } from '../pki/pem.ts'
import { readIfPresent, removeDurably, writeDurably } from '../signer/durable-file.ts'
import type { CertificatesPort } from '../store/ports.ts'

export interface ApiCredential {
  /** PEM, PKCS#8. */
  readonly key: string
  /** PEM: leaf and intermediates. */
  readonly chain: string
  readonly certificate: Certificate
}

export interface ApiCertificate {
  /** Whether `load` needs no signer. */
  isKept(): boolean
  /** From disk, or made now. @throws CaError when there is none and none can be made */
  load(): Promise<ApiCredential>
  /** Renews when it is time, and replaces what is not good any more. @returns the new credential, or null when the present one stays */
  renewIfDue(): Promise<ApiCredential | null>
}

export interface ApiCertificateDeps {
  readonly clock: Clock
  readonly log: Log
  readonly issuance: Issuance
  readonly issuers: Pick<Issuers, 'chainPem'>
  readonly certificates: Pick<CertificatesPort, 'get'>
  readonly directory: string
}

const serviceName = 'agentca'
const privateKeyBlock = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n?/

const parseCredential = (text: string): ApiCredential | null => {
  const key = privateKeyBlock.exec(text)?.[0]
  const chain = text.replace(privateKeyBlock, '')
  const [leaf] = parsePem(chain, 'CERTIFICATE')
  return key === undefined || leaf === undefined ? null : { key, chain, certificate: parseCertificate(leaf) }
}

/** What asking again will not change: the lineage has ended, or another key has gone on in it. A fresh instance is the way out. */
const lineageIsLost: ReadonlySet<string> = new Set([
  'lineage_conflict',
  'instance_locked',
  'instance_revoked',
  'certificate_unknown',
  'certificate_expired',
  'certificate_held',
  'certificate_revoked',
  'key_in_use',
  'key_revoked',
  'key_reuse_not_allowed',
])

interface Answer {
  readonly key: KeyObject
  readonly issued: IssuedCertificate
}

const spkiOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))

export const createApiCertificate = (deps: ApiCertificateDeps): ApiCertificate => {
  const { clock, log, issuance, issuers, certificates, directory } = deps
  const path = join(directory, 'credential-bundle.pem')
  const nextKeyPath = join(directory, 'next-key.pem')
  let current: ApiCredential | null = null

  const read = (): ApiCredential | null => {
    if (!existsSync(path)) return null
    try {
      return parseCredential(readFileSync(path, 'utf8'))
    } catch (error) {
      log.warn({ path, reason: messageOf(error) }, 'the API credential on disk cannot be read; making another')
      return null
    }
  }

  // Not a CA key: the TLS key of one listener, made in software and replaced with each certificate.
  const freshKey = (): KeyObject => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    writeDurably(nextKeyPath, privateKey.export({ type: 'pkcs8', format: 'pem' }) as string)
    return privateKey
  }

  /** The one that an earlier attempt asked with; a crash may have left one that has become the present one. */
  const nextKey = ({ certificate }: ApiCredential): KeyObject => {
    try {
      const text = readIfPresent(nextKeyPath)
      const kept = text === null ? null : createPrivateKey(text)
      if (kept !== null && !equalBytes(spkiOf(kept), certificate.spkiDer)) return kept
    } catch (error) {
      log.warn({ path: nextKeyPath, reason: messageOf(error) }, 'the next API key cannot be read; making another')
    }
    return freshKey()
  }

  const make = async (predecessor: ApiCredential | null): Promise<ApiCredential> => {
    const { key, issued } = await request(predecessor)
    const keyPem = key.export({ type: 'pkcs8', format: 'pem' }) as string
    const chain = encodePem('CERTIFICATE', issued.certificate) + issuers.chainPem(issued.record.issuerId)
    writeDurably(path, keyPem + chain)
    current = { key: keyPem, chain, certificate: parseCertificate(issued.certificate) }
    removeDurably(nextKeyPath)
    log.info({ serial: issued.record.serial, notAfter: new Date(issued.record.notAfter) }, 'API certificate made')
    return current
  }

  const request = async (predecessor: ApiCredential | null): Promise<Answer> => {
    const context = { requestId: randomBytes(16).toString('hex'), who: 'system', source: 'local' }
    const ask = async (key: KeyObject, how: Pick<IssuanceRequest, 'operation' | 'evidence'>): Promise<Answer> => {
      const csr = await createCsr({
        spkiDer: spkiOf(key),
        sign: async data => new Uint8Array(sign('sha256', data, key)),
      })
      return { key, issued: await issuance.issue({ ...how, csr, context }) }
    }
    const afresh = () =>
      ask(freshKey(), {
        operation: 'issue',
        evidence: { kind: 'registration', subject: 'service', name: serviceName },
      })
    if (predecessor === null || predecessor.certificate.notAfter <= clock.now()) return afresh()
    const evidence = { kind: 'renewal', presentedSerial: predecessor.certificate.serialHex } as const
    try {
      return await ask(nextKey(predecessor), { operation: 'renew', evidence })
    } catch (error) {
      if (!isAgentCaError(error) || !lineageIsLost.has(error.code)) throw error
      // A restored disk may hold an older generation, and an operator may have revoked this one.
      log.warn({ reason: messageOf(error) }, 'the API certificate could not be renewed; asking for a fresh one')
      return afresh()
    }
  }

  /** Agents that check the server would not talk to it any more. */
  const isEnded = ({ certificate }: ApiCredential): boolean =>
    certificates.get(certificate.serialHex)?.state !== 'issued'

  const isDue = (credential: ApiCredential): boolean => {
    const { notBefore, notAfter } = credential.certificate
    return clock.now() >= notBefore + (notAfter - notBefore) / 3 || isEnded(credential)
  }

  const lives = (credential: ApiCredential | null): credential is ApiCredential =>
    credential !== null && credential.certificate.notAfter > clock.now()

  return {
    isKept: () => lives(read()),
    load: async () => {
      current = read()
      return lives(current) ? current : make(current)
    },
    renewIfDue: async () => (current === null || !isDue(current) ? null : make(current)),
  }
}
