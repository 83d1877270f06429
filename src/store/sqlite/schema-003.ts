// Migration 3: attestations and the warnings about what nobody seems to need, and how far each sink of events has got. Codes of `topic`
// are orphans.ts's. A warning goes with its registration's id, which is never reused.

export const schema003 = `
ALTER TABLE registration ADD COLUMN attested_at INTEGER;
CREATE TABLE orphan_notice (
  registration_id INTEGER NOT NULL REFERENCES registration(id), topic INTEGER NOT NULL, warned_at INTEGER NOT NULL,
  PRIMARY KEY (registration_id, topic)
) WITHOUT ROWID;
CREATE TABLE event_cursor (sink TEXT PRIMARY KEY, next INTEGER NOT NULL, dead INTEGER NOT NULL) WITHOUT ROWID;
`
