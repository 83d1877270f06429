// The API's own certificate: from this CA, for the service `agentca`, renewed after a third of its life, kept on disk so that a
// start with a dead HSM still answers, weeks into an outage. Key and chain lie in one file that is replaced by rename: never one without the other.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Issuance, IssuedCertificate } from '../ca/issuance.ts'
import type { Issuers } from '../ca/issuers.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { createCsr } from '../pki/csr.ts'
import { encodePem, parsePem } from '../pki/pem.ts'

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
  /** Renews when it is time. @returns the new credential, or null when the present one stays */
  renewIfDue(): Promise<ApiCredential | null>
}

export interface ApiCertificateDeps {
  readonly clock: Clock
  readonly log: Log
  readonly issuance: Issuance
  readonly issuers: Issuers
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

const writeDurably = (path: string, text: string): void => {
  const temporary = `${path}.new`
  const file = openSync(temporary, 'w', 0o600)
  try {
    writeSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameSync(temporary, path)
}

export const createApiCertificate = (deps: ApiCertificateDeps): ApiCertificate => {
  const { clock, log, issuance, issuers, directory } = deps
  const path = join(directory, 'credential-bundle.pem')
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
  const make = async (predecessor: ApiCredential | null): Promise<ApiCredential> => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const csr = await createCsr({
      spkiDer: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
      sign: async data => new Uint8Array(sign('sha256', data, privateKey)),
    })
    const issued = await request(csr, predecessor)
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    const chain = encodePem('CERTIFICATE', issued.certificate) + issuers.chainPem(issued.record.issuerId)
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    writeDurably(path, key + chain)
    current = { key, chain, certificate: parseCertificate(issued.certificate) }
    log.info({ serial: issued.record.serial, notAfter: new Date(issued.record.notAfter) }, 'API certificate made')
    return current
  }

  const request = async (csr: Uint8Array, predecessor: ApiCredential | null): Promise<IssuedCertificate> => {
    const context = { requestId: randomBytes(16).toString('hex'), who: 'system', source: 'local' }
    const afresh = () =>
      issuance.issue({
        operation: 'issue',
        evidence: { kind: 'registration', subject: 'service', name: serviceName },
        csr,
        context,
      })
    if (predecessor === null || predecessor.certificate.notAfter <= clock.now()) return afresh()
    const evidence = { kind: 'renewal', presentedSerial: predecessor.certificate.serialHex } as const
    return issuance.issue({ operation: 'renew', evidence, csr, context }).catch((error: unknown) => {
      // A restored disk may hold an older generation: the lineage refuses it, a fresh instance is the way out.
      log.warn({ reason: messageOf(error) }, 'the API certificate could not be renewed; asking for a fresh one')
      return afresh()
    })
  }

  const isDue = ({ certificate }: ApiCredential): boolean =>
    clock.now() >= certificate.notBefore + (certificate.notAfter - certificate.notBefore) / 3

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
