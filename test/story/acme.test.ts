// ACME from end to end: a whole CA, made by init and run by serve, and the acme-client package as anybody would use it.
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import acme from 'acme-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ServedCa, startServedCa } from './served-ca.ts'

let ca: ServedCa

interface Binding {
  readonly kid: string
  readonly hmacKey: string
  readonly directory: string
  readonly names: readonly string[]
}

const clientOf = async (binding: Binding) =>
  new acme.Client({
    directoryUrl: binding.directory,
    accountKey: await acme.crypto.createPrivateEcdsaKey(),
    externalAccountBinding: { kid: binding.kid, hmacKey: binding.hmacKey },
  })

/** From an order to its certificate. */
const ordered = async (client: acme.Client, names: readonly string[]) => {
  const order = await client.createOrder({ identifiers: names.map(value => ({ type: 'dns', value })) })
  const [key, csr] = await acme.crypto.createCsr({ altNames: [...names] }, await acme.crypto.createPrivateEcdsaKey())
  const finalized = await client.finalizeOrder(order, csr)
  return { order: finalized, key, csr, pem: await client.getCertificate(finalized) }
}

beforeAll(async () => {
  ca = await startServedCa()
  const root = (await ca.agentca('bundle', 'show')).out
  acme.axios.defaults.httpsAgent = new (await import('node:https')).Agent({ ca: root, keepAlive: true })
  writeFileSync(join(ca.directory, 'ca.pem'), root)
}, 60_000)

afterAll(() => ca?.[Symbol.asyncDispose]())

describe('an ACME client', () => {
  it('becomes an instance of a service by its binding, and gets a certificate for granted names', async () => {
    await ca.agentcaJson('service', 'create', 'orders', '--dns', 'orders.internal')
    const binding = await ca.agentcaJson<Binding>(
      'acme',
      'eab',
      'create',
      '--service',
      'orders',
      '--dns',
      'orders.example',
    )
    const client = await clientOf(binding)
    const account = await client.createAccount({ contact: ['mailto:ops@example.org'] })
    expect(account.status).toBe('valid')

    const { order, pem } = await ordered(client, ['orders.internal', 'orders.example'])
    expect(order.status).toBe('valid')
    const [leaf = ''] = acme.crypto.splitPemChain(pem)
    const certificate = new X509Certificate(leaf)
    const instance = client.getAccountUrl().split('/').at(-1)
    expect(certificate.subjectAltName?.split(', ').sort()).toEqual([
      'DNS:orders.example',
      'DNS:orders.internal',
      'URI:spiffe://agentca.local/service/orders',
    ])
    expect(certificate.subject).toBe('CN=svc-orders')
    const [listed] = (await ca.agentcaJson<{ id: string; serial: string }[]>(
      'instance',
      'list',
      '--service',
      'orders',
    )) as [{ id: string; serial: string }]
    expect(listed).toMatchObject({ id: instance, serial: certificate.serialNumber.toLowerCase() })
    writeFileSync(join(ca.directory, 'chain.pem'), pem)
    expect(readFileSync(join(ca.directory, 'ca.pem'), 'utf8')).toContain('BEGIN CERTIFICATE')
  }, 60_000)
})
