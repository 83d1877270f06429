// What is left outside the ledger of what it did: published CRLs, notes of the log's checkpoints, the published state. Each is believed
// only with the CA's own signature, and only as a floor: numbers were at least so high, serials were at least revoked.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Checkpoint, originOf, verifyNote } from '../audit/checkpoint.ts'
import { toHex } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parseCrl } from '../pki/crl.ts'
import { oidOf } from '../pki/oid.ts'
import { parsePem } from '../pki/pem.ts'
import type { IssuersPort } from '../store/ports.ts'
import type { SeenRevocation } from '../store/recovery-port.ts'
import { type StateHead, verifyStateHead } from '../verify/signed-state.ts'
import { readPublishedCrl } from './published-crl.ts'

export interface OutsideIssuer {
  readonly id: number
  readonly name: string
  readonly certificate: Certificate
}

/** By whose signatures something outside is believed. */
export interface OutsideTrust {
  readonly caId: string
  readonly logOrigin: string
  readonly logKeySpki: Uint8Array
  readonly issuers: readonly OutsideIssuer[]
}

export interface Seen {
  /** Of the newest list of each issuer. */
  readonly revocations: readonly SeenRevocation[]
  readonly crlNumbers: readonly { readonly issuerId: number; readonly name: string; readonly number: bigint }[]
  /** The highest that was signed. */
  readonly auditSize: number | null
  readonly feed: { readonly epoch: string; readonly n: number } | null
  /** The newest head, and the directory of the files that it names. */
  readonly state: { readonly head: StateHead; readonly directory: string } | null
  readonly used: readonly string[]
  /** What names itself as one of these and is not to be believed. */
  readonly ignored: readonly { readonly file: string; readonly why: string }[]
}

export const outsideTrust = (
  issuers: Pick<IssuersPort, 'list'>,
  caId: string,
  logKeySpki: Uint8Array,
): OutsideTrust => ({
  caId,
  logOrigin: originOf(caId),
  logKeySpki,
  issuers: issuers
    .list()
    .map(({ id, name, certificate }) => ({ id, name, certificate: parseCertificate(certificate) })),
})

/** A list of a million entries has 40 MB. */
const maxFileBytes = 256 * 1_048_576
const maxFiles = 10_000

/** What names itself as one of those that are looked for. */
const isCrl = (file: string): boolean => /\.(crl|pem)$/.test(file)
const isHead = (file: string): boolean => /(^|\/)head$/.test(file)
const isNotes = (file: string): boolean => /(^|\/)checkpoints?[^/]*$/.test(file)

const listFiles = (path: string): readonly string[] => {
  const stat = statSync(path)
  if (stat.isFile()) return [path]
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .filter(file => isCrl(file) || isHead(file) || isNotes(file))
}

const crlsIn = (bytes: Uint8Array): readonly Uint8Array[] =>
  bytes[0] === 0x30 ? [bytes] : parsePem(Buffer.from(bytes).toString('utf8'), 'X509 CRL', maxFileBytes)

/** Notes lie one after the other, a blank line between them: a note itself has one before its signature. */
const notesIn = (text: string, origin: string): readonly string[] =>
  text
    .split(new RegExp(`(?=^${origin}$)`, 'm'))
    .map(note => `${note.trimEnd()}\n`)
    .filter(note => note.startsWith(`${origin}\n`))

interface SeenCrl {
  readonly issuer: OutsideIssuer
  readonly complete: boolean
  readonly number: bigint
  readonly thisUpdate: number
  readonly der: Uint8Array
}

interface Gathered {
  /** The newest of each issuer and scope. */
  readonly crls: Map<string, SeenCrl>
  readonly checkpoints: Checkpoint[]
  readonly heads: { readonly head: StateHead; readonly directory: string }[]
}

