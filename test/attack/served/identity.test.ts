// Attacks on who somebody is, at a CA as it is served: tokens that are stolen or raced for, enrolments that are taken over, keys of
// others, serials that are guessed.
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodePem } from '../../../src/pki/pem.ts'
import { createKey, type Reply } from '../../http/harness.ts'
import { createRelyingParty } from '../../story/relying-party.ts'
import { type AttackedCa, startAttackedCa } from './attacked.ts'

let attacked: AttackedCa
beforeAll(async () => {
  attacked = await startAttackedCa({ AGENTCA_OCSP_NONCE: 'on' })
}, 180_000)
afterAll(async () => attacked?.[Symbol.asyncDispose]())

const verdict = ({ status, body }: Reply): string => (status < 300 ? String(status) : `${status} ${body.code}`)
const counted = (replies: readonly Reply[]): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {}
  for (const reply of replies) counts[verdict(reply)] = (counts[verdict(reply)] ?? 0) + 1
  return counts
}

describe('a join token', () => {
  it('for one use that a hundred use at once: exactly one wins', async () => {
    const token = await attacked.createToken('raced')
    const keys = await Promise.all(Array.from({ length: 100 }, () => createKey()))
    const replies = await Promise.all(keys.map(key => attacked.enrol(token, key.csrText)))
    expect(counted(replies)).toEqual({ 201: 1, '403 token_reuse': 99 })
    const winner = replies.find(({ status }) => status === 201)!.body
    const live = await attacked.operator.json<{ serial: string }[]>('cert list --agent raced --all')
    expect(live.map(({ serial }) => serial)).toEqual([winner.serial])
  })

  it('for three uses that forty use at once: exactly three win, each an instance of its own', async () => {
    const token = await attacked.createToken('raced-thrice', '--uses', '3')
    const keys = await Promise.all(Array.from({ length: 40 }, () => createKey()))
    const replies = await Promise.all(keys.map(key => attacked.enrol(token, key.csrText)))
    const won = replies.filter(({ status }) => status === 201)
    expect(new Set(won.map(({ body }) => body.instance)).size).toBe(3)
    expect(counted(replies)).toEqual({ 201: 3, '403 token_reuse': 37 })
  })

  it('that is stolen after its use is an alarm, and takes nothing from who used it', async () => {
    const token = await attacked.createToken('robbed')
    const key = await createKey()
    const { body } = await attacked.enrol(token, key.csrText)
    expect(verdict(await attacked.enrol(token, (await createKey()).csrText))).toBe('403 token_reuse')
    const again = await attacked.enrol(token, key.csrText)
    expect([again.status, again.body.serial]).toEqual([200, body.serial])
    const leaves = await attacked.operator.json<{ event: string; subject: string }[]>(
      'audit tail --event token_reuse -n 200',
    )
    expect(leaves.some(({ subject }) => subject === 'agent:robbed')).toBe(true)
    const shown = { cert: body.certificate as string, key: key.privateKey }
    expect((await attacked.call('/v1/self', { shown })).status).toBe(200)
  })

  it('that is bound to a key is of no use without it', async () => {
    const [owner, thief] = [await createKey(), await createKey()]
    const file = join(dirname(attacked.home.paths.home), 'bound.pem')
    writeFileSync(file, owner.publicKey.export({ type: 'spki', format: 'pem' }))
    const token = await attacked.createToken('bound', '--bind-key', file)
    expect(verdict(await attacked.enrol(token, thief.csrText))).toBe('403 token_reuse')
    expect((await attacked.enrol(token, owner.csrText)).status).toBe(201)
  })
})

