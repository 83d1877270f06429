// Migration 15: templates of to-be-signed bytes are found by what they hold. There are some thousands at most: the octets themselves are
// as good a key as a hash, and the templates of before have them.

export const schema015 = `
CREATE INDEX tbs_template_bytes ON tbs_template(bytes);
`
