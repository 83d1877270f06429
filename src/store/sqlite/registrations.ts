// The registrations port: agents, services and operators, and the cascades of hold, release and retirement.
import { StoreError } from '../errors.ts'
import type { BlastRadius, RegistrationsPort } from '../ports.ts'
import type { Registration } from '../records.ts'
import * as cascade from './cascade.ts'
import * as codes from './codes.ts'
import { isUniqueViolation, type SqlValue } from './connection.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'

export const createRegistrations = (parts: Parts): RegistrationsPort => {
  const { db, commit, journal } = parts
  return {
    create: (draft, leaf) =>
      commit.write(() => {
        const ownerId = ownerIdOf(parts, draft.owner)
        const id = insert(parts, draft, ownerId)
        const created = withScopes(parts, rows.registrationById(db, id)!)
        journal.leaf(leaf)
        feedAgent(parts, created)
        return created
      }),
    find: (kind, name) => rows.registrationByName(db, kind, name),
    byId: id => parts.registered.byId(id)?.registration ?? null,
    list: filter => list(parts, filter),
    change: command =>
      commit.write(() => {
        const before = rows.registrationByName(db, command.kind, command.name)
        if (before === null) throw new StoreError('not_found', `no ${command.kind} is called ${command.name}`)
        const owner = before.owner === null ? undefined : rows.ownerRow(db, before.owner)
        const change = command.decide(
          before,
          registrationRadius(parts, before, command.at),
          owner === undefined ? null : rows.ownerOf(owner),
        )
        const { after, radius } = applyChange(parts, before, { ...change, at: command.at })
        journal.leaf(command.leaf(before, after, radius))
        return { before, after, radius }
      }),
    counts: () => counts(parts),
  }
}

const counts = ({ db }: Parts): ReturnType<RegistrationsPort['counts']> => {
  const none = () => ({ active: 0, held: 0, retired: 0 })
  const counted = { agent: none(), service: none(), operator: none() }
  for (const row of db.all<{ kind: number; state: number; n: number }>(
    'SELECT kind, state, count(*) AS n FROM registration GROUP BY kind, state',
  ))
    counted[codes.subjectKinds.name(row.kind)][codes.registrationStates.name(row.state)] = row.n
  return counted
}

const ownerIdOf = ({ db }: Parts, name: string | null): number | null => {
  if (name === null) return null
  const owner = rows.ownerRow(db, name)
  if (owner === undefined)
    throw new StoreError('owner_not_found', `no owner is called ${name}`, { facts: { owner: name } })
  if (codes.activeOrGone.name(owner.state) === 'gone')
    throw new StoreError('owner_gone', `owner ${name} is gone`, { facts: { owner: name } })
  return owner.id
}

const keyBlob = (hash: string | null): Uint8Array | null => (hash === null ? null : codes.blobOf(hash))

const insert = ({ db }: Parts, draft: Parameters<RegistrationsPort['create']>[0], ownerId: number | null): number => {
  try {
    return db.run(
      `INSERT INTO registration(kind, name, owner_id, purpose, profile, roles, attributes, dns_names, instance_limit,
         operator_role, bound_key_hash, managed_by, until_at, state, version, created_at, changed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 1, ?, ?)`,
      codes.subjectKinds.code(draft.kind),
      draft.name,
      ownerId,
      draft.purpose,
      draft.profile,
      JSON.stringify(draft.roles),
      JSON.stringify(draft.attributes),
      JSON.stringify(draft.dnsNames),
      draft.instanceLimit,
      draft.operatorRole,
      keyBlob(draft.boundKeyHash ?? null),
      draft.managedBy ?? null,
      draft.until,
      draft.at,
      draft.at,
    ).row
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    throw new StoreError('already_exists', `${draft.kind} ${draft.name} exists already; names are never reused`)
  }
}

const list = ({ db }: Parts, filter: Parameters<RegistrationsPort['list']>[0]): readonly Registration[] => {
  const where = ['r.kind = ?']
  const values: SqlValue[] = [codes.subjectKinds.code(filter.kind)]
  const also = (condition: string, value: SqlValue): void => {
    where.push(condition)
    values.push(value)
  }
  if (filter.owner !== undefined) also('r.owner_id = (SELECT id FROM owner WHERE name = ?)', filter.owner)
  if (filter.state !== undefined) also('r.state = ?', codes.registrationStates.code(filter.state))
  if (filter.endedAt !== undefined) also('r.until_at IS NOT NULL AND r.state <> 2 AND r.until_at <= ?', filter.endedAt)
  if (filter.profile !== undefined) also('r.profile = ?', filter.profile)
  if (filter.after !== undefined) also('r.name > ?', filter.after)
  values.push(filter.limit)
  return db
    .all<rows.RegistrationRow>(
      `${rows.selectRegistration} WHERE ${where.join(' AND ')} ORDER BY r.name LIMIT ?`,
      ...values,
    )
    .map(rows.registrationOf)
}

const everyLive = [codes.INTENT, codes.ISSUED, codes.HELD]

