// `crl.pem` of a credential directory, kept as fresh as the identity: fetched after each renewal, after each change of what the CA thinks of
// it, and long before its lists end.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { silentLog } from '../base/log.ts'
import type { Credential } from './credential.ts'
import type { CredentialDirectory } from './credential-directory.ts'
import { fetchCrls, unverifiedHint } from './crl-fetch.ts'
import type { Parts } from './obtain.ts'

export interface RefreshedCrls {
  /** Whether `crl.pem` has other lists now. */
  readonly changed: boolean
  /** When the first of them ends; null: there are none that end. */
  readonly nextUpdate: number | null
}

/**
 * Programs that check revocation by these files would rather have none than an old one.
 * @returns null when it could not be done, which is in the log
 */
export const refreshCrls = async (
  parts: Parts,
  directory: CredentialDirectory,
  credential: Credential,
): Promise<RefreshedCrls | null> => {
  const log = parts.options.log ?? silentLog
  try {
    const fetched = await fetchCrls(credential, parts.timing.clock.now(), parts.signal)
    if (fetched === null) return { changed: false, nextUpdate: null }
    for (const issuer of fetched.leftOut) log.warn({ issuer, hint: unverifiedHint }, 'a revocation list is left out')
    const ends = fetched.lists.map(({ nextUpdate }) => nextUpdate).filter(end => end !== null)
    const before = await readFile(join(directory.path, 'crl.pem'), 'utf8').catch(() => null)
    const changed = before !== fetched.pem
    if (changed) await directory.saveCrls(fetched.pem)
    return { changed, nextUpdate: ends.length === 0 ? null : Math.min(...ends) }
  } catch (error) {
    if (!parts.signal.aborted) log.warn({ err: error }, 'crl.pem stays as it is')
    return null
  }
}

export interface KeptCrls {
  /** Now, or as soon as the present attempt is over. */
  refresh(): void
  /** Resolves once nothing is written any more, after the signal. */
  readonly ended: Promise<void>
}

const againMs = 60_000
const longestMs = 12 * 3_600_000

/** At half of what is left of their life, so that many attempts may fail. */
const pauseAfter = (outcome: RefreshedCrls | null, now: number, random: number): number => {
  if (outcome === null) return againMs * (0.5 + random)
  if (outcome.nextUpdate === null) return longestMs
  return Math.min(longestMs, Math.max(againMs, ((outcome.nextUpdate - now) / 2) * (0.8 + 0.2 * random)))
}

/** Until the signal of `parts`. @param changed after `crl.pem` has other lists */
export const keepCrls = (
  parts: Parts,
  directory: CredentialDirectory,
  current: () => Credential,
  changed: () => void,
): KeptCrls => {
  const { timing, signal } = parts
  // Owned by this closure; another one for each attempt, so that what is asked for meanwhile is done after it.
  let asked = new AbortController()
  const keep = async (): Promise<void> => {
    while (!signal.aborted) {
      asked = new AbortController()
      const outcome = await refreshCrls(parts, directory, current())
      if (outcome?.changed === true) changed()
      const pause = pauseAfter(outcome, timing.clock.now(), timing.random())
      await timing.idle(pause, AbortSignal.any([signal, asked.signal])).catch(() => {})
    }
  }
  return { refresh: () => asked.abort(), ended: keep() }
}
