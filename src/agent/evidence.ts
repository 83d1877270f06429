// What an agent shows to become an instance: a join token, a JWT of another issuer, or a certificate of one. A secret never
// comes from an argument or the environment, which other processes and crash reports may show; those carry paths and numbers only.
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'
import { fstatSync, readFile } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { equalBytes, toHex, utf8 } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { signCertificateProof } from '../jws/sign-proof.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { parsePem } from '../pki/pem.ts'
import { AgentError } from './errors.ts'

export type EvidenceSource =
  | { readonly tokenFile: string }
  /** Open when the program starts, and read to its end once. */
  | { readonly tokenFd: number }
  /** What a platform keeps fresh there, a projected service account token for example. */
  | { readonly jwtFile: string }
  /** Asks a platform for one, each time it is needed. */
  | { readonly jwt: () => Promise<string> }
  /** PEM: a certificate of another authority with its intermediates, and its private key, which signs and is never sent. */
  | { readonly certificateFile: string; readonly keyFile: string }

/** The request that evidence goes along with. */
export interface EvidenceUse {
  readonly csr: Uint8Array
  /** `publicUrl.api` of the CA. */
  readonly audience: string
  readonly now: number
}

export type Evidence =
  | { readonly type: 'token' | 'jwt'; readonly secret: string }
  /** `secret` is none: the certificate, by which it is remembered. Each use is signed anew. */
  | { readonly type: 'x509'; readonly secret: string; readonly sign: (use: EvidenceUse) => Promise<string> }

/** What evidence is remembered by: never itself. */
export const evidenceHash = (secret: string): string =>
  `sha256:${toHex(createHash('sha256').update(utf8(secret)).digest())}`

/** As the API takes it. */
export const evidenceBody = async (evidence: Evidence, use: EvidenceUse): Promise<Readonly<Record<string, string>>> => {
  const { type, secret } = evidence
  if (type === 'x509') return { type, jws: await evidence.sign(use) }
  return type === 'token' ? { type, token: secret } : { type, jwt: secret }
}

/** Join tokens are short; a JWT with a few claims and an RSA signature has a few kilobytes. */
const forms = {
  token: { what: 'a join token', form: /^[!-~]{1,512}$/, hint: 'agentca token create --agent NAME makes one' },
  jwt: {
    what: 'a JWT',
    form: /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/,
    hint: 'name the file in which the platform keeps it, for example a projected service account token',
  },
} as const

type SecretType = keyof typeof forms

const parseEvidence = (type: SecretType, text: string, where: string): Evidence => {
  const secret = text.trim()
  const { what, form, hint } = forms[type]
  if (secret.length <= 16_384 && form.test(secret)) return { type, secret }
  throw AgentError.of('option_invalid', `${where} does not hold ${what}: expected one line of it`, { hint })
}

const readText = promisify(readFile) as (file: string | number, encoding: 'utf8') => Promise<string>

const readFrom = (type: SecretType, file: string | number, where: string): Promise<string> =>
  readText(file, 'utf8').catch(error => {
    throw AgentError.of('file_unreadable', `cannot read ${forms[type].what} from ${where}: ${messageOf(error)}`, {
      hint: typeof file === 'number' ? `open it for the program: ${file}<token.file` : forms[type].hint,
      cause: error,
    })
  })

/** A number that is open for something of the runtime's own would be waited for for ever. @throws AgentError `file_unreadable` */
const checkReadable = (fd: number): void => {
  try {
    const found = fstatSync(fd)
    if (found.isFile() || found.isFIFO() || found.isSocket() || found.isCharacterDevice()) return
  } catch {
    // Told below: it is not open.
  }
  throw AgentError.of('file_unreadable', `nothing was opened for the program as file descriptor ${fd}`, {
    hint: `open it where the program is started: ${fd}<token.file`,
  })
}

/** Whoever hands over a token has it ready. */
const readMs = 10_000

const within = async <T>(ms: number, work: Promise<T>, where: string): Promise<T> => {
  const late = new AbortController()
  const waited = delay(ms, undefined, { signal: late.signal }).then((): never => {
    throw AgentError.of('file_unreadable', `${where} has no end: its writer keeps it open`, {
      hint: 'close it behind the token, or use --token-file (AGENTCA_TOKEN_FILE)',
    })
  })
  try {
    return await Promise.race([work, waited])
  } finally {
    late.abort()
  }
}

const readPem = (file: string, what: string): Promise<string> =>
  readText(file, 'utf8').catch(error => {
    throw AgentError.of('file_unreadable', `cannot read ${what} from ${file}: ${messageOf(error)}`, { cause: error })
  })

const certificateEvidence = async (source: {
  readonly certificateFile: string
  readonly keyFile: string
}): Promise<Evidence> => {
  const { certificateFile, keyFile } = source
  const pem = await readPem(certificateFile, 'the certificate')
  const keyPem = await readPem(keyFile, 'the private key')
  try {
    const chain = parsePem(pem.slice(pem.indexOf('-----BEGIN CERTIFICATE-----')), 'CERTIFICATE')
    const privateKey = createPrivateKey(keyPem)
    const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
    if (!equalBytes(parseCertificate(chain[0]!).spkiDer, new Uint8Array(spki)))
      throw new Error(`the key in ${keyFile} is not that of the certificate`)
    return {
      type: 'x509',
      secret: toHex(chain[0]!),
      sign: ({ csr, audience, now }) => signCertificateProof({ privateKey, csr, audience, now }, chain),
    }
  } catch (error) {
    throw AgentError.of('option_invalid', `${certificateFile} is no evidence: ${messageOf(error)}`, {
      hint: 'expected PEM: the certificate and its intermediates in one file, its private key in the other',
      cause: error,
    })
  }
}

/** Each time from the file, so that a fresh one can be put there; from a descriptor once. @throws AgentError */
export const createEvidenceReader = (source: EvidenceSource): (() => Promise<Evidence>) => {
  if ('tokenFile' in source)
    return async () =>
      parseEvidence('token', await readFrom('token', source.tokenFile, source.tokenFile), source.tokenFile)
  if ('jwtFile' in source)
    return async () => parseEvidence('jwt', await readFrom('jwt', source.jwtFile, source.jwtFile), source.jwtFile)
  if ('jwt' in source) return async () => parseEvidence('jwt', await source.jwt(), 'what the platform gave')
  if ('certificateFile' in source) return () => certificateEvidence(source)
  const { tokenFd } = source
  const where = `file descriptor ${tokenFd}`
  let read: Promise<Evidence> | null = null
  return async () => {
    if (read === null) checkReadable(tokenFd)
    // It stays open: the same number may be one of the runtime's own, and closing that would end the program.
    read ??= within(readMs, readFrom('token', tokenFd, where), where).then(text => parseEvidence('token', text, where))
    return read
  }
}