/** Everything live of one registration, with its instances and tokens that are not revoked yet. */
export const registrationRadius = ({ db }: Parts, registration: Registration, now: number): BlastRadius => {
  cascade.collect(db, cascade.ofRegistration(registration.id, now), everyLive, now)
  return {
    ...cascade.hitRadius(db),
    registrations: [{ kind: registration.kind, name: registration.name }],
    instances: db.get<{ n: number }>(
      'SELECT count(*) AS n FROM instance WHERE registration_id = ? AND state <> 2',
      registration.id,
    )!.n,
    tokens: db.get<{ n: number }>(
      'SELECT count(*) AS n FROM token WHERE registration_id = ? AND state = 0',
      registration.id,
    )!.n,
  }
}

interface Change {
  readonly set: Partial<Registration>
  readonly state: Registration['state']
  readonly attestedAt?: number
  readonly at: number
}

/** One registration's row, cascade and feed entries; the audit leaf is the caller's. */
export const applyChange = (
  parts: Parts,
  before: Registration,
  change: Change,
): { readonly after: Registration; readonly radius: BlastRadius } => {
  const { db } = parts
  if (before.state === 'retired')
    throw new StoreError('conflict', `${before.kind} ${before.name} is retired, which is final`)
  const after = { ...before, ...change.set }
  const ownerId =
    after.owner === before.owner
      ? after.owner === null
        ? null
        : rows.ownerRow(db, after.owner)!.id
      : ownerIdOf(parts, after.owner)
  db.run(
    `UPDATE registration SET owner_id = ?, purpose = ?, profile = ?, roles = ?, attributes = ?, dns_names = ?, instance_limit = ?,
       operator_role = ?, bound_key_hash = ?, managed_by = ?, until_at = ?, state = ?, attested_at = coalesce(?, attested_at), version = version + 1,
       changed_at = ? WHERE id = ?`,
    ownerId,
    after.purpose,
    after.profile,
    JSON.stringify(after.roles),
    JSON.stringify(after.attributes),
    JSON.stringify(after.dnsNames),
    after.instanceLimit,
    after.operatorRole,
    keyBlob(after.boundKeyHash),
    after.managedBy,
    after.until,
    codes.registrationStates.code(change.state),
    change.attestedAt ?? null,
    change.at,
    before.id,
  )
  const stored = withScopes(parts, rows.registrationById(db, before.id)!)
  const radius = cascadeOf(parts, before, stored, change.at)
  feedAgent(parts, stored)
  return { after: stored, radius }
}

const cascadeOf = (parts: Parts, before: Registration, after: Registration, at: number): BlastRadius => {
  const { db, journal } = parts
  const named = { by: after.kind, value: after.name }
  const said = { state: after.state, version: after.version }
  const radius = registrationRadius(parts, after, at)
  if (before.state === after.state) return radius
  if (after.state === 'retired') {
    cascade.markHits(db, { state: codes.REVOKED, reason: 'cessationOfOperation', cause: 'retired', at })
    endInstancesAndTokens(parts, after.id, at)
    const serials = radius.certificates + radius.intents
    journal.statusFeed('revoke', at, { ...named, reason: 'cessationOfOperation', serials, ...said })
    return radius
  }
  if (after.state === 'held') {
    cascade.collect(db, cascade.ofRegistration(after.id, at), [codes.ISSUED], at)
    const serials = cascade.hitRadius(db).certificates
    cascade.markHits(db, { state: codes.HELD, reason: 'certificateHold', cause: 'hold', at })
    journal.statusFeed('hold', at, { ...named, reason: 'certificateHold', serials, ...said })
    return radius
  }
  // A lineage that was locked, before the hold or during it, stays held.
  const held = cascade.ofRegistration(after.id, at)
  cascade.collect(db, { ...held, where: `${held.where} AND i.state = 0` }, [codes.HELD], at)
  const serials = cascade.hitRadius(db).certificates
  cascade.releaseHits(db)
  journal.statusFeed('release', at, { ...named, serials, ...said })
  return radius
}

export const endInstancesAndTokens = ({ db }: Parts, registrationId: number, at: number): void => {
  db.run('UPDATE instance SET state = 2, changed_at = ? WHERE registration_id = ? AND state <> 2', at, registrationId)
  db.run('UPDATE token SET state = 1, revoked_at = ? WHERE registration_id = ? AND state = 0', at, registrationId)
}

/** The scopes of what a registration has become, under the version of the change that made it so. */
const withScopes = ({ db, scopes }: Parts, registration: Registration): Registration => {
  const now = scopes.of(registration, registration.changedAt)
  const text = JSON.stringify(now)
  if (text === JSON.stringify(registration.scopes)) return registration
  db.run('UPDATE registration SET scopes = ? WHERE id = ?', text, registration.id)
  return { ...registration, scopes: now }
}

export const feedAgent = ({ journal }: Parts, registration: Registration): void => {
  journal.feed('agent', registration.changedAt, {
    by: registration.kind,
    value: registration.name,
    state: registration.state,
    version: registration.version,
    roles: registration.roles,
    attributes: registration.attributes,
    scopes: registration.scopes,
    owner: registration.owner,
    profile: registration.profile,
  })
}
