// What an identity is made from, gathered in the order of precedence: options, then paths in the environment. Secrets come from
// files, so neither ever holds one.
import type { Log } from '../base/log.ts'
import { AgentError } from './errors.ts'
import { createEvidenceReader, type Evidence, type EvidenceSource } from './evidence.ts'
import type { AskedAccess } from './generation.ts'
import type { AgentKeyAlgorithm } from './key-pair.ts'
import { parseFingerprint, type TrustAnchors } from './trust-anchors.ts'

export interface AgentIdentityOptions {
  /** API of the CA, `https://HOST:PORT` (AGENTCA_URL). Not needed where `dir` holds a credential: it tells. */
  readonly url?: string
  /** PEM of the CA's roots (AGENTCA_CA_FILE). */
  readonly caFile?: string
  /** Instead of `caFile`: `sha256:HEX` of a root's DER. */
  readonly caFingerprint?: string
  /** Join token (AGENTCA_TOKEN_FILE). Read again each time it is needed, so that a new one can be put there. */
  readonly tokenFile?: string
  /** Instead of `tokenFile`: a file descriptor that is open for this program (AGENTCA_TOKEN_FD). Read once. */
  readonly tokenFd?: number
  /** Instead of `tokenFile`: a JWT that the platform keeps fresh there (AGENTCA_JWT_FILE). */
  readonly jwtFile?: string
  /**
   * Instead of `tokenFile`: a certificate of an authority that the CA knows, and its key (AGENTCA_EVIDENCE_CERTIFICATE, AGENTCA_EVIDENCE_KEY);
   * or a function that asks the platform for a JWT.
   */
  readonly evidence?:
    | { readonly certificateFile: string; readonly keyFile: string }
    | { readonly jwt: () => Promise<string> }
  /** `jws`: renews through proxies that end TLS, whose roots `caFile` holds beside the CA's. Nothing is heard of the feed then. */
  readonly renewBy?: 'tls' | 'jws'
  /** Credential directory (AGENTCA_DIR). Without it the identity lives in memory, and every start enrols. */
  readonly dir?: string
  /** Modes and owner of the files in `dir`; what is not given stays as the generation before has it. */
  readonly access?: Partial<AskedAccess>
  /** `feed`: hears at once that it was revoked, locked or released; `none`: at its next renewal. */
  readonly watch?: 'feed' | 'none'
  /** The identity must be this service's; anything else is refused before it is used. */
  readonly service?: string
  readonly keyAlgorithm?: AgentKeyAlgorithm
  /** How long the start may wait for a CA that cannot answer. */
  readonly patienceSeconds?: number
  readonly log?: Log
  /** Ends the start; a started identity is disposed of instead. */
  readonly signal?: AbortSignal
}

export interface Settings {
  readonly url: string | null
  readonly anchors: TrustAnchors | null
  /** Reads what to enrol with; null where none is named. */
  readonly evidence: (() => Promise<Evidence>) | null
  readonly dir: string | null
}

type Environment = Readonly<Record<string, string | undefined>>

const parseFd = (text: string): number => {
  const fd = Number(text)
  // 0 to 2 are the program's own streams; standard input is a file descriptor like another one.
  if (/^\d{1,6}$/.test(text) && fd !== 1 && fd !== 2) return fd
  throw AgentError.of('option_invalid', `expected the number of an open file descriptor, got ${text.slice(0, 20)}`, {
    hint: 'for example AGENTCA_TOKEN_FD=3 with 3<token.file behind the command',
  })
}

/** @throws AgentError `option_missing` */
const evidenceKey = ({ AGENTCA_EVIDENCE_KEY: file }: Environment): string => {
  if (file !== undefined && file !== '') return file
  throw AgentError.of('option_missing', 'AGENTCA_EVIDENCE_CERTIFICATE needs AGENTCA_EVIDENCE_KEY', {
    hint: 'the file with the private key of that certificate, PEM',
  })
}

