// The issuance port: steps 4 and 6 of issuance, void and sweep, each with its lineage slot, token use, audit leaf and feed entry
// in the one transaction.
import { StoreError } from '../errors.ts'
import type { IntentRecord, IssuanceDecision, IssuancePort, IssuedCommand } from '../ports.ts'
import type { CertificateRecord, LeafDraft } from '../records.ts'
import { endWaiting } from './acme-waiting.ts'
import * as cascade from './cascade.ts'
import * as codes from './codes.ts'
import { isUniqueViolation } from './connection.ts'
import { type FoundRows, neverReleased, readFacts } from './facts.ts'
import { lockInstance } from './lock.ts'
import type { Parts } from './parts.ts'
import * as rows from './rows.ts'
import type { StoredTbs } from './tbs-codec.ts'

export const createIssuance = (parts: Parts): IssuancePort => {
  const { db, words, journal, commit } = parts
  return {
    facts: query => readFacts(parts, query).facts,
    recordIntents: batch =>
      commit.write(() =>
        batch.map(command => {
          const { facts, found } = readFacts(parts, command.query)
          const decision = command.decide(facts)
          applyDecision(parts, decision, found)
          return decision
        }),
      ),
    recordIssued: batch => commit.write(() => batch.map(command => recordOne(parts, command))),
    recordVoid: batch =>
      commit.write(() => {
        for (const { serial, leaf } of batch) voidOne(parts, serial, leaf)
      }),
    recordOrphaned: batch =>
      commit.write(() => {
        for (const { serial, at, leaf } of batch) {
          const row = rows.certificateBySerial(db, serial)
          if (row === undefined) throw new StoreError('not_found', `no certificate has serial ${serial}`)
          // Revoked or swept meanwhile: the stricter state stays.
          if (row.state !== codes.INTENT) continue
          journal.leaf(leaf)
          orphanOne(parts, row, at)
        }
      }),
    signatures: issuerId => {
      const unsettled = db.get<{ n: number }>(
        `SELECT count(*) AS n FROM certificate
         WHERE state IN (${codes.INTENT}, ${codes.ORPHANED}) AND state <> 1 AND issuer_id = +?`,
        issuerId,
      )!.n
      // A number is bound as REAL, so that the first name ends in `.0`.
      const counted = (where: string, value: number | string): number =>
        db.get<{ value: number }>(`SELECT value FROM counter WHERE name = ${where}`, value)?.value ?? 0
      return {
        recorded: counted(`'signed/' || ?`, issuerId),
        doubtful: unsettled + counted('?', `doubtful/${issuerId}`),
      }
    },
    sweepIntents: sweep =>
      commit.write(() => {
        const due = db.all<rows.CertificateRow>(
          `${rows.selectCertificate} WHERE c.state = ${codes.INTENT} AND c.state <> 1 AND (c.deadline < ? OR c.epoch < ?) ORDER BY c.row`,
          sweep.now,
          sweep.epoch,
        )
        return due.map(row => {
          const registration = rows.registrationById(db, row.registration_id)!
          journal.leaf(sweep.leaf(rows.certificateOf(words, row), registration))
          return orphanOne(parts, row, sweep.now)
        })
      }),
  }
}

const applyDecision = (parts: Parts, decision: IssuanceDecision<unknown>, found: FoundRows): void => {
  const { journal } = parts
  if (decision.act === 'record') {
    insertIntent(parts, decision.intent, found)
    journal.leaf(decision.leaf)
  } else if (decision.act === 'repeat') {
    if (decision.leaf !== null) journal.leaf(decision.leaf)
  } else if (decision.act === 'refuse') {
    if (decision.leaf !== null) journal.leaf(decision.leaf)
    if (decision.lock !== null) lockInstance(parts, decision.lock, found.query.now)
  }
}

