// The next generation of an operator's credential, by the agents' SDK: renewed while it lives, recovered afterwards where the profile
// allows that. Where neither works, a living certificate serves on, and an expired one is told with its cure.
import { systemTiming } from '../agent/backoff.ts'
import type { Credential } from '../agent/credential.ts'
import { type CredentialDirectory, openCredentialDirectory } from '../agent/credential-directory.ts'
import { AgentError, isTransient } from '../agent/errors.ts'
import { recover, renew } from '../agent/renew.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'

const never = new AbortController().signal

const isExpired = ({ notAfter }: Credential): boolean => Date.now() >= notAfter

const attempt = async (url: URL, store: CredentialDirectory): Promise<void> => {
  const present = await store.load()
  // Another command may have been faster.
  if (present === null || Date.now() < Date.parse(present.facts.renewAfter)) return
  const deps = {
    url: url.origin,
    timing: systemTiming,
    signal: never,
    store,
    keyAlgorithm: 'P-256',
    recoveryRoots: async (roots: string) => roots,
  } as const
  try {
    await (isExpired(present) ? recover(deps, present) : renew(deps, present))
  } catch (error) {
    const refused = error instanceof AgentError && error.origin === 'ca' && !isTransient(error)
    throw refused && isExpired(present) ? expired(url, store, present, error) : error
  }
}

const expired = (
  url: URL,
  { path }: CredentialDirectory,
  { notAfter, facts }: Credential,
  cause: AgentError,
): CliError =>
  new CliError(
    'credential_expired',
    `the operator certificate in ${path} ended at ${new Date(notAfter).toISOString()}: ${cause.message}`,
    {
      cause,
      hint: `let another operator run: agentca token create --operator ${facts.agent} --file FILE; then: agentca enroll --url ${url.origin} --ca-file ${path}/ca.crt --token-file FILE --dir ${path}`,
    },
  )

/** What the command itself will meet and tell, or what somebody else is doing already. */
const untold: ReadonlySet<string> = new Set(['ca_unreachable', 'ca_not_verified', 'directory_in_use'])

/** @throws CliError credential_expired */
export const renewOperatorCredential = async (io: CommandIo, url: URL, directory: string): Promise<void> => {
  try {
    await using store = await openCredentialDirectory(directory)
    await attempt(url, store)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    if (!untold.has(error.code)) io.err(`note: the operator certificate is not renewed: ${error.message}\n`)
  }
}
