// Migration 14: keys of certificates that were pruned. A key belongs to one lineage for ever, also when neither the certificate nor the
// lineage is kept; sixteen octets of its hash are enough to refuse it.

export const schema014 = `
CREATE TABLE past_key (
  key_hash BLOB PRIMARY KEY, instance INTEGER NOT NULL, registration_id INTEGER NOT NULL, released INTEGER NOT NULL
) WITHOUT ROWID;
`
