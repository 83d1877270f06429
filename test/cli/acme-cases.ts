// The commands about ACME, each once right and once wrong.
import type { Case } from './cases.ts'

export const acmeCases: Readonly<Record<string, Case>> = {
  'acme eab create': {
    good: 'acme eab create --service orders --dns orders.internal --dns orders.example --ip 192.0.2.7 --ttl 1h',
    asks: [
      [
        'acmeBindingsCreate',
        {
          kind: 'service',
          name: 'orders',
          dns: ['orders.internal', 'orders.example'],
          ip: ['192.0.2.7'],
          ttlSeconds: 3600,
        },
      ],
    ],
    shows: 'a-mac-key',
    wrong: 'acme eab create --dns orders.internal',
    wrongCode: 2,
    says: '--service NAME',
  },
  'acme eab list': {
    good: 'acme eab list --service orders',
    asks: [['acmeBindingsList']],
    shows: 'dns:orders.internal',
    wrong: 'acme eab list --operator ann',
    wrongCode: 2,
    says: "unknown option '--operator'",
  },
  'acme eab revoke': {
    good: 'acme eab revoke 0123456789abcdef0123456789abcdef --why lost',
    asks: [['acmeBindingsRevoke', { why: 'lost', dryRun: false }]],
    shows: 'revoked',
    wrong: 'acme eab revoke ghost',
    wrongCode: 3,
    says: 'agentca acme eab list',
  },
}
