// The revocation lists of the CA as one PEM file for servers that read such files: asked for every second by a HEAD that costs next to
// nothing, fetched when they changed, each verified by its CA's key or left out, never backwards, and put in place by rename.
import { access, constants, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import type { Timing } from '../../agent/backoff.ts'
import { parseCertificates } from '../../agent/chain.ts'
import type { Credential } from '../../agent/credential.ts'
import { crlBundleUrl, fetchCrls, unverifiedHint } from '../../agent/crl-fetch.ts'
import { isAgentCaError, messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { createPublishedFile } from '../../base/published-file.ts'
import { type Certificate, parseCertificate } from '../../pki/certificate.ts'
import { type Crl, parseCrlInSlices } from '../../pki/crl.ts'
import { parseOnePem, parsePem } from '../../pki/pem.ts'
import { type CrlFloors, openCrlFloors } from './crl-floors.ts'
import { SidecarError } from './errors.ts'

export interface CrlFileDeps {
  readonly identity: { current(): Credential }
  readonly path: string
  readonly timing: Pick<Timing, 'clock' | 'idle' | 'random'>
  readonly log: Log
  /** After new lists are in place. */
  readonly changed: () => void
}

export interface CrlFile extends AsyncDisposable {
  /** Resolves once lists that were verified are in place. */
  ready(): Promise<void>
}

const everyMs = 1000
const headDeadlineMs = 5000
const maxBytes = 64 * 1024 * 1024

/** In slices: calls are answered in between. */
const listsOf = async (pem: string): Promise<readonly Crl[]> => {
  const lists: Crl[] = []
  for (const der of parsePem(pem, 'X509 CRL', maxBytes)) {
    const steps = parseCrlInSlices(der)
    let step = steps.next()
    for (; step.done !== true; step = steps.next()) await turn()
    lists.push(step.value)
  }
  return lists
}

/** What lies there from before; unreadable: nothing, and it is replaced. */
const listsAt = async (path: string): Promise<readonly Crl[]> => {
  try {
    return await listsOf(await readFile(path, 'utf8'))
  } catch {
    return []
  }
}

/** Lists from before their numbers were kept. What is wrong with them is no reason to take older ones, nor to stop: they are replaced. */
const rememberPlaced = async (floors: CrlFloors, lists: readonly Crl[], issuers: readonly Certificate[]) => {
  for (const list of lists)
    try {
      await floors.check([list], issuers)()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== undefined) throw error
    }
}

const tagOf = async (url: URL, signal: AbortSignal): Promise<string | null> => {
  const answer = await fetch(url, {
    method: 'HEAD',
    signal: AbortSignal.any([signal, AbortSignal.timeout(headDeadlineMs)]),
  })
  if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}`)
  return answer.headers.get('etag')
}

/** @throws SidecarError `identity_unusable` where the identity's certificate names no lists, `file_unreadable` for a place that is no good */
export const keepCrlFile = async (deps: CrlFileDeps): Promise<CrlFile> => {
  const { identity, path, timing, log } = deps
  const urlNow = (): URL | null =>
    crlBundleUrl(parseCertificate(parseOnePem(identity.current().certificatePem, 'CERTIFICATE')))
  if (urlNow() === null)
    throw new SidecarError('identity_unusable', "the sidecar's own certificate names no revocation lists", {
      hint: 'give the service a profile without noRevAvail: agentca profile list',
    })
  await access(dirname(path), constants.W_OK).catch(cause => {
    const hint = `mkdir -p ${dirname(path)}, writable for whoever runs this`
    throw new SidecarError('file_unreadable', `${path} cannot be written: ${messageOf(cause)}`, { hint, cause })
  })
  const ended = new AbortController()
  const { signal } = ended
  const file = createPublishedFile(path)
  const before = await file.read()
  const floors = await openCrlFloors(path)
  const issuersNow = (): readonly Certificate[] =>
    parseCertificates(identity.current().chainPem + identity.current().bundlePem)
  await rememberPlaced(floors, await listsAt(path), issuersNow())
  let tag: string | null = null
  let failing = false
  const waiting = Promise.withResolvers<void>()

  /** Once for each, as long as it stays so. */
  let told: readonly string[] = []
  const tellLeftOut = (names: readonly string[]): void => {
    for (const issuer of names)
      if (!told.includes(issuer))
        log.warn({ path, issuer, hint: unverifiedHint }, 'the list of a CA is left out: nobody known here signed it')
    told = names
  }

  const take = async (): Promise<void> => {
    const fetched = await fetchCrls(identity.current(), timing.clock.now(), signal, floors.issuers())
    if (fetched === null) return
    const { lists, issuers, leftOut } = fetched
    tellLeftOut(leftOut)
    const bytes = new TextEncoder().encode(fetched.pem)
    const remember = floors.check(lists, issuers)
    if (file.shows(bytes)) return
    // Before they are in place: a crash in between must not forget what readers may have seen.
    await remember()
    await file.show(bytes)
    log.info({ path, lists: lists.length, bytes: bytes.length }, 'new revocation lists are in place')
    deps.changed()
  }
  const look = async (): Promise<void> => {
    const url = urlNow()
    if (url === null) return
    const present = await tagOf(url, signal)
    if (present === null || present !== tag) await take()
    tag = present
    waiting.resolve()
  }

  const running = (async () => {
    // What lies there may have changed while nobody ran the command for it.
    if (before !== null) deps.changed()
    while (!signal.aborted) {
      try {
        await look()
        if (failing) log.info({ path }, 'revocation lists are fetched again')
        failing = false
      } catch (error) {
        if (signal.aborted) return
        const fields = { path, reason: messageOf(error), ...(isAgentCaError(error) ? { code: error.code } : {}) }
        if (!failing) log.warn(fields, 'no newer revocation lists; those in place stay')
        failing = true
      }
      await timing.idle(everyMs * (0.75 + timing.random() / 2), signal).catch(() => {})
    }
  })()
  return {
    ready: () => waiting.promise,
    [Symbol.asyncDispose]: async () => {
      ended.abort()
      await running
    },
  }
}
