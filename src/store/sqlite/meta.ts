// The meta port: small facts of this ledger, and the core's epoch.
import type { MetaKey, MetaPort } from '../ports.ts'
import type { Parts } from './parts.ts'

export const createMeta = ({ db, commit }: Parts): MetaPort => ({
  get: key => db.get<{ value: string }>('SELECT value FROM meta WHERE key = ?', key)?.value ?? null,
  set: values =>
    commit.write(() => {
      for (const [key, value] of Object.entries(values) as [MetaKey, string][])
        db.run(
          'INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
          key,
          value,
        )
    }),
  nextEpoch: () =>
    commit.write(
      () =>
        db.get<{ value: number }>(`UPDATE counter SET value = value + 1 WHERE name = 'core_epoch' RETURNING value`)!
          .value,
    ),
})
