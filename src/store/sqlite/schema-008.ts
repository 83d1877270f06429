// Migration 8: what nobody looks for is not kept sorted: certificates are found by their token through its uses.

export const schema008 = `
DROP INDEX certificate_token;
`
