// Migration 4: versions of the policies, and the scopes that follow for each registration from the one in force. Files are kept whole:
// what was in force at any time can be read, and put in force again.

export const schema004 = `
CREATE TABLE policy_version (
  id INTEGER PRIMARY KEY, hash TEXT NOT NULL, files TEXT NOT NULL, author TEXT NOT NULL, why TEXT,
  created_at INTEGER NOT NULL, activated_at INTEGER NOT NULL, active INTEGER NOT NULL
);
CREATE UNIQUE INDEX policy_version_active ON policy_version(active) WHERE active = 1;
ALTER TABLE registration ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]';
`
