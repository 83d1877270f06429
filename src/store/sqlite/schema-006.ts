// Migration 6: ACME. An account is an instance, and its row has the instance's number; every key that was ever an account's is remembered,
// because no certificate may have it. An order is one row: its authorizations and challenges are JSON inside, changed with it.

export const schema006 = `
ALTER TABLE instance ADD COLUMN closed_at INTEGER;
CREATE TABLE acme_binding (
  seq INTEGER PRIMARY KEY, kid TEXT NOT NULL UNIQUE, registration_id INTEGER NOT NULL REFERENCES registration(id),
  sealed_key BLOB NOT NULL, names TEXT NOT NULL, state INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL, created_by TEXT NOT NULL, revoked_at INTEGER, account INTEGER
);
CREATE INDEX acme_binding_registration ON acme_binding(registration_id);
CREATE TABLE acme_account (
  instance INTEGER PRIMARY KEY REFERENCES instance(seq), kid TEXT, thumbprint TEXT NOT NULL UNIQUE, jwk TEXT NOT NULL,
  contacts TEXT NOT NULL, names TEXT NOT NULL, created_at INTEGER NOT NULL, deactivated_at INTEGER
);
CREATE TABLE acme_key (key_hash BLOB PRIMARY KEY, account INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE acme_order (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account INTEGER NOT NULL REFERENCES acme_account(instance),
  profile TEXT NOT NULL, authorizations TEXT NOT NULL, not_before INTEGER, not_after INTEGER, replaces BLOB,
  certificate BLOB, error TEXT, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL
);
CREATE INDEX acme_order_account ON acme_order(account, seq);
CREATE INDEX acme_order_open ON acme_order(account, expires_at) WHERE certificate IS NULL AND error IS NULL;
CREATE INDEX acme_order_end ON acme_order(expires_at);
CREATE UNIQUE INDEX acme_order_replaces ON acme_order(replaces) WHERE replaces IS NOT NULL AND error IS NULL;
`
