// Migration 5: evidence that others vouch for, the key that a registration is bound to, and the set of a declarative file it belongs to.
// What was admitted by an attestor is kept as a token of one use, with whom it came from: one-time use and the claim of the first key
// are then the ledger's, as for join tokens, and outlive a restart.

export const schema005 = `
ALTER TABLE token ADD COLUMN evidence TEXT;
ALTER TABLE registration ADD COLUMN bound_key_hash BLOB;
ALTER TABLE registration ADD COLUMN managed_by TEXT;
`
