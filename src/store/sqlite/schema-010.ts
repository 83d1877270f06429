// Migration 10: sharded revocation lists. `until_at`: when the last certificate that names the set has ended; null while it is in use.
// `revision`: of the revocations that the shard's last list certainly shows.

export const schema010 = `
CREATE TABLE crl_shard_set (
  issuer_id INTEGER NOT NULL REFERENCES issuer(id), shards INTEGER NOT NULL, until_at INTEGER, PRIMARY KEY (issuer_id, shards)
) WITHOUT ROWID;
CREATE TABLE crl_shard (
  issuer_id INTEGER NOT NULL REFERENCES issuer(id), shards INTEGER NOT NULL, shard INTEGER NOT NULL, last_number INTEGER NOT NULL,
  number INTEGER, this_update INTEGER, next_update INTEGER, sha256 BLOB, entries INTEGER, revision INTEGER,
  PRIMARY KEY (issuer_id, shards, shard)
) WITHOUT ROWID;
`