const insertIntent = (parts: Parts, intent: IntentRecord, found: FoundRows): void => {
  const { db, words } = parts
  const predecessor = rowOf(parts, intent.predecessor, found)
  const supersedes = rowOf(parts, intent.supersedes, found)
  const row = parts.intents.nextRow()
  const instance = intent.newInstance ? createInstance(parts, intent, row) : existingInstance(parts, intent, found)
  const token = intent.tokenId === null ? null : tokenSeq(parts, intent.tokenId, found)
  const keyHash = codes.blobOf(intent.keyHash)
  const stored = storedTbs(parts, intent)
  try {
    db.run(
      `INSERT INTO certificate(row, serial, issuer_id, state, kind, registration_id, registration_version, instance, generation,
         predecessor, supersedes, replaced, profile, profile_hash, requester, token, epoch, deadline, created_at, not_before,
         not_after, key_hash, tbs, template, signature)
       VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      row,
      serialBlob(intent.serial),
      intent.issuerId,
      codes.subjectKinds.code(intent.kind),
      intent.registrationId,
      intent.registrationVersion,
      instance,
      intent.generation,
      predecessor,
      supersedes,
      words.id(intent.profile),
      words.id(intent.profileHash),
      rows.storedRequester(words, intent),
      token,
      intent.epoch,
      intent.deadline,
      intent.createdAt,
      intent.notBefore,
      intent.notAfter,
      keyHash,
      stored.bytes,
      stored.template,
      rows.unsigned,
    )
  } catch (error) {
    if (isUniqueViolation(error)) throw new StoreError('conflict', `serial ${intent.serial} was used before`)
    throw error
  }
  if (token !== null) {
    const known = found.token?.seq === token && found.query.keyHash === intent.keyHash
    claimUse(parts, known ? found.use : useOf(parts, token, keyHash), { token, keyHash, row })
  }
  parts.intents.remember(intent.serial, { row, issuerId: intent.issuerId, supersedes })
  // A new instance was made with its head and its end.
  if (!intent.newInstance)
    db.run(
      'UPDATE instance SET head = ?, live_until = max(live_until, ?) WHERE seq = +?',
      row,
      intent.notAfter,
      instance,
    )
  if (intent.recovery) countRecovery(parts, instance, intent.createdAt)
  if (intent.orderId !== undefined) {
    db.run('UPDATE acme_order SET certificate = ? WHERE id = +?', codes.blobOf(intent.serial), intent.orderId)
    endWaiting(db, instance, intent.registrationId)
  }
}

const storedTbs = ({ tbs, registered }: Parts, intent: IntentRecord): StoredTbs => {
  const { serial, notBefore, notAfter, instanceId, registrationVersion, issuerId, profile } = intent
  const registration = registered.byId(intent.registrationId)?.registration
  if (registration === undefined) throw new StoreError('not_found', `no registration has id ${intent.registrationId}`)
  const { name, dnsNames } = registration
  const facts = { serial: serialBlob(serial), notBefore, notAfter, name, instanceId, registrationVersion }
  // Host names are the registration's own, but for those of an order; without any, names of one length have one template.
  const kind = `${issuerId} ${profile} ${dnsNames.length === 0 ? name.length : name}`
  return tbs.store(intent.tbs, facts, kind, intent.orderId === undefined ? undefined : dnsNames)
}

/** RFC 5280 §4.1.2.2: at most 20 octets. */
const serialBlob = (serial: string): Uint8Array => {
  const blob = codes.blobOf(serial)
  if (blob.length > 20) throw new TypeError(`expected a serial of at most 20 octets, got ${blob.length}`)
  return blob
}

const rowOf = (parts: Parts, serial: string | null, { presented, head }: FoundRows): number | null => {
  if (serial === null) return null
  if (presented?.serial === serial) return presented.row
  if (head?.serial === serial) return head.row
  const found = parts.db.get<{ row: number }>('SELECT row FROM certificate WHERE serial = +?', codes.soughtBlob(serial))
  if (found === undefined) throw new StoreError('not_found', `no certificate has serial ${serial}`)
  return found.row
}

const createInstance = ({ db }: Parts, intent: IntentRecord, head: number): number => {
  try {
    return db.run(
      `INSERT INTO instance(id, registration_id, state, head, live_until, created_at, changed_at) VALUES (?, ?, 0, ?, ?, ?, ?)`,
      codes.storedId(intent.instanceId),
      intent.registrationId,
      head,
      intent.notAfter,
      intent.createdAt,
      intent.createdAt,
    ).row
  } catch (error) {
    if (isUniqueViolation(error)) throw new StoreError('conflict', `instance ${intent.instanceId} exists already`)
    throw error
  }
}

const existingInstance = ({ db }: Parts, intent: IntentRecord, { instance }: FoundRows): number => {
  const found =
    instance !== undefined && codes.idOf(instance.id) === intent.instanceId
      ? instance
      : rows.instanceRow(db, intent.instanceId)
  if (found === undefined) throw new StoreError('not_found', `no instance has id ${intent.instanceId}`)
  if (found.registration_id !== intent.registrationId)
    throw new StoreError('conflict', `instance ${intent.instanceId} belongs to another registration`)
  if (codes.instanceStates.name(found.state) !== 'active')
    throw new StoreError('conflict', `instance ${intent.instanceId} is not active`)
  return found.seq
}

const tokenSeq = ({ db }: Parts, id: string, { token }: FoundRows): number => {
  if (token !== null && codes.idOf(token.id) === id) return token.seq
  const seq = rows.tokenSeq(db, id)
  if (seq < 0) throw new StoreError('not_found', `no token has id ${id}`)
  return seq
}

const useOf = ({ db }: Parts, token: number, keyHash: Uint8Array): FoundRows['use'] =>
  db.get<{ certificate: number; counted: number }>(
    'SELECT certificate, counted FROM token_use WHERE token = +? AND key_hash = +?',
    token,
    keyHash,
  ) ?? null

/** A key that holds a claim already does not take another use; any other key needs one that is left. */
const claimUse = (
  { db }: Parts,
  use: FoundRows['use'],
  claim: { readonly token: number; readonly keyHash: Uint8Array; readonly row: number },
): void => {
  const { token, keyHash, row } = claim
  if (use === null || use.counted === 0) {
    const { changes } = db.run(
      `UPDATE token SET uses_taken = uses_taken + 1 WHERE seq = +? AND state = 0 AND uses_taken < uses
         AND (bound_key_hash IS NULL OR bound_key_hash = ?)`,
      token,
      keyHash,
    )
    if (changes === 0) throw new StoreError('conflict', 'the token has no use left for this key')
  }
  if (use === null)
    db.run('INSERT INTO token_use(token, key_hash, certificate, counted) VALUES (?, ?, ?, 1)', token, keyHash, row)
  else
    db.run('UPDATE token_use SET certificate = ?, counted = 1 WHERE token = +? AND key_hash = +?', row, token, keyHash)
}

/** The profile's window looks back a bounded number of times. */
const keptRecoveries = 64

const countRecovery = ({ db }: Parts, instance: number, at: number): void => {
  const found = db.get<{ recoveries: string | null }>('SELECT recoveries FROM instance WHERE seq = +?', instance)!
  const times = found.recoveries === null ? [] : (JSON.parse(found.recoveries) as number[])
  const kept = JSON.stringify([...times, at].slice(-keptRecoveries))
  db.run('UPDATE instance SET recoveries = ?, changed_at = ? WHERE seq = +?', kept, at, instance)
}

/** It came to nothing: whoever asks again must not be counted twice. Its time is the intent's, and one lineage has one intent at a time. */
const forgetRecovery = (db: Parts['db'], row: rows.CertificateRow): void => {
  const { recoveries } = db.get<{ recoveries: string | null }>(
    'SELECT recoveries FROM instance WHERE seq = +?',
    row.instance,
  )!
  if (recoveries === null) return
  const times = JSON.parse(recoveries) as number[]
  const at = times.lastIndexOf(row.created_at)
  if (at >= 0)
    db.run('UPDATE instance SET recoveries = ? WHERE seq = +?', JSON.stringify(times.toSpliced(at, 1)), row.instance)
}

// Without RETURNING, which makes a table for its rows with each call and costs as much again.
const releaseIntent = `UPDATE certificate SET state = ${codes.ISSUED}, signature = ?, issued_at = ?
  WHERE row = +? AND serial = +? AND state = ${codes.INTENT} AND epoch = +?
    AND EXISTS (SELECT 1 FROM registration r WHERE r.id = certificate.registration_id AND r.state = 0
      AND r.version = certificate.registration_version)
    AND EXISTS (SELECT 1 FROM instance i WHERE i.seq = certificate.instance AND i.state = 0 AND i.closed_at IS NULL)`

const recordOne = (parts: Parts, command: IssuedCommand): 'issued' | 'refused' => {
  const { db, journal } = parts
  const intent = parts.intents.find(command.serial)
  if (intent === null) return refuseRelease(parts, command)
  const { changes } = db.run(
    releaseIntent,
    command.signature,
    command.at,
    intent.row,
    codes.soughtBlob(command.serial),
    command.epoch,
  )
  if (changes === 0) return refuseRelease(parts, command)
  parts.signed.add(intent.issuerId)
  journal.leaf(command.issuedLeaf)
  if (intent.supersedes !== null) supersede(parts, intent.supersedes, command.at)
  return 'issued'
}

/** Signed but not to be released: it exists, so it is revoked; its signature is kept as evidence. */
const refuseRelease = (parts: Parts, command: IssuedCommand): 'refused' => {
  const { db, journal } = parts
  const row = rows.certificateBySerial(db, command.serial)
  if (row === undefined) throw new StoreError('not_found', `no certificate has serial ${command.serial}`)
  journal.leaf(command.refusedLeaf())
  // Released before: a second call for it changes nothing.
  if (row.issued_at !== null) return 'refused'
  parts.signed.add(row.issuer_id)
  if (row.state === codes.REVOKED) cascade.settleDoubtful(db, row.issuer_id)
  db.run('UPDATE certificate SET signature = ? WHERE row = +?', command.signature, row.row)
  // Void means that the HSM was never called; a signature shows that it was.
  if (row.state === codes.INTENT || row.state === codes.VOID) {
    const mark = {
      state: codes.REVOKED,
      reason: 'privilegeWithdrawn',
      cause: 'release_refused',
      at: command.at,
    } as const
    markOne(parts, row, mark)
    freeSlot(parts, row)
  }
  return 'refused'
}

const supersede = (parts: Parts, superseded: number, at: number): void => {
  const { db } = parts
  db.run('UPDATE certificate SET replaced = 1 WHERE row = +?', superseded)
  const row = rows.certificateByRow(db, superseded)!
  if (row.state === codes.INTENT || row.state === codes.ISSUED || row.state === codes.HELD)
    markOne(parts, row, { state: codes.REVOKED, reason: 'superseded', cause: 'superseded', at })
}

const markOne = (parts: Parts, row: rows.CertificateRow, mark: cascade.StatusMark): void => {
  const { db, journal } = parts
  db.run('DELETE FROM temp.hit')
  db.run('INSERT INTO temp.hit(row) VALUES (?)', row.row)
  cascade.markHits(db, mark)
  journal.statusFeed('revoke', mark.at, {
    by: 'serial',
    value: codes.hexOf(row.serial),
    reason: mark.reason,
    serials: 1,
    instance: codes.idOf(row.instance_id),
  })
}

const voidOne = (parts: Parts, serial: string, leaf: LeafDraft): void => {
  const { db, journal } = parts
  const row = rows.certificateBySerial(db, serial)
  if (row === undefined) throw new StoreError('not_found', `no certificate has serial ${serial}`)
  // Revoked or swept meanwhile: the stricter state stays.
  if (row.state === codes.REVOKED) cascade.settleDoubtful(db, row.issuer_id)
  if (row.state !== codes.INTENT) return
  db.run(`UPDATE certificate SET state = ${codes.VOID} WHERE row = +?`, row.row)
  const token = row.token
  if (token !== null) {
    const { changes } = db.run(
      'UPDATE token_use SET counted = 0 WHERE token = +? AND key_hash = +? AND certificate = +? AND counted = 1',
      token,
      row.key_hash,
      row.row,
    )
    if (changes > 0) db.run('UPDATE token SET uses_taken = uses_taken - 1 WHERE seq = +?', token)
  }
  cascade.refreshLiveUntilOf(db, row.instance)
  freeSlot(parts, row)
  journal.leaf(leaf)
}

/** Possibly signed, never released: revoked without a reason that would say more than is known. */
const orphanOne = (parts: Parts, row: rows.CertificateRow, at: number): CertificateRecord => {
  markOne(parts, row, { state: codes.ORPHANED, reason: 'unspecified', cause: 'orphan', at })
  freeSlot(parts, row)
  return rows.certificateOf(parts.words, rows.certificateByRow(parts.db, row.row)!)
}

interface SlotRow {
  readonly row: number
  readonly state: number
  readonly issued_at: number | null
  readonly predecessor: number | null
  readonly supersedes: number | null
}

/** The lineage's head goes back to the newest certificate that somebody may hold. */
const freeSlot = ({ db }: Parts, row: rows.CertificateRow): void => {
  const instance = db.get<{ head: number | null }>('SELECT head FROM instance WHERE seq = +?', row.instance)!
  if (instance.head !== row.row) return
  forgetRecovery(db, row)
  let head: number | null = row.supersedes ?? row.predecessor
  while (head !== null) {
    const before: SlotRow = db.get<SlotRow>(
      'SELECT row, state, issued_at, predecessor, supersedes FROM certificate WHERE row = +?',
      head,
    )!
    if (!neverReleased(before)) break
    head = before.supersedes ?? before.predecessor
  }
  db.run('UPDATE instance SET head = ? WHERE seq = +?', head, row.instance)
}
