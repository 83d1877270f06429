// Millions of certificates in a ledger whose server does not run: by SQL, as copies of rows that real enrolments left, each with a key, a
// serial, a lineage, a token and audit leaves of its own, in the order and at the lengths that issuance writes them. Indexes are filled
// as they are by issuance, in the order of the rows. What nothing looks into (keys, signatures, values in leaves) is random.
import Database from 'better-sqlite3'
import type { CaHome } from './world.ts'

export interface ManyCertificates {
  readonly count: number
  /** When the first and the last of them were issued; milliseconds since the epoch. */
  readonly from: number
  readonly to: number
  readonly lifetimeMs: number
}

const perAgent = 40
const perTransaction = 100_000
const events = ['token_created', 'intent_recorded', 'certificate_issued']

type Sql = Readonly<Record<string, string>>

/** One more row for each number from :from to :to, like the sample but for what is given. */
const copyMany = (db: Database.Database, table: string, sample: number, own: Sql): Database.Statement<[object]> => {
  const columns = (db.pragma(`table_info(${table})`) as { readonly name: string }[]).map(({ name }) => name)
  return db.prepare(
    `WITH RECURSIVE n(i) AS (SELECT CAST(:from AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :to)
     INSERT INTO ${table}(${columns.join()}) SELECT ${columns.map(name => own[name] ?? `s.${name}`).join()}
     FROM n, (SELECT * FROM ${table} WHERE rowid = ${sample}) s`,
  )
}

interface Sample {
  readonly row: number
  readonly token: number
  readonly instance: number
  readonly registration_id: number
}

const sampleOf = (db: Database.Database): Sample => {
  const sql = `SELECT row, token, instance, registration_id FROM certificate
    WHERE template IS NOT NULL AND token IS NOT NULL AND issued_at IS NOT NULL ORDER BY row DESC LIMIT 1`
  const found = db.prepare(sql).get() as Sample | undefined
  if (found === undefined) throw new Error('expected an enrolment to copy')
  return found
}

const last = (db: Database.Database, table: string, column: string): number =>
  Number(db.prepare(`SELECT coalesce(max(${column}), 0) FROM ${table}`).pluck().get())

const createFiller = (db: Database.Database, { count, from, to, lifetimeMs }: ManyCertificates) => {
  const sample = sampleOf(db)
  const [token, instance, row] = [
    last(db, 'token', 'seq') + 1,
    last(db, 'instance', 'seq') + 1,
    last(db, 'certificate', 'row') + 1,
  ]
  const [registration, word, leaf] = [
    last(db, 'registration', 'id') + 1,
    last(db, 'word', 'id') + 1,
    last(db, 'audit_leaf', 'idx') + 1,
  ]
  const at = `(${Math.floor(from)} + CAST(i * ${(to - from) / count} AS INTEGER))`
  const agent = `(${registration} + i / ${perAgent})`
  const own: readonly (readonly [table: string, rowid: number, Sql])[] = [
    [
      'token',
      sample.token,
      {
        seq: `${token} + i`,
        id: 'randomblob(8)',
        hash: 'randomblob(32)',
        registration_id: agent,
        expires_at: `${at} + 3600000`,
        created_at: at,
      },
    ],
    [
      'instance',
      sample.instance,
      {
        seq: `${instance} + i`,
        id: `unhex(printf('%012x', ${at}) || hex(randomblob(10)))`,
        registration_id: agent,
        head: `${row} + i`,
        live_until: `${at} + ${lifetimeMs}`,
        created_at: at,
        changed_at: at,
      },
    ],
    [
      'certificate',
      sample.row,
      {
        row: `${row} + i`,
        serial: `unhex(printf('01%010x', ${at} / 1000) || hex(randomblob(10)))`,
        registration_id: agent,
        instance: `${instance} + i`,
        token: `${token} + i`,
        created_at: at,
        deadline: `${at} + 5000`,
        issued_at: `${at} + 9`,
        not_before: `${at} - 60000`,
        not_after: `${at} + ${lifetimeMs}`,
        key_hash: 'randomblob(32)',
        tbs: 'randomblob(64)',
        signature: `unhex('30' || hex(randomblob(length(s.signature) - 1)))`,
      },
    ],
  ]
  const rows = own.map(([table, rowid, columns]) => copyMany(db, table, rowid, columns))
  const uses = db.prepare(
    'INSERT INTO token_use SELECT token, key_hash, row, 1 FROM certificate WHERE row >= ? AND row < ?',
  )
  db.exec('CREATE TEMP TABLE sample_leaf (k INTEGER PRIMARY KEY, event INTEGER, bytes BLOB)')
  for (const [k, event] of events.entries())
    db.prepare(
      `INSERT INTO sample_leaf SELECT ?, l.event, l.bytes FROM audit_leaf l
       WHERE l.event = (SELECT id FROM word WHERE text = ?) AND l.subject IS NOT NULL ORDER BY l.idx DESC LIMIT 1`,
    ).run(k, event)
  const idx = `${leaf} + i * 3 + k`
  const leaves = db.prepare(
    `WITH RECURSIVE n(i) AS (SELECT CAST(:from AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :to)
     INSERT INTO audit_leaf(idx, event, at, subject, bytes, head)
     SELECT ${idx}, event, ${at}, ${word} + i / ${perAgent},
       unhex(hex(substr(bytes, 1, 3)) || hex(randomblob(length(bytes) - 3))), randomblob(iif((${idx} + 1) % 64, 4, 32))
     FROM n CROSS JOIN sample_leaf ORDER BY i, k`,
  )
  const agents = copyMany(db, 'registration', sample.registration_id, {
    id: `${registration} + i`,
    name: `'filler-' || ${registration} || '-' || i`,
  })
  const words = db.prepare(
    `WITH RECURSIVE n(i) AS (SELECT CAST(:from AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :to)
     INSERT INTO word(id, text) SELECT ${word} + i, 'agent:filler-' || ${registration} || '-' || i FROM n`,
  )
  return (first: number, end: number): void => {
    const registrations = { from: Math.ceil(first / perAgent), to: Math.ceil(end / perAgent) }
    for (const each of [agents, words]) if (registrations.from < registrations.to) each.run(registrations)
    for (const each of rows) each.run({ from: first, to: end })
    uses.run(row + first, row + end)
    leaves.run({ from: first, to: end })
  }
}

/** The ledger must have at least one certificate that was enrolled by a join token. It is not durable before this returns. */
export const fillMany = (
  { paths }: Pick<CaHome, 'paths'>,
  many: ManyCertificates,
  progress: (made: number) => void = () => {},
): void => {
  const db = new Database(paths.database)
  try {
    // Out of the write-ahead log first: from there SQLite goes to no other journal than a file. The driver does not let it go without one.
    db.pragma('journal_mode = DELETE')
    db.pragma('journal_mode = MEMORY')
    db.pragma('synchronous = OFF')
    db.pragma('foreign_keys = OFF')
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('cache_size = -3000000')
    const fill = createFiller(db, many)
    for (let made = 0; made < many.count; made += perTransaction) {
      const end = Math.min(many.count, made + perTransaction)
      db.transaction(() => fill(made, end))()
      progress(end)
    }
    db.pragma('locking_mode = NORMAL')
    db.pragma('journal_mode = WAL')
  } finally {
    db.close()
  }
}
