// `agentca serve` is asked to end by SIGTERM while certificates are being signed: what was taken on is answered, nothing new is taken,
// the exit code is 0, and the next start serves at once.
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { buildPkcs11Shim, type Pkcs11Shim } from '../signer/shim.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent } from './fleet.ts'
import { checkInvariants, noEvidence, readLedger } from './invariants.ts'
import { until } from './until.ts'

const agents = 20

let shim: Pkcs11Shim
let home: StoryHome
let ca: CaProcess
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()
const repeated: string[] = []

beforeAll(async () => {
  shim = buildPkcs11Shim()
  // Longer than this test may hold a signature back on a busy machine.
  home = await createStoryHome({ AGENTCA_ISSUANCE_SIGNDEADLINE: '60s' })
  deps = { home, evidence, signal: ending.signal, retryMs: 100, onRetry: error => repeated.push(error.code) }
  ca = await startCa(home, 'serve', {
    AGENTCA_HSM_URI: home.report.tokenUri.replace(/module-path=[^&]+/, `module-path=${shim.modulePath}`),
    AGENTCA_HSM_SOFTHSMCONF: home.report.confPath ?? '',
  })
})
afterAll(async () => {
  ending.abort()
  shim?.set({})
  await ca?.stop()
  home?.remove()
  shim?.remove()
})

const enrolling = async (name: string): Promise<Member> => {
  await registerAgent(deps, name)
  const member = createMember(deps, name)
  member.join(await createToken(deps, name))
  return member
}

/** What happens to somebody who comes now. */
const knock = (url: string): Promise<string> =>
  new Promise(resolve => {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    socket.once('connect', () => {
      socket.destroy()
      resolve('taken')
    })
    socket.once('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
  })

const recorded = (): number =>
  readLedger(home.paths.database).leaves.filter(leaf => leaf.event === 'intent_recorded').length

it('answers what it took on, takes nothing new, ends with 0 and comes back', { timeout: 180_000 }, async () => {
  const members = await Promise.all(Array.from({ length: agents }, (_, i) => enrolling(`draining-${i}`)))
  const { api, status } = home.report.urls
  expect([await knock(api), await knock(status)]).toEqual(['taken', 'taken'])
  // A signature of over 100 ms moves the signer's calls off its event loop: it stays responsive while they are held.
  const first = await enrolling('first')
  shim.set({ sleep_ms: 150 })
  expect(await first.act()).toBe('answered')

  shim.set({ hold: 1 })
  const before = recorded()
  let answered = 0
  const acting = Promise.all(members.map(member => member.act().finally(() => answered++)))
  await until('every request was taken on', () => recorded() === before + agents)
  ca.child.kill('SIGTERM')
  for (const url of [api, status]) await until('nobody is taken in', async () => (await knock(url)) === 'ECONNREFUSED')
  expect(answered).toBe(0)
  shim.set({})
  expect(await acting).toEqual(members.map(() => 'answered'))
  // On the first attempt each, although nobody else was let in any more.
  expect(repeated).toEqual([])
  expect(await ca.ended).toEqual({ code: 0, signal: null })
  const ledger = readLedger(home.paths.database)
  expect(ledger.leaves.at(-1)?.event).toBe('core_stopped')
  expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])

  ca = await startCa(home, 'serve')
  expect(await Promise.all(members.map(member => member.act()))).toEqual(members.map(() => 'answered'))
  expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
})
