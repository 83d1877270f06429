// What an identity is made from, gathered in the order of precedence: options, then paths in the environment. Secrets come from
// files, so neither ever holds one.
import { readFile } from 'node:fs/promises'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { AgentError } from './errors.ts'
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
  /** Credential directory (AGENTCA_DIR). Without it the identity lives in memory, and every start enrols. */
  readonly dir?: string
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
  readonly tokenFile: string | null
  readonly dir: string | null
}

type Environment = Readonly<Record<string, string | undefined>>

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
  return {
    url: pick(options.url, 'AGENTCA_URL'),
    anchors,
    tokenFile: pick(options.tokenFile, 'AGENTCA_TOKEN_FILE'),
    dir: pick(options.dir, 'AGENTCA_DIR'),
  }
}

/** @throws AgentError `file_unreadable` */
export const readToken = async (file: string): Promise<string> => {
  const text = await readFile(file, 'utf8').catch(error => {
    throw AgentError.of('file_unreadable', `cannot read the join token: ${messageOf(error)}`, {
      hint: 'agentca token create --agent NAME makes one',
      cause: error,
    })
  })
  const token = text.trim()
  if (/^[!-~]{1,512}$/.test(token)) return token
  throw AgentError.of('option_invalid', `${file} holds no join token: expected one line of printable characters`)
}

export interface JoinSettings {
  readonly url: string
  readonly anchors: TrustAnchors
  readonly tokenFile: string
}

/** What enrolment needs, or a list of what is missing. @throws AgentError `option_missing` */
export const joinSettings = (settings: Settings): JoinSettings => {
  const { url, anchors, tokenFile, dir } = settings
  if (url !== null && anchors !== null && tokenFile !== null) return { url, anchors, tokenFile }
  const missing = [
    ...(url === null ? ['url (AGENTCA_URL)'] : []),
    ...(anchors === null ? ['caFile (AGENTCA_CA_FILE) or caFingerprint'] : []),
    ...(tokenFile === null ? ['tokenFile (AGENTCA_TOKEN_FILE)'] : []),
  ]
  const looked = dir === null ? 'no credential directory is named (dir, AGENTCA_DIR)' : `${dir} holds no credential`
  throw AgentError.of('option_missing', `${looked}, and to enrol these are missing: ${missing.join('; ')}`, {
    hint: 'name them, or run: agentca enroll --url URL --ca-file FILE --token-file FILE --dir DIR',
    facts: { missing },
  })
}
