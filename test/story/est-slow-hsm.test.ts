// EST at a served CA whose HSM takes its time: the client is told to come back (RFC 7030 §4.2.3), and its request, sent again, gets the one
// certificate that was made meanwhile.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { toBase64 } from '../../src/base/bytes.ts'
import { type AgentKey, ask, createKey, type Reply } from '../http/harness.ts'
import { buildPkcs11Shim, type Pkcs11Shim } from '../signer/shim.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { until } from './until.ts'

let shim: Pkcs11Shim
let home: StoryHome
let ca: CaProcess
beforeAll(async () => {
  shim = buildPkcs11Shim()
  // Longer than a signature is held back here.
  home = await createStoryHome({ AGENTCA_ISSUANCE_SIGNDEADLINE: '60s' })
  ca = await startCa(home, 'serve', {
    AGENTCA_HSM_URI: home.report.tokenUri.replace(/module-path=[^&]+/, `module-path=${shim.modulePath}`),
    AGENTCA_HSM_SOFTHSMCONF: home.report.confPath ?? '',
  })
})
afterAll(async () => {
  shim?.set({})
  await ca?.stop()
  home?.remove()
  shim?.remove()
})

const tokenFor = async (name: string): Promise<string> => {
  await home.admin.call('agentsCreate', { body: { name, owner: 'network' } })
  const { token } = await home.admin.call('tokensCreate', { body: { kind: 'agent', name } })
  return token as string
}

const simpleenroll = ({ csr }: AgentKey, token: string): Promise<Reply> =>
  ask(Number(new URL(ca.line.api).port), '/.well-known/est/simpleenroll', {
    body: toBase64(csr),
    headers: {
      'Content-Type': 'application/pkcs10',
      Authorization: `Basic ${Buffer.from(`:${token}`).toString('base64')}`,
    },
  })

/** As a client does it, which is told when to come back. */
const enrolled = async (key: AgentKey, token: string): Promise<Reply> => {
  let reply = await simpleenroll(key, token)
  await until('the certificate', async () => {
    if (reply.status !== 202) return true
    reply = await simpleenroll(key, token)
    return false
  })
  return reply
}

it('answers 202 as long as the HSM signs, and with the certificate when the same request comes again', async () => {
  // A signature of over 100 ms moves the signer's calls off its event loop: it stays responsive while one is held.
  shim.set({ sleep_ms: 150 })
  expect((await enrolled(await createKey(), await tokenFor('first'))).status).toBe(200)
  const [key, token] = [await createKey(), await tokenFor('gateway')]
  shim.set({ hold: 1 })
  for (const attempt of ['begun', 'in work']) {
    const reply = await simpleenroll(key, token)
    expect([attempt, reply.status, Number(reply.headers['retry-after'])]).toEqual([attempt, 202, expect.any(Number)])
    expect(Number(reply.headers['retry-after'])).toBeGreaterThan(0)
  }
  shim.set({})
  const reply = await enrolled(key, token)
  expect([reply.status, reply.headers['content-type']]).toEqual([200, 'application/pkcs7-mime; smime-type=certs-only'])
  const { items } = await home.admin.call('certificatesList', { query: { kind: 'agent', name: 'gateway' } })
  expect(items.map(({ state }) => state)).toEqual(['issued'])
})
