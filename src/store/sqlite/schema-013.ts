// Migration 13: templates of to-be-signed bytes. A certificate with a template has the public key alone in `tbs` (tbs-codec.ts); the rows of
// before have all of them there, and none.

export const schema013 = `
CREATE TABLE tbs_template (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL, places TEXT NOT NULL);
ALTER TABLE certificate ADD COLUMN template INTEGER;
`
