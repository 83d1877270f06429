// The commands about policies, each once right and once wrong.
import type { Case } from './cases.ts'
import { policyActions, policyText } from './policy-fixtures.ts'

const files = { 'actions.yaml': policyActions, 'orders.cedar': policyText }

export const policyCases: Readonly<Record<string, Case>> = {
  'policy check': {
    good: 'policy check policies -o json',
    shows: '[]',
    wrong: 'policy check bad-policies',
    wrongCode: 2,
    says: 'bad-policies/wrong.cedar:2: error: this policy is missing the `action`',
  },
  'policy test': {
    good: 'policy test policies',
    shows: 'result',
    wrong: 'policy test bad-policies',
    wrongCode: 2,
    says: 'agentca policy check',
  },
  'policy diff': {
    good: 'policy diff policies',
    asks: [['policiesPlan', { files }]],
    shows: 'agent billing  orders:read',
    wrong: 'policy diff nowhere',
    wrongCode: 2,
    says: 'no such file',
  },
  'policy apply': {
    good: 'policy apply policies --why first --dry-run',
    asks: [['policiesApply', { files, why: 'first', dryRun: true }]],
    shows: 'orders:read',
    wrong: 'policy apply profiles',
    wrongCode: 2,
    says: 'expected files *.cedar',
  },
  'policy rollback': {
    good: 'policy rollback',
    asks: [['policiesList'], ['policiesRollback', { version: 1, dryRun: false }]],
    shows: 'orders:read',
    wrong: 'policy rollback 9',
    wrongCode: 3,
    says: 'agentca policy list',
  },
  'policy list': {
    good: 'policy list -o name',
    asks: [['policiesList']],
    shows: '2\n1\n',
    wrong: 'policy list -o pem',
    wrongCode: 2,
    says: 'table, json',
  },
  'policy show': {
    good: 'policy show 2',
    asks: [['policiesShow']],
    shows: '// orders.cedar\n@id("readers")',
    wrong: 'policy show 9',
    wrongCode: 3,
    says: 'agentca policy list',
  },
  'policy explain': {
    good: 'policy explain billing orders:read Tool::search --context amount=5 --source 10.0.0.1',
    asks: [
      [
        'policiesExplain',
        {
          name: 'billing',
          action: 'orders:read',
          resource: { type: 'Tool', id: 'search', attributes: {} },
          context: { amount: 5 },
          source: '10.0.0.1',
        },
      ],
    ],
    shows: 'add role reader: agentca agent update billing --role reader',
    code: 5,
    wrong: 'policy explain ghost orders:read',
    wrongCode: 3,
    says: 'agentca agent list',
  },
  'policy suggest': {
    good: 'policy suggest billing --days 7',
    asks: [['policiesSuggest']],
    shows: '@id("readers")',
    wrong: 'policy suggest billing --days some',
    wrongCode: 2,
    says: 'whole number',
  },
  why: {
    good: 'why billing orders read',
    asks: [['why']],
    shows: 'policies 2 do not grant orders:read',
    code: 5,
    wrong: 'why ghost orders',
    wrongCode: 3,
    says: 'agentca agent list',
  },
}
