// Bad input at a CA whose callers come through fronts: the same requests, the same refusals, the same leaves.
process.env.AGENTCA_STORY_WORKERS = '2'
await import('./bad-input.test.ts')