/** Options go before the environment as one; within either, only one source may be named. */
const evidenceSource = (options: AgentIdentityOptions, env: Environment): EvidenceSource | null => {
  const given = (value: string | number | undefined): boolean => value !== undefined && value !== ''
  const { tokenFile, tokenFd, jwtFile, evidence } = options
  const own = [tokenFile, tokenFd, jwtFile].some(given)
  if (evidence !== undefined) {
    if (own) throw AgentError.of('option_invalid', 'evidence and tokenFile, tokenFd or jwtFile exclude each other')
    return evidence
  }
  const named = {
    tokenFile: own ? tokenFile : env.AGENTCA_TOKEN_FILE,
    tokenFd: own ? tokenFd?.toString() : env.AGENTCA_TOKEN_FD,
    jwtFile: own ? jwtFile : env.AGENTCA_JWT_FILE,
    certificateFile: own ? undefined : env.AGENTCA_EVIDENCE_CERTIFICATE,
  }
  const names = (Object.keys(named) as (keyof typeof named)[]).filter(name => given(named[name]))
  if (names.length > 1) throw AgentError.of('option_invalid', `${names.join(' and ')} exclude each other`)
  const [name] = names
  if (name === undefined) return null
  const value = named[name] as string
  if (name === 'tokenFd') return { tokenFd: parseFd(value) }
  if (name === 'certificateFile') return { certificateFile: value, keyFile: evidenceKey(env) }
  return name === 'tokenFile' ? { tokenFile: value } : { jwtFile: value }
}

/** @throws AgentError `option_invalid` */
export const readSettings = (options: AgentIdentityOptions, env: Environment): Settings => {
  const pick = (option: string | undefined, variable: string): string | null => {
    const value = option ?? env[variable]
    return value === undefined || value === '' ? null : value
  }
  if (options.caFile !== undefined && options.caFingerprint !== undefined)
    throw AgentError.of('option_invalid', 'caFile and caFingerprint exclude each other')
  if (options.caFingerprint !== undefined) parseFingerprint(options.caFingerprint)
  const caFile = pick(options.caFile, 'AGENTCA_CA_FILE')
  const anchors: TrustAnchors | null =
    options.caFingerprint !== undefined ? { caFingerprint: options.caFingerprint } : caFile === null ? null : { caFile }
  const source = evidenceSource(options, env)
  return {
    url: pick(options.url, 'AGENTCA_URL'),
    anchors,
    evidence: source === null ? null : createEvidenceReader(source),
    dir: pick(options.dir, 'AGENTCA_DIR'),
  }
}

export interface JoinSettings {
  readonly url: string
  readonly anchors: TrustAnchors
  readonly evidence: () => Promise<Evidence>
}

/** What enrolment needs, or a list of what is missing. @throws AgentError `option_missing` */
export const joinSettings = (settings: Settings): JoinSettings => {
  const { url, anchors, evidence, dir } = settings
  if (url !== null && anchors !== null && evidence !== null) return { url, anchors, evidence }
  const missing = [
    ...(url === null ? ['url (AGENTCA_URL)'] : []),
    ...(anchors === null ? ['caFile (AGENTCA_CA_FILE) or caFingerprint'] : []),
    ...(evidence === null
      ? [
          'tokenFile (AGENTCA_TOKEN_FILE), tokenFd (AGENTCA_TOKEN_FD), jwtFile (AGENTCA_JWT_FILE) or evidence (AGENTCA_EVIDENCE_CERTIFICATE)',
        ]
      : []),
  ]
  const looked = dir === null ? 'no credential directory is named (dir, AGENTCA_DIR)' : `${dir} holds no credential`
  throw AgentError.of('option_missing', `${looked}, and to enrol these are missing: ${missing.join('; ')}`, {
    hint: 'name them, or run: agentca enroll --url URL --ca-file FILE --token-file FILE --dir DIR',
    facts: { missing },
  })
}
