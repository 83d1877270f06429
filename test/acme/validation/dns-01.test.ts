import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { validate } from '../../../src/acme/validation/validate.ts'
import { type DnsAnswer, startDnsServer } from './dns-server.ts'
import { challengeOf, dns, ip, loopbackPolicy } from './probe-world.ts'

const challenge = challengeOf('dns-01', dns('agent.example'))
const digest = createHash('sha256').update(challenge.keyAuthorization).digest('base64url')

const answeredBy = async (answer: (name: string, type: string) => DnsAnswer, timeout = 30) => {
  await using server = await startDnsServer(answer)
  const result = await validate(challenge, loopbackPolicy({ resolvers: [server.address], timeout }))
  return { result, questions: server.questions }
}

const txt = (...values: readonly string[]) => values.map(value => ({ type: 'TXT' as const, value }))

describe('dns-01 (RFC 8555 §8.4)', () => {
  it('is satisfied by the digest in a TXT record of _acme-challenge, also beside others', async () => {
    expect((await answeredBy(() => txt(digest))).result).toEqual({ ok: true })
    const { result, questions } = await answeredBy(() => txt('v=spf1 -all', 'x'.repeat(600), digest))
    expect(result).toEqual({ ok: true })
    expect(questions).toEqual(['TXT _acme-challenge.agent.example'])
  })

  it('compares strictly, and repeats no record', async () => {
    for (const value of [`${digest} `, `${digest}=`, digest.toLowerCase(), challenge.keyAuthorization, 'kept-inside']) {
      const { result } = await answeredBy(() => txt(value))
      expect(result, value).toMatchObject({ ok: false, problem: { type: 'incorrectResponse' } })
      expect(JSON.stringify(result)).not.toContain(value)
    }
  })

  it('is a dns problem where the name, or its TXT record, does not exist, and where the server fails', async () => {
    for (const answer of ['NXDOMAIN', 'SERVFAIL', []] as const) {
      const { result } = await answeredBy(() => answer)
      expect(result, String(answer)).toMatchObject({ ok: false, problem: { type: 'dns' } })
    }
    const { result } = await answeredBy(() => 'silence', 1)
    expect(result).toEqual({ ok: false, problem: { type: 'dns', detail: 'agent.example: no result within 1 s' } })
  })

  it('follows aliases, whether the server or the CA does it, up to a bound', async () => {
    const inOne = await answeredBy(name => [
      { type: 'CNAME', value: 'x.example' },
      { name: 'x.example', type: 'TXT', value: name === 'x.example' ? '' : digest },
    ])
    expect(inOne.result).toEqual({ ok: true })

    const chain =
      (length: number) =>
      (name: string, type: string): DnsAnswer => {
        const at = name === '_acme-challenge.agent.example' ? 0 : Number(/^a([0-9]+)\.example$/.exec(name)?.[1])
        if (at < length) return type === 'CNAME' ? [{ type: 'CNAME', value: `a${at + 1}.example` }] : []
        return type === 'TXT' ? txt(digest) : []
      }
    expect((await answeredBy(chain(8))).result).toEqual({ ok: true })
    expect((await answeredBy(chain(9))).result).toMatchObject({
      problem: { type: 'dns', detail: expect.stringMatching(/more than 8 aliases/) },
    })
    expect((await answeredBy(chain(Number.POSITIVE_INFINITY))).result).toMatchObject({ problem: { type: 'dns' } })
  })

  it('is for names only (RFC 8738 §7)', async () => {
    expect(await validate(challengeOf('dns-01', ip('127.0.0.1')), loopbackPolicy())).toMatchObject({
      ok: false,
      problem: { type: 'malformed' },
    })
  })
})
