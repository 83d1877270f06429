// Reading an identity that another process renews in a credential directory: by looking at the link that says which generation
// counts. When that process is gone, whoever follows takes its place.
import type { Timing } from './backoff.ts'
import type { Credential } from './credential.ts'
import {
  type CredentialDirectory,
  openCredentialDirectory,
  presentGeneration,
  readCredentialDirectory,
} from './credential-directory.ts'
import { AgentError } from './errors.ts'
import type { AskedAccess } from './generation.ts'

/** A renewal leaves a third of the life; a few seconds of it are nothing. */
const lookEveryMs = 5000

/** What keeps a process from renewing where it may well read. */
const onlyReads: ReadonlySet<string> = new Set(['directory_in_use', 'directory_unwritable'])

/** @returns the directory for its one renewer, or why this process can only read it */
export const tryOpen = async (directory: string, access: AskedAccess): Promise<CredentialDirectory | AgentError> => {
  try {
    return await openCredentialDirectory(directory, access)
  } catch (error) {
    if (error instanceof AgentError && onlyReads.has(error.code)) return error
    throw error
  }
}

/**
 * Follows until this process becomes the renewer itself.
 * @param seen the generation that is known already; null for none
 * @param apply is told of every other one
 * @throws when aborted
 */
export const followDirectory = async (
  timing: Timing,
  { directory, access }: { readonly directory: string; readonly access: AskedAccess },
  seen: string | null,
  apply: (credential: Credential) => void,
  signal: AbortSignal,
): Promise<CredentialDirectory> => {
  let known = seen
  for (;;) {
    await timing.idle(lookEveryMs, signal)
    const opened = await tryOpen(directory, access).catch(error => error as AgentError)
    const present = await presentGeneration(directory).catch(() => known)
    if (present !== known) {
      // What cannot be read now is looked at again: the present credential still serves.
      const credential = await readCredentialDirectory(directory).catch(() => null)
      if (credential !== null) {
        known = present
        apply(credential)
      }
    }
    if (!(opened instanceof Error)) return opened
  }
}
