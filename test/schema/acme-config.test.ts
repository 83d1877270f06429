import { describe, expect, it } from 'vitest'
import { ipNetworkText } from '../../src/pki/ip-networks.ts'
import { parseConfig } from '../../src/schema/config.ts'
import { SchemaError } from '../../src/schema/errors.ts'

const parsed = (text: string, env: Readonly<Record<string, string>> = {}) =>
  parseConfig({ text, source: 'agentca.yaml', env }).acme.validation

describe('acme.validation', () => {
  it('allows no address until the operator names networks', () => {
    expect(parsed('')).toEqual({ allowedNetworks: [], resolvers: [], httpPort: 80, tlsPort: 443, timeout: 10 })
  })

  it('is a list in the file, or text with commas in the environment', () => {
    const file = parsed(
      'acme: { validation: { allowedNetworks: [10.0.0.0/8, "fd00::/8"], resolvers: ["[fd00::53]:53"] } }',
    )
    expect(file.allowedNetworks.map(ipNetworkText)).toEqual(['10.0.0.0/8', 'fd00::/8'])
    expect(file.resolvers).toEqual(['[fd00::53]:53'])
    const env = parsed('', {
      AGENTCA_ACME_VALIDATION_ALLOWED_NETWORKS: '10.0.0.0/8, 192.0.2.1',
      AGENTCA_ACME_VALIDATION_RESOLVERS: '10.0.0.53:5353,fd00::53',
      AGENTCA_ACME_VALIDATION_HTTPPORT: '8080',
    })
    expect(env.allowedNetworks.map(ipNetworkText)).toEqual(['10.0.0.0/8', '192.0.2.1/32'])
    expect(env.resolvers).toEqual(['10.0.0.53:5353', 'fd00::53'])
    expect(env.httpPort).toBe(8080)
  })

  it('names what is no network and no DNS server', () => {
    const text =
      'acme: { validation: { allowedNetworks: [10.0.0.1/8, internal], resolvers: [dns.example, "10.0.0.53:0"], tlsPort: 0 } }'
    expect(() => parsed(text)).toThrow(SchemaError)
    try {
      parsed(text)
    } catch (error) {
      const { message } = error as SchemaError
      for (const wrong of ['10.0.0.1/8', 'internal', 'dns.example', '10.0.0.53:0', 'tlsPort'])
        expect(message).toContain(wrong)
    }
  })
})
