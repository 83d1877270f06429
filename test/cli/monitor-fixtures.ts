// What the test server answers about what agents do.
import { CaError } from '../../src/ca/errors.ts'
import type * as answers from '../../src/schema/monitor-answers.ts'
import type { Handlers } from './server.ts'

const at = '2026-11-24T12:00:00.000Z'

export const monitorStatus: answers.MonitorStatusAnswer = {
  rulesFile: 'ca-config/monitor.yaml',
  rules: 8,
  dry: 5,
  brake: { acted: 1, allowed: 2, windowSeconds: 3600, brakedAt: null },
  agents: 5,
  instances: 9,
  dropped: 0,
  unwritten: 0,
}

export const finding: answers.FindingAnswer = {
  id: 'f1f2',
  at,
  rule: 'exfiltration',
  when: 'rate',
  action: 'hold',
  on: 'instance',
  agent: 'billing',
  instance: 'a1b2',
  outcome: 'hold',
  evidence: { calls: 4000, limit: 300, windowSeconds: 60 },
  cure: 'agentca instance unlock a1b2',
}

const rates = { perMinute: 120, deniedPerMinute: 3, perSecond: 2 }

type Names =
  | 'activityShow'
  | 'activityTop'
  | 'monitorStatus'
  | 'monitorRules'
  | 'monitorFindings'
  | 'monitorReleaseBrake'

export const monitorFixtures: Pick<Handlers, Names> = {
  activityShow: ({ params, query }) => {
    if (params.name === 'ghost')
      throw new CaError('not_found', 'no agent is called ghost', { hint: 'agentca agent list' })
    const use = { service: 'orders', action: 'orders:read', resourceClass: '/orders/*', first: at, last: at }
    return { agent: params.name, since: query.since, uses: [{ ...use, allowed: 41, denied: 1 }] }
  },
  activityTop: () => ({
    at,
    total: rates,
    services: [{ service: 'orders', ...rates }],
    agents: [{ agent: 'billing', ...rates, instances: 2, services: ['orders'], lastSeen: at }],
    strangers: [{ source: '192.0.2.9', service: 'orders', calls: 7, first: at, last: at }],
  }),
  monitorStatus: () => monitorStatus,
  monitorRules: () => ({
    items: [
      {
        ...{ name: 'exfiltration', when: 'rate', action: 'hold', on: 'instance', dryRun: true },
        ...{ agents: ['*'], except: [], cooldownSeconds: 600, settings: { ceiling: 3000 } },
      },
    ],
    next: null,
  }),
  monitorFindings: () => ({ items: [finding], next: null }),
  monitorReleaseBrake: () => monitorStatus,
}
