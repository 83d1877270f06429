// An operator is faster than the HSM: while a certificate is being signed, its agent is held or revoked. The signature comes, and the
// certificate is not released; also when the CA dies in between, and the signer has counted a signature that the ledger never saw.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { buildPkcs11Shim, type Pkcs11Shim } from '../signer/shim.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { checkInvariants, noEvidence, readLedger } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'
import { until } from './until.ts'

let shim: Pkcs11Shim
let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()
const repeated: string[] = []

const start = (): Promise<CaProcess> =>
  startCa(home, 'crash', {
    AGENTCA_HSM_URI: home.report.tokenUri.replace(/module-path=[^&]+/, `module-path=${shim.modulePath}`),
    AGENTCA_HSM_SOFTHSMCONF: home.report.confPath ?? '',
  })

beforeAll(async () => {
  shim = buildPkcs11Shim()
  // Longer than this test may hold a signature back on a busy machine.
  home = await createStoryHome({ AGENTCA_ISSUANCE_SIGNDEADLINE: '60s' })
  deps = { home, evidence, signal: ending.signal, retryMs: 100, onRetry: error => repeated.push(error.code) }
  party = createRelyingParty(home)
  ca = await start()
})
afterAll(async () => {
  ending.abort()
  shim?.set({})
  await ca?.stop()
  await party?.close()
  home?.remove()
  shim?.remove()
})

const joining = async (name: string): Promise<Member> => {
  await registerAgent(deps, name)
  const member = createMember(deps, name)
  member.join(await createToken(deps, name))
  return member
}

/** The serial of the only intent. */
const intentOf = (): string | null => {
  const found = readLedger(home.paths.database).certificates.filter(row => row.state === 'intent')
  return found.length === 1 ? found[0]!.serial : null
}

/**
 * What is signed ahead for the one before, its OCSP answer, is over: held in the middle, it would keep this signature from its turn, until
 * its client asks again.
 * @returns how many signatures there were
 */
const idle = async (ahead: string): Promise<number> => {
  // It is answered from memory, or signed here and now; then nobody signs it any more.
  expect(await party.ocsp(ahead)).toBe('good')
  let calls = -1
  await until('nothing is being signed', async () => {
    calls = shim.signCalls()
    const { sessions } = await home.admin.call('hsmStatus')
    return sessions.busy + sessions.queued === 0 && calls === shim.signCalls()
  })
  return calls
}

/** Begins to enrol, up to C_Sign, which does not return before the shim is told so. */
const enrolUpToSigning = async (name: string) => {
  // A signature of over 100 ms moves the signer's calls off its event loop: it stays responsive while one is held.
  shim.set({ sleep_ms: 150 })
  const first = await joining(`${name}-first`)
  expect(await first.act()).toBe('answered')
  const member = await joining(name)
  const calls = await idle(first.current()!.facts.serial)
  shim.set({ hold: 1 })
  const outcome = member.act()
  await until('the certificate is being signed', () => intentOf() !== null && shim.signCalls() > calls)
  repeated.length = 0
  return { outcome, serial: intentOf()! }
}

/** On a machine that stalls longer than a client waits, it asks again while the first request is still being signed. */
const expectNothingReleased = (): void => {
  expect(repeated.length).toBeGreaterThan(0)
  for (const code of repeated) expect(['not_released', 'issuance_in_progress', 'ca_unreachable']).toContain(code)
}

const stateOf = (serial: string) => readLedger(home.paths.database).bySerial.get(serial)
/** Each certificate here was signed once, and no signer died with its count. */
const check = async (): Promise<void> => {
  const { signatures } = await home.admin.call('hsmStatus')
  const { total } = signatures.find(each => each.key === 'issuing-1' && each.purpose === 'leaf')!
  expect(total).toBe(readLedger(home.paths.database).certificates.length)
  expect(await ca.reconcile()).toEqual([])
  expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
}

it('revoked while it is being signed: not released', { timeout: 180_000 }, async () => {
  const { outcome, serial } = await enrolUpToSigning('revoked')
  const { serials } = await revoke(deps, { by: 'agent', value: 'revoked' })
  expect(serials).toEqual([serial])
  shim.set({})
  // The token went with the agent.
  expect(await outcome).toEqual({ refused: 'token_revoked' })
  expectNothingReleased()
  expect(stateOf(serial)).toMatchObject({ state: 'revoked', issued_at: null })
  expect(await party.ocsp(serial)).toBe('revoked')
  await check()
})

it('held while it is being signed: not released, and nothing is used up', { timeout: 180_000 }, async () => {
  const { outcome, serial } = await enrolUpToSigning('held')
  await home.admin.call('agentsHold', { params: { name: 'held' }, body: {} })
  shim.set({})
  expect(await outcome).toEqual({ refused: 'registration_held' })
  expectNothingReleased()
  expect(stateOf(serial)).toMatchObject({ state: 'revoked', issued_at: null })
  expect(await party.ocsp(serial)).toBe('revoked')
  await check()
})

it('revoked while it is being signed, and the CA dies with the signature in its hands', {
  timeout: 180_000,
}, async () => {
  const { outcome, serial } = await enrolUpToSigning('both')
  await revoke(deps, { by: 'agent', value: 'both' })
  await ca.arm({ step: 'issuance 5', nth: 1, kill: 'core' })
  shim.set({})
  expect(await ca.ended).toEqual({ code: null, signal: 'SIGKILL' })
  ca = await start()
  expect(await outcome).toEqual({ refused: 'token_revoked' })
  expect(stateOf(serial)).toMatchObject({ state: 'revoked', issued_at: null })
  expect(await party.ocsp(serial)).toBe('revoked')
  await check()
})
