// The credential directory of an operator, as a command uses it: one generation, renewed by the way when it is due, so that nobody who
// works now and then has to think of it.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parseOnePem } from '../pki/pem.ts'
import { principalOf } from '../pki/spiffe.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'

export interface OperatorCredential {
  /** Key, leaf and intermediates, as `agentca enroll` writes them. */
  readonly bundle: string
  readonly roots: string
  readonly leaf: Certificate
}

/** @throws CliError file_unreadable */
export const readOperatorCredential = (directory: string): OperatorCredential => {
  const read = (name: string): string => {
    try {
      return readFileSync(join(directory, name), 'utf8')
    } catch (error) {
      throw new CliError('file_unreadable', `no operator credential in ${directory}: ${messageOf(error)}`, {
        hint: 'agentca enroll --help: a token for an operator gives a credential directory',
      })
    }
  }
  // Opened once, so that a renewal in between never gives a key with another's certificate.
  const bundle = read('credential-bundle.pem')
  const first = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(bundle)?.[0]
  if (first === undefined)
    throw new CliError('file_unreadable', `${directory}/credential-bundle.pem holds no certificate`)
  return { bundle, roots: read('ca.crt'), leaf: parseCertificate(parseOnePem(first, 'CERTIFICATE')) }
}

/** Agents and services look after theirs. */
const isOperators = ({ leaf }: OperatorCredential): boolean =>
  leaf.spiffeId !== null && principalOf(leaf.spiffeId)?.kind === 'operator'

/** Directories that were put together by hand have no `identity.json`, and are nobody's to renew. */
const isDue = (directory: string, now: number): boolean => {
  const file = join(directory, 'identity.json')
  if (!existsSync(file)) return false
  try {
    const { renewAfter } = JSON.parse(readFileSync(file, 'utf8')) as { readonly renewAfter?: unknown }
    return typeof renewAfter === 'string' && now >= Date.parse(renewAfter)
  } catch {
    return false
  }
}

/**
 * What to show to the CA at this URL: the credential that was read, or its next generation.
 * @throws CliError credential_expired
 */
export const freshOperatorCredential = async (
  io: CommandIo,
  url: URL,
  directory: string,
  present: OperatorCredential,
): Promise<OperatorCredential> => {
  if (!isOperators(present) || !isDue(directory, Date.now())) return present
  // The SDK takes longer to load than most commands to run, and is needed once in half a life.
  const { renewOperatorCredential } = await import('./operator-renewal.ts')
  await renewOperatorCredential(io, url, directory)
  return readOperatorCredential(directory)
}
