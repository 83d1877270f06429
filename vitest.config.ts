// Two layers: `fast` runs on every change, under a minute on two cores; `all` adds what starts real processes: stories, commands,
// ceremonies, signers.
import { defineConfig } from 'vitest/config'

const startProcesses = [
  'test/story/**',
  'test/attack/served/**',
  'test/cli/**',
  'test/compat/**',
  'test/setup/**',
  'test/server/{init,ceremony}*.test.ts',
  'test/signer/{process,succession}.test.ts',
  'test/store/{crash,single-writer}.test.ts',
  'test/agent/{public-entry,enroll-command,credential-directory}.test.ts',
  'test/front/processes.test.ts',
  'test/events/rsyslog.test.ts',
  'test/testing/**',
  'test/fuzz/**',
]
/** Each takes longer than a folder of others: what is waited for, and every route with every kind of caller. */
const long = [
  'test/agent/{clients,identity,renew}.test.ts',
  'test/attack/{http2,units}.test.ts',
  'test/acme/validation/http-01.test.ts',
  'test/enrol/jwt.test.ts',
  'test/feed/ends.test.ts',
  'test/http/admin/operations.test.ts',
  'test/pki/crl.test.ts',
  'test/status/listener.test.ts',
  'test/store/policies.test.ts',
  'test/verifier/{verifier,decision-report,standing-answers}.test.ts',
  'test/verifier/{outside/thread,sidecar/lost-scopes}.test.ts',
  'test/feed/state-publisher.test.ts',
  'test/http/admin/authorize.test.ts',
  'test/ca/crl-publisher*.test.ts',
  'test/ca/crl-{entries,shards}.test.ts',
]
const slow = process.env.AGENTCA_TESTS === 'fast' ? [...startProcesses, ...long] : []

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: slow,
    pool: 'forks',
    maxWorkers: 2,
    // Of what has failed: machines may have thirty times more to do than they can.
    testTimeout: 120_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 90_000, interval: 20 } },
  },
})
