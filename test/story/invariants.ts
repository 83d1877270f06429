// What must hold of a CA whatever happened to it, judged from outside: what clients, operators and relying parties were told on one
// side (evidence), the bytes of the ledger's file, read by plain SQL, on the other. Each rule says what breaks it.
import { createHash } from 'node:crypto'
import Database from 'better-sqlite3'
import { verifyLog } from '../../src/audit/verify-log.ts'
import { equalBytes, toHex } from '../../src/base/bytes.ts'
import { type Certificate, parseCertificate } from '../../src/pki/certificate.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { serialHex } from '../../src/pki/serial.ts'
import { verifySignature } from '../../src/pki/signature.ts'
import type { Leaf } from '../../src/store/records.ts'
import { leafFromStored } from '../../src/store/sqlite/leaf-codec.ts'
import { createTbsCodec } from '../../src/store/sqlite/tbs-codec.ts'
import { type Ordered, type OrdersView, orders, readOrders } from './order-invariants.ts'
import { idText } from './stored-ids.ts'

export interface Received {
  readonly der: Uint8Array
  /** Of its enrolment; null for what was renewed. */
  readonly tokenId: string | null
}

/** A revocation whose answer reached its operator. */
export interface Acknowledged {
  readonly by: 'serial' | 'instance' | 'agent'
  readonly value: string
  readonly serials: readonly string[]
  readonly feed: { readonly epoch: string; readonly n: number }
}

/** Everything that anybody outside was told, in the order in which it came. */
export interface Evidence {
  readonly received: Received[]
  readonly tokens: Map<string, { readonly uses: number }>
  readonly ordered: Ordered[]
  readonly acknowledged: Acknowledged[]
  /** Bytes of each list that was seen, once for each time it followed another one. */
  readonly crls: Uint8Array[]
  readonly checkpoints: Set<string>
}

export const noEvidence = (): Evidence => ({
  received: [],
  tokens: new Map(),
  ordered: [],
  acknowledged: [],
  crls: [],
  checkpoints: new Set(),
})

/** Who made the lists and the log: known beforehand, never taken from what is judged. */
export interface Trusted {
  readonly issuing: Certificate
  readonly log: { readonly origin: string; readonly spki: Uint8Array }
}

const stateNames = ['intent', 'issued', 'held', 'revoked', 'orphaned', 'void'] as const
export type StateName = (typeof stateNames)[number]

interface CertificateRow {
  readonly row: number
  readonly serial: string
  readonly state: StateName
  readonly instance: string
  readonly predecessor: number | null
  readonly generation: number
  readonly replaced: number
  readonly token: string | null
  readonly key: string
  readonly issued_at: number | null
  readonly not_after: number
  readonly tbs: Uint8Array
  readonly signature: Uint8Array
}

interface TokenRow {
  readonly id: string
  readonly uses: number
  readonly taken: number
  readonly counted: number
}

export interface LedgerView {
  readonly certificates: readonly CertificateRow[]
  readonly bySerial: ReadonlyMap<string, CertificateRow>
  /** Serials that CRL and OCSP show, by the ledger's own list. */
  readonly listed: ReadonlySet<string>
  readonly tokens: ReadonlyMap<string, TokenRow>
  readonly instances: ReadonlyMap<string, 'active' | 'locked' | 'revoked'>
  /** Number and SHA-256 of each list, of every issuer: two of them may have one number. */
  readonly crls: ReadonlySet<string>
  readonly leaves: readonly Leaf[]
  readonly contents: readonly Readonly<Record<string, unknown>>[]
  readonly feed: readonly {
    readonly n: number
    readonly type: string
    readonly body: Readonly<Record<string, unknown>>
  }[]
  readonly feedHead: { readonly epoch: string; readonly n: number }
  readonly checkpoints: readonly string[]
  readonly acme: OrdersView
}

/** Reads everything in one transaction; the server may be running. */
export const readLedger = (file: string): LedgerView => {
  const db = new Database(file, { readonly: true })
  try {
    return db.transaction(() => viewOf(db))()
  } finally {
    db.close()
  }
}

interface StoredRow extends Omit<CertificateRow, 'state'> {
  readonly state: number
  readonly serialBlob: Uint8Array
  readonly notBefore: number
  readonly version: number
  readonly template: number | null
  readonly name: string
}

