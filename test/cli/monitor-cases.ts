// The commands about what agents do, each once right and once wrong.
import type { Case } from './cases.ts'

export const monitorCases: Readonly<Record<string, Case>> = {
  activity: {
    good: 'activity billing --since 1h',
    asks: [['activityShow']],
    shows: 'orders:read',
    wrong: 'activity ghost',
    wrongCode: 3,
    says: 'agentca agent list',
  },
  top: {
    good: 'top --once --limit 5',
    asks: [['activityTop']],
    shows: '192.0.2.9',
    wrong: 'top --every often',
    wrongCode: 2,
    says: 'duration',
  },
  'monitor status': {
    good: 'monitor status',
    asks: [['monitorStatus']],
    shows: '1 of 2 agents',
    wrong: 'monitor status -o name',
    wrongCode: 2,
    says: 'table, json',
  },
  'monitor rules': {
    good: 'monitor rules',
    asks: [['monitorRules']],
    shows: 'exfiltration',
    wrong: 'monitor rules -o pem',
    wrongCode: 2,
    says: 'table, json',
  },
  'monitor findings': {
    good: 'monitor findings --agent billing -n 5',
    asks: [['monitorFindings']],
    shows: 'agentca instance unlock a1b2',
    wrong: 'monitor findings -n few',
    wrongCode: 2,
    says: 'whole number',
  },
  'monitor release-brake': {
    good: 'monitor release-brake --why looked --dry-run',
    asks: [['monitorReleaseBrake', { why: 'looked', dryRun: true }]],
    shows: '1 of 2 agents',
    wrong: 'monitor release-brake now',
    wrongCode: 2,
    says: 'argument',
  },
  'monitor test': {
    good: 'monitor test @monitor.yaml -o json',
    shows: '"deviations": 6',
    wrong: 'monitor test @rules-wrong.yaml',
    wrongCode: 2,
    says: 'rules.loud.action',
  },
}
