// What the test server answers about ACME.
import { CaError } from '../../src/ca/errors.ts'
import type { AcmeBindingAnswer } from '../../src/schema/acme-api.ts'
import type { Handlers } from './server.ts'

const at = '2026-11-24T12:00:00.000Z'
const kid = '0123456789abcdef0123456789abcdef'

const binding: AcmeBindingAnswer = {
  kid,
  state: 'active',
  kind: 'service',
  name: 'orders',
  names: ['dns:orders.internal'],
  instance: null,
  expiresAt: at,
  createdAt: at,
  createdBy: 'operator:ann',
}

export const acmeFixtures: Pick<Handlers, 'acmeBindingsCreate' | 'acmeBindingsList' | 'acmeBindingsRevoke'> = {
  acmeBindingsCreate: ({ body: { kind, name, dns, dryRun } }) => ({
    kid,
    hmacKey: dryRun ? '' : 'a-mac-key',
    expiresAt: at,
    subject: { kind, name },
    names: dns.map(each => `dns:${each}`),
    directory: 'https://127.0.0.1:8443/acme/directory',
  }),
  acmeBindingsList: () => ({ items: [binding], next: null }),
  acmeBindingsRevoke: ({ params }) => {
    if (params.kid === kid) return { ...binding, state: 'revoked' }
    throw new CaError('not_found', `no external account binding has kid ${params.kid}`, {
      hint: 'agentca acme eab list',
    })
  },
}
