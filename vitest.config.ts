// Two layers: `fast` runs on every change (seconds); `all` adds the stories, which start real processes.
import { defineConfig } from 'vitest/config'

const slow = process.env.AGENTCA_TESTS === 'fast' ? ['test/story/**', 'test/cli/**', 'test/setup/**'] : []

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: slow,
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