/** @returns the to-be-signed bytes of a row, whether it has them or a template does */
const tbsOf = (db: Database.Database) => {
  const get = <Row>(sql: string, ...values: unknown[]) => db.prepare(sql).get(...values) as Row | undefined
  const written = (): never => {
    throw new Error('nothing is written here')
  }
  const codec = createTbsCodec({ get, run: written, onForget: () => {} })
  return (row: StoredRow): Uint8Array => {
    const { name, instance: instanceId, notBefore, not_after: notAfter, version: registrationVersion } = row
    const facts = { serial: row.serialBlob, name, instanceId, notBefore, notAfter, registrationVersion }
    return codec.whole({ template: row.template, bytes: row.tbs }, facts)
  }
}

const viewOf = (db: Database.Database): LedgerView => {
  const wholeTbs = tbsOf(db)
  const all = <Row>(sql: string): Row[] => db.prepare(sql).all() as Row[]
  const counter = <T>(name: string): T =>
    (db.prepare('SELECT value FROM counter WHERE name = ?').get(name) as { value: T }).value
  const certificates = all<StoredRow>(
    `SELECT c.row, lower(hex(c.serial)) AS serial, c.state, ${idText('i.id')} AS instance, c.predecessor, c.generation, c.replaced, ${idText('t.id')} AS token,
       lower(hex(c.key_hash)) AS key, c.issued_at, c.not_after, c.tbs, c.signature,
       c.serial AS serialBlob, c.not_before AS notBefore, c.registration_version AS version, c.template,
       (SELECT name FROM registration r WHERE r.id = c.registration_id) AS name
     FROM certificate c JOIN instance i ON i.seq = c.instance LEFT JOIN token t ON t.seq = c.token ORDER BY c.row`,
  ).map(row => ({ ...row, state: stateNames[row.state]!, tbs: wholeTbs(row) }))
  const words = { text: (id: number) => String(db.prepare('SELECT text FROM word WHERE id = ?').pluck().get(id)) }
  const leaves = all<Leaf>(
    `SELECT l.idx AS "index", e.text AS event, l.at, s.text AS subject, l.bytes, l.head
     FROM audit_leaf l JOIN word e ON e.id = l.event LEFT JOIN word s ON s.id = l.subject ORDER BY l.idx`,
  ).map(leaf => ({ ...leaf, bytes: leafFromStored(leaf.bytes, leaf, words) }))
  const tokens = all<TokenRow>(
    `SELECT ${idText('t.id')} AS id, t.uses, t.uses_taken AS taken,
       (SELECT count(*) FROM token_use u WHERE u.token = t.seq AND u.counted = 1) AS counted FROM token t`,
  )
  return {
    certificates,
    bySerial: new Map(certificates.map(row => [row.serial, row])),
    listed: new Set(
      all<{ serial: string }>('SELECT lower(hex(serial)) AS serial FROM revocation WHERE listed = 1').map(
        row => row.serial,
      ),
    ),
    tokens: new Map(tokens.map(row => [row.id, row])),
    instances: new Map(
      all<{ id: string; state: number }>(`SELECT ${idText('id')} AS id, state FROM instance`).map(row => [
        row.id,
        (['active', 'locked', 'revoked'] as const)[row.state]!,
      ]),
    ),
    crls: new Set(
      all<{ number: string; sha256: string }>(
        'SELECT CAST(number AS TEXT) AS number, lower(hex(sha256)) AS sha256 FROM crl',
      ).map(row => `${row.number} ${row.sha256}`),
    ),
    leaves,
    contents: leaves.map(leaf => JSON.parse(new TextDecoder().decode(leaf.bytes)) as Record<string, unknown>),
    feed: all<{ n: number; type: string; body: string }>('SELECT n, type, body FROM feed ORDER BY n').map(row => ({
      ...row,
      body: JSON.parse(row.body) as Record<string, unknown>,
    })),
    feedHead: { epoch: counter<string>('feed_epoch'), n: counter<number>('feed_n') },
    checkpoints: all<{ note: string }>('SELECT note FROM checkpoint').map(row => row.note),
    acme: readOrders(db),
  }
}

export interface Judged {
  readonly ledger: LedgerView
  readonly evidence: Evidence
  readonly trusted: Trusted
}

type Rule = (judged: Judged) => Iterable<string> | AsyncIterable<string>

/** A long story judges the same certificates again and again. */
const parsed = new WeakMap<Uint8Array, Certificate>()
const certificateOf = (der: Uint8Array): Certificate => {
  const certificate = parsed.get(der) ?? parseCertificate(der)
  parsed.set(der, certificate)
  return certificate
}

const sha256 = (bytes: Uint8Array): string => toHex(createHash('sha256').update(bytes).digest())

