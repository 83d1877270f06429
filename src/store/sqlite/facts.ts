// Reads everything a decision about one issuance may look at: point look-ups only. Deciding is the authority's. The rows themselves stay
// in the store: in the same transaction, recording need not look them up again.
import type { IssuanceFacts, IssuanceQuery } from '../ports.ts'
import type { CertificateRecord, SeenKey } from '../records.ts'
import * as codes from './codes.ts'
import type { Connection } from './connection.ts'
import type { KnownTokens } from './known-tokens.ts'
import { pastKeyOctets } from './pruning.ts'
import { type Registered, type RegistrationMemory, registeredOf } from './registration-memory.ts'
import * as rows from './rows.ts'
import type { Words } from './words.ts'

interface Origin {
  readonly registrationId: number | null
  readonly token: rows.TokenRow | null
  readonly use: { readonly certificate: number; readonly counted: number } | null
  readonly presented: rows.CertificateRow | null
  /** Of an ACME account: its instance, and what its order has so far. */
  readonly account?: { readonly instance: number; readonly ordered: rows.CertificateRow | null }
}

const nobody: Origin = { registrationId: null, token: null, use: null, presented: null }

/** Where the facts were found; true until the transaction changes something. */
export interface FoundRows {
  readonly query: IssuanceQuery
  readonly token: rows.TokenRow | null
  /** What the query's key has claimed of that token. */
  readonly use: Origin['use']
  readonly instance: rows.InstanceRow | undefined
  readonly presented: { readonly serial: string; readonly row: number } | null
  readonly head: { readonly serial: string; readonly row: number } | null
}

const placeOf = (row: rows.CertificateRow | null | undefined, record: CertificateRecord | null): FoundRows['head'] =>
  row == null || record === null ? null : { serial: record.serial, row: row.row }

export interface FactSources {
  readonly db: Connection
  readonly words: Words
  readonly registered: RegistrationMemory
  readonly tokens: KnownTokens
}

export const readFacts = (
  { db, words, registered: memory, tokens }: FactSources,
  query: IssuanceQuery,
): { readonly facts: IssuanceFacts; readonly found: FoundRows } => {
  const keyHash = codes.soughtBlob(query.keyHash)
  const origin = originOf({ db, tokens }, query, keyHash)
  const registered = registeredFor({ db, memory }, query, origin)
  const registration = registered?.registration ?? null
  const claim = claimOf(db, query, origin)
  const key = keyFactsOf(db, keyHash)
  const { seen } = key
  const lineage =
    origin.account?.instance ?? origin.presented?.instance ?? claim.instance ?? ownKeyOf(query, registration, seen)
  const instance = lineage === null ? undefined : rows.instanceRowBySeq(db, lineage)
  const headRow = instance?.head ?? null
  // What renews is nearly always the head itself: read, and made a record of, once.
  const isHead = headRow !== null && origin.presented?.row === headRow
  const head = isHead ? origin.presented : headRow === null ? null : rows.certificateByRow(db, headRow)
  const record = (row: rows.CertificateRow | null | undefined): CertificateRecord | null =>
    row == null ? null : rows.certificateOf(words, row)
  const presented = record(origin.presented)
  const newest = isHead ? presented : record(head)
  const facts = new ReadFacts(
    db,
    query,
    {
      registration,
      owner: registered?.owner ?? null,
      token: origin.token === null ? null : rows.tokenOf(words, origin.token),
      tokenUse: claim.tokenUse,
      presented,
      instance: instance === undefined ? null : rows.instanceOf(instance),
      head: newest,
      ordered: origin.account === undefined ? undefined : record(origin.account.ordered),
      replacements: origin.presented === null ? 0 : replacementsOf(db, origin.presented.row),
      keySeenWith: seen?.key ?? (key.ofIssuer ? 'issuer' : null),
      keyRevoked: key.revoked,
    },
    instance?.seq ?? null,
  )
  const found: FoundRows = {
    query,
    token: origin.token,
    use: origin.use,
    instance,
    presented: placeOf(origin.presented, presented),
    head: placeOf(head, newest),
  }
  return { facts, found }
}

/** Counts are read when asked for: their cost grows with the fleet, and only a profile with a limit looks. */
class ReadFacts implements IssuanceFacts {
  readonly registration: IssuanceFacts['registration']
  readonly owner: IssuanceFacts['owner']
  readonly token: IssuanceFacts['token']
  readonly tokenUse: IssuanceFacts['tokenUse']
  readonly presented: IssuanceFacts['presented']
  readonly instance: IssuanceFacts['instance']
  readonly head: IssuanceFacts['head']
  readonly ordered: IssuanceFacts['ordered']
  readonly replacements: number
  readonly keySeenWith: IssuanceFacts['keySeenWith']
  readonly keyRevoked: boolean
  readonly #db: Connection
  readonly #now: number
  readonly #lineage: number | null
  #live: number | null = null
  #liveBefore: number | null = null

