// Migration 7: policies come into force in steps. While they do, the version says up to which registration scopes follow from it already;
// null: it is in force, or not.

export const schema007 = `
ALTER TABLE policy_version ADD COLUMN rolled_to INTEGER;
CREATE UNIQUE INDEX policy_version_rolling ON policy_version((1)) WHERE rolled_to IS NOT NULL;
`