function* received({ ledger, evidence }: Judged): Iterable<string> {
  for (const { der, tokenId } of evidence.received) {
    const certificate = certificateOf(der)
    const { serialHex: serial } = certificate
    const row = ledger.bySerial.get(serial)
    if (row === undefined) yield `${serial} was received and is not recorded`
    else {
      if (!equalBytes(row.tbs, certificate.tbs) || !equalBytes(row.signature, certificate.signature))
        yield `${serial} was received with other bytes than were recorded`
      if (row.issued_at === null) yield `${serial} was received and is recorded as ${row.state}, never issued`
      if (['intent', 'orphaned', 'void'].includes(row.state)) yield `${serial} was received and is ${row.state}`
      if (tokenId !== null && row.token !== tokenId) yield `${serial} was received for another token than is recorded`
    }
  }
}

function* serials({ ledger, evidence }: Judged): Iterable<string> {
  if (ledger.bySerial.size !== ledger.certificates.length) yield 'two rows have one serial'
  const seen = new Map<string, string>()
  for (const { der } of evidence.received) {
    const serial = certificateOf(der).serialHex
    const hash = sha256(der)
    if ((seen.get(serial) ?? hash) !== hash) yield `${serial} was received with two different contents`
    seen.set(serial, hash)
  }
}

function* tokens({ ledger, evidence }: Judged): Iterable<string> {
  const keys = new Map<string, Set<string>>()
  for (const { der, tokenId } of evidence.received)
    if (tokenId !== null) keys.set(tokenId, (keys.get(tokenId) ?? new Set()).add(sha256(certificateOf(der).spkiDer)))
  const instances = new Map<string, Set<string>>()
  for (const { token, instance, issued_at } of ledger.certificates)
    if (token !== null && issued_at !== null) instances.set(token, (instances.get(token) ?? new Set()).add(instance))
  for (const [id, { uses }] of evidence.tokens) {
    const row = ledger.tokens.get(id)
    if (row === undefined) {
      yield `token ${id} is gone`
      continue
    }
    const found = {
      taken: row.taken,
      counted: row.counted,
      keys: keys.get(id)?.size ?? 0,
      lineages: instances.get(id)?.size ?? 0,
    }
    for (const [what, count] of Object.entries(found))
      if (count > uses) yield `token ${id} allows ${uses} uses, ${what}: ${count}`
    if (row.taken !== row.counted) yield `token ${id}: ${row.taken} uses taken, ${row.counted} claims`
  }
}

function* revocations({ ledger, evidence }: Judged): Iterable<string> {
  for (const { by, value, serials: hit, feed } of evidence.acknowledged) {
    for (const serial of hit) {
      if (ledger.bySerial.get(serial)?.state !== 'revoked')
        yield `${serial} was acknowledged as revoked by ${by} ${value}, it is ${ledger.bySerial.get(serial)?.state}`
      if (!ledger.listed.has(serial)) yield `${serial} was acknowledged as revoked and is on no list`
    }
    if (by === 'instance' && ledger.instances.get(value) !== 'revoked') yield `instance ${value} is not revoked`
    const entry = ledger.feed.find(({ n }) => n === feed.n)
    if (
      feed.epoch !== ledger.feedHead.epoch ||
      entry?.type !== 'revoke' ||
      entry.body.by !== by ||
      entry.body.value !== value
    )
      yield `feed ${feed.n} does not tell of the revocation of ${by} ${value}`
  }
}

/** By the state table: what is not issued and not simply unknown is listed, and nothing else is. */
function* lists({ ledger }: Judged): Iterable<string> {
  for (const { serial, state } of ledger.certificates) {
    const wanted = state === 'revoked' || state === 'held' || state === 'orphaned'
    if (ledger.listed.has(serial) !== wanted) yield `${serial} is ${state} and ${wanted ? 'not ' : ''}listed`
  }
}

function* crls({ ledger, evidence, trusted: { issuing } }: Judged): Iterable<string> {
  let last = -1n
  for (const der of evidence.crls) {
    const crl = parseCrl(der)
    const number = crl.crlNumber ?? -1n
    if (!verifySignature(issuing.spki, crl.signatureAlgorithm, crl.tbs, crl.signature))
      yield `list ${number} is not signed by its CA`
    if (number <= last) yield `list ${number} was seen after ${last}`
    last = number
    if (!ledger.crls.has(`${number} ${sha256(der)}`)) yield `list ${number} was seen and is not what was recorded`
  }
}

async function* log({ ledger, evidence, trusted }: Judged): AsyncIterable<string> {
  const checkpoints = [...new Set([...ledger.checkpoints, ...evidence.checkpoints])]
  const verdict = await verifyLog({ leaves: ledger.leaves, checkpoints, log: trusted.log })
  for (const { kind, index, detail } of verdict.findings) yield `log: ${kind} at ${index}: ${detail}`
  if (ledger.contents.some(({ event }) => event === 'signer_counts_mismatch'))
    yield 'the signer counted other signatures'
}