  constructor(
    db: Connection,
    { now }: IssuanceQuery,
    read: Omit<IssuanceFacts, 'liveInstances' | 'liveInstancesBefore'>,
    lineage: number | null,
  ) {
    this.registration = read.registration
    this.owner = read.owner
    this.token = read.token
    this.tokenUse = read.tokenUse
    this.presented = read.presented
    this.instance = read.instance
    this.head = read.head
    this.ordered = read.ordered
    this.replacements = read.replacements
    this.keySeenWith = read.keySeenWith
    this.keyRevoked = read.keyRevoked
    this.#db = db
    this.#now = now
    this.#lineage = lineage
  }

  get liveInstances(): number {
    const { registration } = this
    this.#live ??= registration === null ? 0 : liveInstances(this.#db, registration.id, this.#now)
    return this.#live
  }

  get liveInstancesBefore(): number {
    const { registration } = this
    this.#liveBefore ??=
      registration === null || this.#lineage === null
        ? 0
        : liveInstances(this.#db, registration.id, this.#now, this.#lineage)
    return this.#liveBefore
  }
}

const registeredFor = (
  { db, memory }: { readonly db: Connection; readonly memory: RegistrationMemory },
  { evidence }: IssuanceQuery,
  { registrationId }: Origin,
): Registered | null => {
  if (evidence.kind === 'registration')
    return registeredOf(rows.registrationRowByName(db, evidence.subject, evidence.name))
  return registrationId === null ? null : memory.byId(registrationId)
}

const originOf = (
  { db, tokens }: Pick<FactSources, 'db' | 'tokens'>,
  query: IssuanceQuery,
  keyHash: Uint8Array,
): Origin => {
  const { evidence } = query
  if (evidence.kind === 'registration') return nobody
  if (evidence.kind === 'account') return originOfAccount(db, evidence)
  if (evidence.kind === 'token') {
    const shown = tokens.byHashAndKey(evidence.tokenHash, keyHash)
    return { ...nobody, registrationId: shown.token?.registration_id ?? null, ...shown }
  }
  const presented =
    evidence.kind === 'renewal'
      ? rows.certificateBySerial(db, evidence.presentedSerial)
      : newestOfKey(db, codes.soughtBlob(evidence.provedKeyHash))
  if (presented === undefined) return nobody
  // Whose it is says the proved key; a token of somebody else's is for the decision to refuse.
  const beside = evidence.kind === 'recovery' ? evidence.tokenHash : null
  const shown = beside === null ? null : tokens.byHashAndKey(beside, keyHash)
  return { ...nobody, ...shown, registrationId: presented.registration_id, presented }
}

const selectAccount = `SELECT i.seq, i.registration_id, o.certificate FROM instance i
   JOIN acme_account a ON a.instance = i.seq JOIN acme_order o ON o.account = i.seq WHERE i.seq = +? AND o.id = +?`

const originOfAccount = (db: Connection, evidence: { accountId: string; orderId: string }): Origin => {
  const found = db.get<{ seq: number; registration_id: number; certificate: Uint8Array | null }>(
    selectAccount,
    rows.instanceSeq(db, evidence.accountId),
    evidence.orderId,
  )
  if (found === undefined) return nobody
  const serial = found.certificate === null ? null : codes.hexOf(found.certificate)
  const ordered = serial === null ? null : (rows.certificateBySerial(db, serial) ?? null)
  return { ...nobody, registrationId: found.registration_id, account: { instance: found.seq, ordered } }
}

const selectNewestOfKey = `${rows.selectCertificate} WHERE substr(c.key_hash, 1, 8) = +? AND c.key_hash = +?
  AND c.issued_at IS NOT NULL ORDER BY c.row DESC LIMIT 1`

/** A certificate that nobody can have received (void, orphaned, refused) proves nothing about its key. */
const newestOfKey = (db: Connection, keyHash: Uint8Array): rows.CertificateRow | undefined =>
  db.get<rows.CertificateRow>(selectNewestOfKey, keyHash.subarray(0, 8), keyHash)

/**
 * The key's claim stays with the key when its certificate came to nothing: `head` is then null and the same key resumes its
 * lineage. A use that was given back (void) is still its claim as long as it could be taken anew.
 */
const claimOf = (db: Connection, query: IssuanceQuery, { token, use }: Origin) => {
  const row = use === null ? undefined : rows.certificateByRow(db, use.certificate)
  if (token === null || use === null || row === undefined) return { tokenUse: null, instance: null }
  const claimed = use.counted === 1 || (token.uses_taken < token.uses && token.expires_at > query.now)
  if (!claimed) return { tokenUse: null, instance: null }
  const tokenUse = {
    tokenId: codes.idOf(token.id),
    keyHash: query.keyHash,
    serial: codes.hexOf(row.serial),
    released: row.issued_at !== null,
  }
  return { tokenUse, instance: row.instance }
}

/** Void, orphaned, or revoked before it was ever given out. */
export const neverReleased = (row: { readonly state: number; readonly issued_at: number | null }): boolean =>
  row.issued_at === null && row.state !== codes.INTENT

const replacementsOf = (db: Connection, presented: number): number =>
  db.get<{ n: number }>(
    `SELECT count(*) AS n FROM certificate WHERE predecessor = +? AND supersedes IS NOT NULL AND issued_at IS NOT NULL`,
    presented,
  )!.n

/** An operator who asks again for a key that this registration has already asks about its lineage, not for a second one. */
const ownKeyOf = (
  { evidence }: IssuanceQuery,
  registration: { readonly id: number } | null,
  seen: KeyFacts['seen'],
): number | null =>
  evidence.kind === 'registration' && seen !== null && seen.key.registrationId === registration?.id
    ? seen.instance
    : null

interface KeyFacts {
  readonly seen: { readonly key: SeenKey; readonly instance: number } | null
  /** A CA's own key, or one of an ACME account (RFC 8555 §11.1). */
  readonly ofIssuer: boolean
  readonly revoked: boolean
}

// One look-up, in which an aggregate takes the place of an order: a sorter is set up even for no row. The other columns are those of the
// row that has the maximum (SQLite's documentation of SELECT, "Bare columns in an aggregate query").
const selectKeyFacts = `SELECT EXISTS (SELECT 1 FROM issuer WHERE spki_hash = +?)
     OR EXISTS (SELECT 1 FROM acme_key WHERE key_hash = +?) AS issuer,
   EXISTS (SELECT 1 FROM revoked_key WHERE key_hash = +?) AS revoked,
   (SELECT instance FROM past_key WHERE key_hash = +?) AS past,
   max(c.issued_at IS NOT NULL) AS released, c.instance, c.registration_id
   FROM certificate c WHERE substr(c.key_hash, 1, 8) = +? AND c.key_hash = +?`

const keyFactsOf = (db: Connection, keyHash: Uint8Array): KeyFacts => {
  const { issuer, revoked, past, released, instance, registration_id } = db.get<{
    issuer: number
    revoked: number
    past: number | null
    released: number | null
    instance: number | null
    registration_id: number | null
  }>(selectKeyFacts, keyHash, keyHash, keyHash, keyHash.subarray(0, pastKeyOctets), keyHash.subarray(0, 8), keyHash)!
  const barred = { ofIssuer: issuer === 1, revoked: revoked === 1 }
  if (past !== null) return { ...barred, seen: pastKey(db, keyHash, released === 1) }
  if (released === null || instance === null || registration_id === null) return { ...barred, seen: null }
  const { id } = db.get<{ id: codes.StoredId }>('SELECT id FROM instance WHERE seq = +?', instance)!
  const key = { instanceId: codes.idOf(id), registrationId: registration_id, released: released === 1 }
  return { ...barred, seen: { key, instance } }
}

/** Of a certificate that was pruned; where its lineage was too, it is nobody's that is known. */
const pastKey = (db: Connection, keyHash: Uint8Array, releasedSince: boolean): NonNullable<KeyFacts['seen']> => {
  const { instance, registration_id, released, id } = db.get<{
    instance: number
    registration_id: number
    released: number
    id: codes.StoredId | null
  }>(
    'SELECT *, (SELECT id FROM instance i WHERE i.seq = p.instance) AS id FROM past_key p WHERE p.key_hash = +?',
    keyHash.subarray(0, pastKeyOctets),
  )!
  const instanceId = id === null ? `pruned-${instance}` : codes.idOf(id)
  return { key: { instanceId, registrationId: registration_id, released: releasedSince || released === 1 }, instance }
}

/** @param before only instances that began before this one */
const liveInstances = (
  db: Connection,
  registrationId: number,
  now: number,
  before: number = Number.MAX_SAFE_INTEGER,
): number =>
  db.get<{ n: number }>(
    'SELECT count(*) AS n FROM instance WHERE registration_id = +? AND live_until > +? AND state <> 2 AND seq < +?',
    registrationId,
    now,
    before,
  )!.n
