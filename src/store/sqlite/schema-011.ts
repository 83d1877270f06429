// Migration 11: owners belong to declarative sets, and one whom nothing is registered to can be removed. The row of one who was removed stays,
// for retired registrations name it.

export const schema011 = `
ALTER TABLE owner ADD COLUMN managed_by TEXT;
ALTER TABLE owner ADD COLUMN removed_at INTEGER;
`
