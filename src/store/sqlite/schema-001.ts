// Migration 1: the whole ledger. Integers for enumerations (codes.ts), blobs for hashes and serials, a dictionary for repeated
// strings. Certificates are wide rows in a rowid table with narrow indexes: a new row is appended, never inserted in the middle.
// Times are milliseconds since the epoch. The numbers in partial indexes are codes.ts's.

export const schema001 = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

CREATE TABLE owner (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, created_at INTEGER NOT NULL
);

CREATE TABLE issuer (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, state INTEGER NOT NULL,
  certificate BLOB NOT NULL, parent_id INTEGER REFERENCES issuer(id), key_label TEXT, spki_hash BLOB NOT NULL,
  not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL,
  revision INTEGER NOT NULL DEFAULT 0, last_crl_number INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX issuer_key ON issuer(spki_hash);
CREATE UNIQUE INDEX issuer_one_active ON issuer(kind) WHERE kind = 1 AND state = 1;

CREATE TABLE registration (
  id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL, owner_id INTEGER REFERENCES owner(id),
  purpose TEXT NOT NULL, profile TEXT NOT NULL, roles TEXT NOT NULL, attributes TEXT NOT NULL, dns_names TEXT NOT NULL,
  instance_limit INTEGER, operator_role TEXT, until_at INTEGER, state INTEGER NOT NULL, version INTEGER NOT NULL,
  created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL,
  UNIQUE (kind, name)
);
CREATE INDEX registration_owner ON registration(owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX registration_end ON registration(kind, until_at) WHERE until_at IS NOT NULL AND state <> 2;

-- live_until: the latest notAfter of the certificates and intents that still count; 0 when there are none.
CREATE TABLE instance (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, registration_id INTEGER NOT NULL REFERENCES registration(id),
  state INTEGER NOT NULL, head INTEGER, lock_reason TEXT, recoveries TEXT, live_until INTEGER NOT NULL,
  created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL
);
CREATE INDEX instance_live ON instance(registration_id, live_until) WHERE state <> 2;
CREATE INDEX instance_locked ON instance(state) WHERE state <> 0;

CREATE TABLE token (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, hash BLOB NOT NULL UNIQUE,
  registration_id INTEGER NOT NULL REFERENCES registration(id), audience TEXT NOT NULL, uses INTEGER NOT NULL,
  uses_taken INTEGER NOT NULL, bound_key_hash BLOB, state INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL, created_by TEXT NOT NULL, revoked_at INTEGER
);
CREATE INDEX token_registration ON token(registration_id);
-- counted = 0: the use was given back (void); the row still says which lineage the key began.
CREATE TABLE token_use (
  token INTEGER NOT NULL REFERENCES token(seq), key_hash BLOB NOT NULL, certificate INTEGER NOT NULL,
  counted INTEGER NOT NULL, PRIMARY KEY (token, key_hash)
) WITHOUT ROWID;

CREATE TABLE certificate (
  row INTEGER PRIMARY KEY, serial BLOB NOT NULL, issuer_id INTEGER NOT NULL REFERENCES issuer(id), state INTEGER NOT NULL,
  kind INTEGER NOT NULL, registration_id INTEGER NOT NULL REFERENCES registration(id), registration_version INTEGER NOT NULL,
  instance INTEGER NOT NULL REFERENCES instance(seq), generation INTEGER NOT NULL, predecessor INTEGER, supersedes INTEGER,
  replaced INTEGER NOT NULL, profile INTEGER NOT NULL, profile_hash INTEGER NOT NULL, requester INTEGER NOT NULL, token INTEGER,
  epoch INTEGER NOT NULL, deadline INTEGER NOT NULL, created_at INTEGER NOT NULL, issued_at INTEGER,
  not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, revoked_at INTEGER, reason INTEGER, cause INTEGER,
  key_hash BLOB NOT NULL, tbs BLOB NOT NULL, signature BLOB NOT NULL
);
CREATE UNIQUE INDEX certificate_serial ON certificate(serial);
-- Eight octets are enough to find a key; the whole hash is compared in the row.
CREATE INDEX certificate_key ON certificate(substr(key_hash, 1, 8));
CREATE INDEX certificate_registration ON certificate(registration_id);
CREATE INDEX certificate_instance ON certificate(instance, not_after);
CREATE INDEX certificate_predecessor ON certificate(predecessor) WHERE predecessor IS NOT NULL;
CREATE INDEX certificate_token ON certificate(token) WHERE token IS NOT NULL AND predecessor IS NULL;
CREATE INDEX certificate_end ON certificate(not_after);
-- Everything that is not simply issued: intents in flight, held, revoked, orphaned, void.
CREATE INDEX certificate_state ON certificate(state, not_after) WHERE state <> 1;

-- What CRL and OCSP show, beyond issued. listed = 0: released from a hold, kept because its change has a revision.
CREATE TABLE revocation (
  issuer_id INTEGER NOT NULL, serial BLOB NOT NULL, listed INTEGER NOT NULL, reason INTEGER NOT NULL, cause INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL, not_after INTEGER NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (issuer_id, serial)
) WITHOUT ROWID;
CREATE UNIQUE INDEX revocation_revision ON revocation(issuer_id, revision);
CREATE TABLE revoked_key (key_hash BLOB PRIMARY KEY, reason INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE crl (
  issuer_id INTEGER NOT NULL REFERENCES issuer(id), number INTEGER NOT NULL, this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL, sha256 BLOB NOT NULL, entries INTEGER NOT NULL, der BLOB,
  PRIMARY KEY (issuer_id, number)
);

CREATE TABLE audit_leaf (
  idx INTEGER PRIMARY KEY, event INTEGER NOT NULL, at INTEGER NOT NULL, subject INTEGER, bytes BLOB NOT NULL, head BLOB NOT NULL
);
CREATE INDEX audit_leaf_subject ON audit_leaf(subject) WHERE subject IS NOT NULL;
-- The commonest events have the first words and are found without an index.
INSERT INTO word(id, text) VALUES (1, 'intent_recorded'), (2, 'certificate_issued'), (3, 'certificate_repeated');
CREATE INDEX audit_leaf_event ON audit_leaf(event) WHERE event > 3;
CREATE TABLE checkpoint (size INTEGER NOT NULL, at INTEGER NOT NULL, head BLOB NOT NULL, note TEXT NOT NULL, PRIMARY KEY (size, at)) WITHOUT ROWID;

CREATE TABLE feed (n INTEGER PRIMARY KEY, type TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL);
INSERT INTO counter(name, value) VALUES ('feed_n', 0), ('core_epoch', 0), ('feed_epoch', lower(hex(randomblob(8))));
`
