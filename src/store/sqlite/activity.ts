// The activity file: SQLite beside the ledger, with nothing in it that the ledger needs. Written without waiting for the disk; a file
// that is damaged, or of another version, is put aside and begun anew.
import { existsSync, renameSync } from 'node:fs'
import Database from 'better-sqlite3'
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { ActivityPort, StoredAgent, StoredFinding } from '../activity.ts'

const version = 1
const schema = `
CREATE TABLE agent (name TEXT PRIMARY KEY, seen INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX agent_seen ON agent(seen);
CREATE TABLE finding (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, at INTEGER NOT NULL, agent TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX finding_agent ON finding(agent, seq);
PRAGMA user_version = ${version};
`

const begin = (path: string): Database.Database => {
  const db = new Database(path, { timeout: 5000 })
  try {
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = OFF')
    db.pragma('trusted_schema = OFF')
    const found = db.pragma('user_version', { simple: true })
    if (found === 0) db.exec(schema)
    else if (found !== version) throw new Error(`expected version ${version}, got ${found}`)
    if (db.pragma('quick_check(1)', { simple: true }) !== 'ok') throw new Error('the file is damaged')
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

const open = (path: string, log: Log): Database.Database => {
  try {
    return begin(path)
  } catch (error) {
    if (path === ':memory:') throw error
    log.error({ path, reason: messageOf(error) }, 'what agents did is not known any more: its file is put aside')
    for (const suffix of ['', '-wal', '-shm'])
      if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${path}.damaged${suffix}`)
    return begin(path)
  }
}

/** @param path a file, or ':memory:' for tests @throws SqliteError when not even a new file can be made */
export const openActivity = (path: string, log: Log): ActivityPort => {
  const db = open(path, log)
  const one = db.prepare<[string], { body: string }>('SELECT body FROM agent WHERE name = ?')
  const upsert = db.prepare<[string, number, string]>(
    'INSERT INTO agent(name, seen, body) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET seen = excluded.seen, body = excluded.body',
  )
  const outcome = "json_extract(body, '$.outcome')"
  /** Later calls are few, and none of them is worth the end of the server. */
  const forgiving = <T>(what: string, otherwise: T, run: () => T): T => {
    try {
      return run()
    } catch (error) {
      log.error({ reason: messageOf(error) }, `the activity file: ${what} failed`)
      return otherwise
    }
  }
  const saveAll = db.transaction((agents: readonly StoredAgent[]) => {
    for (const agent of agents) upsert.run(agent.name, agent.lastSeen, JSON.stringify(agent))
  })
  return {
    load: agent =>
      forgiving('reading', null, () => {
        const row = one.get(agent)
        return row === undefined ? null : (JSON.parse(row.body) as StoredAgent)
      }),
    lastSeenIn: (after, before, limit) =>
      forgiving('reading', [], () =>
        db
          .prepare<[number, number, number], { name: string; lastSeen: number }>(
            'SELECT name, seen AS lastSeen FROM agent WHERE seen >= ? AND seen < ? ORDER BY seen LIMIT ?',
          )
          .all(after, before, limit),
      ),
    save: agents => forgiving('writing', undefined, () => (agents.length === 0 ? undefined : saveAll(agents))),
    addFinding: ({ id, at, agent, body }) =>
      forgiving('writing', undefined, () => {
        db.prepare('INSERT INTO finding(id, at, agent, body) VALUES (?, ?, ?, ?)').run(id, at, agent, body)
      }),
    findings: ({ agent, since, outcomes, limit }) =>
      forgiving('reading', [], () => {
        const where: readonly (readonly [string, unknown])[] = [
          ...(agent === undefined ? [] : [['agent = ?', agent] as const]),
          ...(since === undefined ? [] : [['at >= ?', since] as const]),
          ...(outcomes === undefined
            ? []
            : [[`${outcome} IN (SELECT value FROM json_each(?))`, JSON.stringify(outcomes)] as const]),
        ]
        const clause = where.length === 0 ? '' : ` WHERE ${where.map(([term]) => term).join(' AND ')}`
        return db
          .prepare<unknown[], StoredFinding>(
            `SELECT id, at, agent, body FROM finding${clause} ORDER BY seq DESC LIMIT ?`,
          )
          .all(...where.map(([, value]) => value), limit)
      }),
    prune: ({ seenBefore, keepFindings, actedSince }) =>
      forgiving('pruning', undefined, () => {
        db.prepare('DELETE FROM agent WHERE seen < ?').run(seenBefore)
        db.prepare(
          `DELETE FROM finding WHERE seq <= (SELECT max(seq) FROM finding) - @keepFindings AND seq NOT IN (
             SELECT seq FROM finding WHERE seq <= (SELECT max(seq) FROM finding) - @keepFindings AND at >= @actedSince
               AND ${outcome} IN ('hold', 'revoke', 'failed') ORDER BY seq DESC LIMIT @keepFindings)`,
        ).run({ keepFindings, actedSince })
      }),
    close: () => {
      db.close()
    },
  }
}