describe('an enrolment', () => {
  it('with the key of somebody else, whose request was overheard, gives no second identity to that key', async () => {
    const victim = await createKey()
    expect((await attacked.enrol(await attacked.createToken('victim'), victim.csrText)).status).toBe(201)
    const token = await attacked.createToken('copycat')
    expect(verdict(await attacked.enrol(token, victim.csrText))).toMatch(/^4\d\d key_/)
    expect((await attacked.enrol(token, (await createKey()).csrText)).status).toBe(201)
  })

  it('under the names of others gives none of them: not by SPIFFE ID, host name, common name or kind', async () => {
    const uri = (value: string) => [{ kind: 'uri', value }] as const
    const names = [
      uri('spiffe://agentca.local/agent/victim'),
      uri('spiffe://agentca.local/operator/admin'),
      uri('spiffe://agentca.local/service/agentca'),
      uri('spiffe://other.example/agent/ambitious'),
      [{ kind: 'dns', value: 'ca.example' }] as const,
      [{ kind: 'ip', bytes: new Uint8Array([127, 0, 0, 1]) }] as const,
    ]
    const token = await attacked.createToken('ambitious')
    for (const each of names) {
      const reply = await attacked.enrol(token, (await createKey(each)).csrText)
      expect(verdict(reply), JSON.stringify(each)).toMatch(/^(?:403 name_not_granted|4\d\d \w+)$/)
    }
    const { body } = await attacked.enrol(token, (await createKey([], 'op-admin')).csrText)
    expect(body.spiffeId === undefined || body.spiffeId.startsWith('spiffe://agentca.local/agent/ambitious/i/')).toBe(
      true,
    )
  })

  it('that was interrupted is finished by nobody who lacks its token, whatever idempotency key they know', async () => {
    const key = await createKey()
    const idempotencyKey = 'known-to-all'
    expect(
      (await attacked.enrol(await attacked.createToken('interrupted'), key.csrText, { idempotencyKey })).status,
    ).toBe(201)
    const thief = await attacked.createToken('interrupting')
    const stolen = await attacked.enrol(thief, key.csrText, { idempotencyKey })
    expect(stolen.status).toBeGreaterThanOrEqual(400)
    expect(stolen.text).not.toContain('CERTIFICATE')
  })
})

describe('a serial', () => {
  it('is not guessed from another one: what lies beside it is unknown, and what is known tells nobody more', async () => {
    const { identity } = await attacked.enrolled('numbered')
    const party = createRelyingParty(attacked.home)
    try {
      expect(await party.ocsp(identity.serial)).toBe('good')
      const next = BigInt(`0x${identity.serial}`)
      for (let distance = -16n; distance <= 16n; distance++)
        if (distance !== 0n) {
          const guess = (next + distance).toString(16).padStart(identity.serial.length, '0')
          expect(await party.ocsp(guess)).toBe('unknown')
        }
    } finally {
      await party.close()
    }
    for (const path of [
      `/v1/admin/certificates/${identity.serial}`,
      `/v1/certificates/${identity.serial}`,
      `/acme/certificate/${identity.serial}`,
    ]) {
      const reply = await attacked.call(path)
      expect([401, 403, 404, 405]).toContain(reply.status)
      expect(reply.text).not.toContain('numbered')
    }
  })

  it('of two certificates at one moment differs in 64 random bits and more', async () => {
    const serials = await Promise.all(
      ['twin-a', 'twin-b', 'twin-c'].map(async name => (await attacked.enrolled(name)).identity.serial),
    )
    for (const one of serials)
      for (const other of serials)
        if (one !== other) {
          // One octet of the replica, five of the time, ten from the generator.
          const bits = BigInt(`0x${one.slice(12)}`) ^ BigInt(`0x${other.slice(12)}`)
          expect(bits.toString(2).replaceAll('0', '').length).toBeGreaterThan(15)
        }
  })
})

describe('what others wrote down', () => {
  it('is shown to no agent: nobody reads another’s registration, state or log by being somebody', async () => {
    const { identity } = await attacked.enrolled('secretive')
    const { shown } = await attacked.enrolled('nosy')
    for (const path of [
      '/v1/admin/agents/secretive',
      `/v1/admin/instances/${identity.instance}`,
      '/v1/admin/audit/leaves?from=0',
      '/v1/self?agent=secretive',
      `/v1/self?instance=${identity.instance}`,
    ]) {
      const reply = await attacked.call(path, { shown })
      expect(reply.text, path).not.toContain('secretive')
    }
  })
})

it('a certificate is no request, and a request for it no key', async () => {
  const { identity } = await attacked.enrolled('confused')
  const token = await attacked.createToken('confused-again')
  const der = Buffer.from(identity.certificate.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64')
  expect(verdict(await attacked.enrol(token, encodePem('CERTIFICATE REQUEST', der)))).toMatch(/^400 /)
})
