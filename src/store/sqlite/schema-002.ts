// Migration 2: whom else a leaf of the audit log concerns beside its subject, so that it is found by them too. An index over what the
// leaves say: nothing of it is chained or signed.

export const schema002 = `
CREATE TABLE audit_leaf_also (subject INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (subject, idx)) WITHOUT ROWID;
`
