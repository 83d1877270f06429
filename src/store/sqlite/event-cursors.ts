// The port of event cursors.
import type { EventCursorsPort } from '../event-cursors-port.ts'
import type { Parts } from './parts.ts'

export const createEventCursors = ({ db, commit }: Parts): EventCursorsPort => {
  const row = (sink: string) =>
    db.get<{ next: number; dead: number }>('SELECT next, dead FROM event_cursor WHERE sink = ?', sink)
  return {
    get: sink => row(sink)?.next ?? null,
    dead: sink => row(sink)?.dead ?? 0,
    set: (sink, next, dead) =>
      commit.write(() => {
        db.run(
          `INSERT INTO event_cursor(sink, next, dead) VALUES (?, ?, ?)
           ON CONFLICT (sink) DO UPDATE SET next = excluded.next, dead = excluded.dead`,
          sink,
          next,
          dead,
        )
      }),
  }
}
