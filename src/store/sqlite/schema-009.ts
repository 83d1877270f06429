// Migration 9: evidence that nobody has claimed is found by its registration and its end: it is counted before more is admitted, and goes
// when it has ended. What is claimed leaves the index.

export const schema009 = `
CREATE INDEX token_unclaimed ON token(registration_id, expires_at) WHERE evidence IS NOT NULL AND uses_taken = 0;
`