const takeCrl = (der: Uint8Array, trust: OutsideTrust, { crls }: Gathered): void => {
  const crl = parseCrl(der)
  const issuer = trust.issuers.find(({ certificate }) => toHex(certificate.subjectDer) === toHex(crl.issuerName))
  if (issuer === undefined) throw new Error('a list of no CA that the backup knows')
  const { number, thisUpdate } = readPublishedCrl(
    { ...issuer, ca: issuer.certificate, shard: null, distributionPoint: 'any' },
    der,
  )
  // Each scope has numbers of its own; what a shard shows as revoked is revoked.
  const scope = crl.extensions.find(({ oid }) => oid === oidOf.issuingDistributionPoint)
  const key = `${issuer.id}/${scope === undefined ? '' : toHex(scope.value)}`
  const known = crls.get(key)
  if (known === undefined || known.number < number)
    crls.set(key, { issuer, number, thisUpdate, der, complete: crl.distributionPoint === null })
}

/** @returns whether it is one of those that are looked for @throws why it is not to be believed */
const take = (file: string, trust: OutsideTrust, gathered: Gathered): boolean => {
  const { size } = statSync(file)
  if (size === 0) return false
  if (size > maxFileBytes) throw new Error(`larger than ${maxFileBytes} bytes`)
  if (isCrl(file)) {
    const crls = crlsIn(readFileSync(file))
    for (const der of crls) takeCrl(der, trust, gathered)
    return crls.length > 0
  }
  if (isHead(file)) {
    const json = readFileSync(`${file}.json`, 'utf8')
    const { caId, logKeySpki } = trust
    const any = { caId, logKeySpki, notOlderThan: null, now: null }
    const head = verifyStateHead(readFileSync(file, 'utf8'), json, any)
    gathered.heads.push({ head, directory: dirname(file) })
    return true
  }
  if (!isNotes(file)) return false
  const notes = notesIn(readFileSync(file, 'utf8'), trust.logOrigin)
  for (const note of notes)
    gathered.checkpoints.push(verifyNote(note, { origin: trust.logOrigin, spki: trust.logKeySpki }))
  return notes.length > 0
}

const revocationsOf = (issuer: OutsideIssuer, der: Uint8Array): readonly SeenRevocation[] =>
  [...parseCrl(der).entries()].map(({ serial, reason, revokedAt }) => ({
    issuerId: issuer.id,
    serial: toHex(serial),
    reason,
    revokedAt,
    // When the certificate itself ends is not on the list; it cannot outlive its issuer.
    until: issuer.certificate.notAfter,
  }))

/** Each serial once. What an older shard shows and a newer complete list does not has been released, or has ended. */
const revocationsIn = (lists: readonly SeenCrl[]): readonly SeenRevocation[] => {
  const complete = new Map(lists.filter(list => list.complete).map(list => [list.issuer.id, list]))
  const seen = new Map<string, SeenRevocation>()
  for (const list of lists) {
    const whole = complete.get(list.issuer.id)
    if (whole !== undefined && list.thisUpdate < whole.thisUpdate) continue
    for (const each of revocationsOf(list.issuer, list.der)) seen.set(`${each.issuerId}/${each.serial}`, each)
  }
  return [...seen.values()]
}

/**
 * @param paths files, or directories to look through: `*.crl`, `*.pem`, `head` with `head.json`, `checkpoints*`
 * @throws the error of the file system for a path that is not there
 */
export const lookOutside = (paths: readonly string[], trust: OutsideTrust): Seen => {
  const gathered: Gathered = { crls: new Map(), checkpoints: [], heads: [] }
  const used: string[] = []
  const ignored: { file: string; why: string }[] = []
  const files = paths.flatMap(listFiles)
  // An operator must know that a revocation may lie in what was not looked at.
  for (const file of files.slice(maxFiles)) ignored.push({ file, why: `one of more than ${maxFiles} files` })
  for (const file of files.slice(0, maxFiles))
    try {
      if (take(file, trust, gathered)) used.push(file)
    } catch (error) {
      ignored.push({ file, why: messageOf(error) })
    }
  const lists = [...gathered.crls.values()]
  const state = gathered.heads.toSorted((a, b) => b.head.at - a.head.at)[0] ?? null
  return {
    revocations: revocationsIn(lists),
    crlNumbers: lists
      .filter(({ complete }) => complete)
      .map(({ issuer: { id, name }, number }) => ({ issuerId: id, name, number })),
    auditSize: gathered.checkpoints.length === 0 ? null : Math.max(...gathered.checkpoints.map(({ size }) => size)),
    feed: state === null ? null : { epoch: state.head.epoch, n: state.head.n },
    state,
    used,
    ignored,
  }
}
