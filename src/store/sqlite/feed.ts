// The feed port: reading the sequence that the journal writes.
import type { FeedPort } from '../ports.ts'
import type { Parts } from './parts.ts'

export const createFeed = ({ db }: Parts): FeedPort => ({
  head: () => ({
    epoch: db.get<{ value: string }>(`SELECT value FROM counter WHERE name = 'feed_epoch'`)!.value,
    n: db.get<{ value: number }>(`SELECT value FROM counter WHERE name = 'feed_n'`)!.value,
  }),
  read: (afterN, limit) =>
    db
      .all<{ n: number; type: string; at: number; body: string }>(
        'SELECT * FROM feed WHERE n > ? ORDER BY n LIMIT ?',
        afterN,
        limit,
      )
      .map(row => ({ n: row.n, type: row.type, at: row.at, body: JSON.parse(row.body) })),
})
