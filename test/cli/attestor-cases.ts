// The commands about attestors and declarative files, each once right and once wrong, and what the test server answers.
import type { Case } from './cases.ts'
import type { Handlers } from './server.ts'

const at = '2026-11-24T12:00:00.000Z'

export const attestorFixtures: Pick<Handlers, 'attestorsList' | 'attestorsTest'> = {
  attestorsList: () => ({
    items: [
      {
        ...{ name: 'github', kind: 'jwt', state: 'stale', authority: 'https://token.actions.githubusercontent.com' },
        ...{ keys: 2, rules: 1, updatedAt: at, problem: 'expected status 200, got 503' },
      },
    ],
    next: null,
  }),
  attestorsTest: ({ body: { jwt } }) => ({
    ...{ attestor: 'github', issuer: 'https://issuer.test', audience: ['ca'], subject: 'job', expiresAt: at },
    ...(jwt === 'a.b.c'
      ? { problem: null, code: null, rule: 'main', becomes: 'agent ci-acme', missed: [] }
      : {
          problem: 'no rule matches',
          code: 'evidence_not_matched',
          rule: null,
          becomes: null,
          missed: ['rule 1: ref'],
        }),
  }),
}

export const attestorCases: Readonly<Record<string, Case>> = {
  apply: {
    good: 'apply -f @declared.yaml --set shop --dry-run',
    asks: [
      ['registrationsList'],
      ['registrationsList'],
      ['ownersList'],
      ['agentsCreate', { name: 'ci-acme', owner: 'finance', managedBy: 'shop', dryRun: true }],
    ],
    shows: 'create',
    wrong: 'apply --set shop',
    wrongCode: 2,
    says: '--file',
  },
  'attestor list': {
    good: 'attestor list',
    asks: [['attestorsList']],
    shows: 'stale',
    wrong: 'attestor list -o pem',
    wrongCode: 2,
    says: 'table, json, jsonl, name',
  },
  'attestor check': {
    good: 'attestor check @attestor-good.yaml',
    shows: 'https://issuer.test',
    wrong: 'attestor check @attestor-faulty.yaml',
    wrongCode: 2,
    says: 'algorithms.0',
  },
  'attestor test': {
    good: 'attestor test --jwt-file @job.jwt',
    asks: [['attestorsTest', { jwt: 'a.b.c' }]],
    shows: 'agent ci-acme',
    wrong: 'attestor test',
    wrongCode: 2,
    says: '--jwt-file',
  },
}