/** Step 4 before step 6, each once, and each about the very bytes. */
function* steps({ ledger, evidence }: Judged): Iterable<string> {
  const intents = new Map<string, number>()
  const issued = new Map<string, string>()
  for (const [index, { event, serial, tbs, sha256: hash }] of ledger.contents.entries()) {
    if (typeof serial !== 'string') continue
    const row = ledger.bySerial.get(serial)
    if (event === 'intent_recorded') {
      if (intents.has(serial)) yield `${serial} has two intents in the log`
      intents.set(serial, index)
      if (row === undefined || tbs !== sha256(row.tbs))
        yield `the intent of ${serial} in the log is not what was recorded`
    } else if (event === 'certificate_issued') {
      if (!intents.has(serial)) yield `${serial} was issued without an intent before`
      if (issued.has(serial)) yield `${serial} was issued twice`
      issued.set(serial, String(hash))
      if (row?.issued_at == null) yield `${serial} is issued in the log only`
    }
  }
  for (const { serial, issued_at } of ledger.certificates) {
    if (!intents.has(serial)) yield `${serial} is not in the log`
    if (issued_at !== null && !issued.has(serial)) yield `${serial} is issued and the log does not say so`
  }
  for (const { der } of evidence.received) {
    const { serialHex: serial } = certificateOf(der)
    if (issued.get(serial) !== sha256(der)) yield `${serial} was received with other bytes than the log has`
  }
}

function* feed({ ledger }: Judged): Iterable<string> {
  for (const [at, { n }] of ledger.feed.entries()) if (n !== at + 1) yield `feed entry ${at + 1} has number ${n}`
  if (ledger.feedHead.n !== ledger.feed.length)
    yield `the feed has ${ledger.feed.length} entries, its head is ${ledger.feedHead.n}`
}

/** Nobody here cheats, so nobody is locked; a predecessor has one live successor, one generation on. */
function* lineages({ ledger }: Judged): Iterable<string> {
  const byRow = new Map(ledger.certificates.map(row => [row.row, row]))
  const successors = new Set<number>()
  for (const [id, state] of ledger.instances) if (state === 'locked') yield `instance ${id} is locked`
  for (const { serial, issued_at, predecessor, generation, instance, replaced } of ledger.certificates) {
    if (issued_at === null || predecessor === null) continue
    const before = byRow.get(predecessor)
    if (before?.generation !== generation - 1 || before.instance !== instance) yield `${serial} continues nothing`
    if (replaced === 0 && successors.has(predecessor)) yield `${before?.serial} has two successors`
    successors.add(predecessor)
  }
}

/** Once every client was answered. */
function* decided({ ledger }: Judged): Iterable<string> {
  for (const { serial, state } of ledger.certificates) if (state === 'intent') yield `${serial} is still an intent`
}

export const rules = {
  received,
  serials,
  tokens,
  revocations,
  lists,
  crls,
  log,
  steps,
  feed,
  lineages,
  orders,
  decided,
} as const satisfies Readonly<Record<string, Rule>>

/** What a relying party sees of the newest list: exactly what the ledger lists, as long as it has not expired. */
export function* newestList(ledger: LedgerView, der: Uint8Array, now: number): Iterable<string> {
  const shown = new Set([...parseCrl(der).entries()].map(entry => serialHex(entry.serial)))
  for (const { serial, not_after } of ledger.certificates)
    if (not_after > now && ledger.listed.has(serial) !== shown.has(serial))
      yield `${serial} is ${shown.has(serial) ? '' : 'not '}on the newest list`
}

/** @returns every violation, each with the name of its rule; empty when all is well */
export const findViolations = async (judged: Judged): Promise<readonly string[]> => {
  const found: string[] = []
  for (const [name, rule] of Object.entries(rules) as [string, Rule][])
    for await (const violation of rule(judged)) found.push(`${name}: ${violation}`)
  return found
}

/** Everything as of now, while more evidence may come in. @returns as `findViolations` */
export const checkInvariants = (database: string, evidence: Evidence, trusted: Trusted): Promise<readonly string[]> => {
  const told = {
    received: [...evidence.received],
    tokens: new Map(evidence.tokens),
    ordered: [...evidence.ordered],
    acknowledged: [...evidence.acknowledged],
    crls: [...evidence.crls],
    checkpoints: new Set(evidence.checkpoints),
  }
  return findViolations({ ledger: readLedger(database), evidence: told, trusted })
}
